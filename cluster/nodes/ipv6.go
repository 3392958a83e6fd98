package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Second is the address at the place in network6 that a has in network.
func Second(network, network6 netip.Prefix, a netip.Addr) netip.Addr {
	first, of := network.Masked().Addr().As4(), a.As4()
	b, carry := network6.Masked().Addr().As16(), 0
	for i := 3; i >= 0; i-- {
		offset := int(of[i]) - int(first[i]) + carry
		carry = 0
		if offset < 0 {
			offset, carry = offset+256, -1
		}
		b[12+i] |= byte(offset)
	}
	return netip.AddrFrom16(b)
}

// checkIPv6 refuses IPv6 addresses of nodes on a machine whose kernel has none.
func checkIPv6(network6 netip.Prefix) error {
	if _, err := os.Stat("/proc/net/if_inet6"); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("nodes shall have addresses in %s, and this machine's kernel has IPv6 switched off: switch it on, or start the cluster with IPv4 ranges alone", network6)
	}
	return nil
}

// forwardIPv6 makes this machine a router for IPv6; conf is the kernel's folder of
// settings by interface. A router ignores what other routers announce unless told
// otherwise, so interfaces that listened to them go on listening.
func forwardIPv6(conf string) error {
	forwarding := filepath.Join(conf, "all", "forwarding")
	if now, err := os.ReadFile(forwarding); err != nil || strings.TrimSpace(string(now)) == "1" {
		return err
	}
	interfaces, err := os.ReadDir(conf)
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		setting := filepath.Join(conf, i.Name(), "accept_ra")
		value, err := os.ReadFile(setting)
		if err == nil && strings.TrimSpace(string(value)) == "1" {
			err = os.WriteFile(setting, []byte("2"), 0)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // an interface may go meanwhile
			return err
		}
	}
	return os.WriteFile(forwarding, []byte("1"), 0)
}
