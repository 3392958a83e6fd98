package heldaddr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Tell lets the neighbours know that this machine has addr now: by a gratuitous ARP
// (RFC 5227, section 3) or an unsolicited neighbour advertisement (RFC 4861, section
// 7.2.6). Those that knew another machine by it turn to this one.
func (h Holder) Tell(addr netip.Addr) error {
	link, err := h.link(addr)
	if err != nil {
		return fmt.Errorf("announce %s: %w", addr, err)
	}
	attrs := link.Attrs()
	if len(attrs.HardwareAddr) != 6 {
		return nil // loopback or a tunnel: nobody asks for hardware addresses there
	}
	if addr.Is4() {
		err = sendARP(attrs.Index, attrs.HardwareAddr, addr)
	} else {
		err = sendAdvertisement(attrs.Index, attrs.HardwareAddr, addr)
	}
	if err != nil {
		return fmt.Errorf("announce %s on interface %s: %w", addr, attrs.Name, err)
	}
	return nil
}

// renderARP is a request of addr for itself.
func renderARP(mac net.HardwareAddr, addr netip.Addr) []byte {
	packet := binary.BigEndian.AppendUint16(nil, 1) // Ethernet
	packet = binary.BigEndian.AppendUint16(packet, unix.ETH_P_IP)
	packet = append(packet, 6, 4)
	packet = binary.BigEndian.AppendUint16(packet, 1) // request
	packet = append(append(packet, mac...), addr.AsSlice()...)
	return append(append(packet, make([]byte, 6)...), addr.AsSlice()...)
}

func sendARP(index int, mac net.HardwareAddr, addr netip.Addr) (err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	return unix.Sendto(fd, renderARP(mac, addr), 0, to)
}

// networkOrder is htons.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// renderAdvertisement is an ICMPv6 message whose checksum the kernel fills in.
func renderAdvertisement(mac net.HardwareAddr, addr netip.Addr) []byte {
	const (
		advertisement = 136
		override      = 0x20 // of what the neighbours know
		targetLink    = 2    // option: target link-layer address, of 8 bytes
	)
	message := append([]byte{advertisement, 0, 0, 0, override, 0, 0, 0}, addr.AsSlice()...)
	return append(append(message, targetLink, 1), mac...)
}

func sendAdvertisement(index int, mac net.HardwareAddr, addr netip.Addr) (err error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("open a socket of ICMPv6: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	// Neighbours believe only what no router has passed on.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
		return fmt.Errorf("set the hop limit: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index); err != nil {
		return fmt.Errorf("choose the interface: %w", err)
	}
	to := &unix.SockaddrInet6{ZoneId: uint32(index), Addr: netip.IPv6LinkLocalAllNodes().As16()}
	return unix.Sendto(fd, renderAdvertisement(mac, addr), 0, to)
}
