package netlinkx

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// handle works in the network namespace of the thread that calls it: each request
// opens its own socket, so that no request waits for another's in user space.
type handle struct{}

// kernel adds the namespaces.
type kernel struct{ handle }

// New returns the kernel of the process's own network namespace.
func New() Kernel { return kernel{} }

// maxAttempts bounds the repetition of interrupted calls; a dump is interrupted when
// the table changed while it was read.
const maxAttempts = 32

func retry[T any](f func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		v, err := f()
		interrupted := errors.Is(err, unix.EINTR) || errors.Is(err, netlink.ErrDumpInterrupted)
		if !interrupted || attempt == maxAttempts {
			return v, err
		}
	}
}

func retryErr(f func() error) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// wrap says what was tried, and maps the kernel's numbers for "no such" and "there
// already" to this package's errors.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	var noLink netlink.LinkNotFoundError
	switch {
	case errors.As(err, &noLink), errors.Is(err, unix.ENODEV), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%s: %w", what, ErrExists)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (handle) Link(name string) (Link, error) {
	l, err := retry(func() (netlink.Link, error) { return netlink.LinkByName(name) })
	if err != nil {
		return Link{}, wrap(err, "interface %s", name)
	}
	return fromLink(l), nil
}

func (handle) Links() ([]Link, error) {
	list, err := retry(netlink.LinkList)
	if err != nil {
		return nil, wrap(err, "listing interfaces")
	}
	links := make([]Link, 0, len(list))
	for _, l := range list {
		links = append(links, fromLink(l))
	}
	return links, nil
}

func fromLink(l netlink.Link) Link {
	a := l.Attrs()
	return Link{Index: a.Index, Name: a.Name, Kind: l.Type(), Peer: a.ParentIndex, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0}
}

func (handle) AddBridge(b Bridge) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.Name, b.MTU, b.MAC
	err := retryErr(func() error { return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}) })
	return wrap(err, "making bridge %s", b.Name)
}

func (handle) AddVeth(v Veth) error {
	ns, err := os.Open(v.PeerNS)
	if err != nil {
		return wrap(err, "making veth pair %s: network namespace %s", v.Name, v.PeerNS)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = v.Name, v.MTU, v.MAC
	err = retryErr(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs,
			PeerName:  v.PeerName, PeerHardwareAddr: v.PeerMAC, PeerMTU: uint32(v.MTU),
			PeerNamespace: netlink.NsFd(ns.Fd()),
		})
	})
	return wrap(errors.Join(err, ns.Close()), "making veth pair %s in %s", v.Name, v.PeerNS)
}

func (h handle) DeleteLink(name string) error {
	l, err := h.Link(name)
	if err != nil {
		return err
	}
	return wrap(retryErr(func() error { return netlink.LinkDel(byIndex(l.Index)) }), "deleting interface %s", name)
}

func (handle) SetUp(index int) error {
	return wrap(retryErr(func() error { return netlink.LinkSetUp(byIndex(index)) }), "setting interface %d up", index)
}

func (handle) SetMTU(index, mtu int) error {
	return wrap(retryErr(func() error { return netlink.LinkSetMTU(byIndex(index), mtu) }), "setting the MTU of interface %d to %d", index, mtu)
}

func (handle) Activate(name string) error {
	// On newer kernels the question itself completes a change of carrier.
	l, err := retry(func() (netlink.Link, error) { return netlink.LinkByName(name) })
	if err != nil {
		return wrap(err, "interface %s", name)
	}
	if l.Attrs().OperState == netlink.OperUp {
		return nil
	}
	return replaceQueue(l.Attrs().Index)
}

// replaceQueue gives the interface the queue that virtual interfaces have anyway; a
// new queue is started at once.
func replaceQueue(index int) error {
	queue := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_ROOT},
		QdiscType:  "noqueue",
	}
	return wrap(retryErr(func() error { return netlink.QdiscReplace(queue) }), "starting the queue of interface %d", index)
}

func byIndex(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

func (handle) SetSysctl(name, value string) error {
	path := filepath.Join("/proc/sys", name)
	current, err := os.ReadFile(path)
	if err != nil {
		return wrap(err, "setting %s", name)
	}
	if strings.TrimSpace(string(current)) == value {
		return nil
	}
	return wrap(os.WriteFile(path, []byte(value), 0), "setting %s to %s", name, value)
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func fromIPNet(n *net.IPNet) netip.Prefix {
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones)
}

func fromIP(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
