// Package addresses tells which addresses this machine has and when that changes. It
// changes nothing and keeps nothing: whoever starts again lists them again.
package addresses

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// List returns the addresses of all interfaces.
func List() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	var list []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p.Addr().Unmap())
		}
	}
	return list, nil
}

// Follow calls changed once it would miss nothing, and whenever addresses come or go,
// until ctx ends. It returns an error when the kernel's messages were lost.
func Follow(ctx context.Context, changed func()) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	updates := make(chan netlink.AddrUpdate)
	if err := netlink.AddrSubscribe(updates, ctx.Done()); err != nil {
		return fmt.Errorf("follow the addresses of this machine: %w", err)
	}
	changed()
	for range updates {
		changed()
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("follow the addresses of this machine: the kernel's messages were lost")
}
