package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"k8s.io/klog/v2"
)

// sysctl sets what the rules need of the kernel.
type sysctl interface {
	// allowLoopback makes node ports and host ports work on 127.0.0.1. The rule that
	// guards loopback addresses must be in force.
	allowLoopback(ctx context.Context, pods netip.Prefix) error
}

// kernelSysctl writes to /proc/sys.
type kernelSysctl struct{}

// allowLoopback implements sysctl. It turns route_localnet on for the interfaces that
// have an address in the Pod range, that is the Pod bridge, and not for all as
// kube-proxy does: the setting is gone with the bridge, and other wires stay closed.
func (kernelSysctl) allowLoopback(ctx context.Context, pods netip.Prefix) error {
	if !pods.IsValid() {
		return nil
	}
	names, err := interfacesIn(pods)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join("/proc/sys/net/ipv4/conf", name, "route_localnet")
		now, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("allowing node ports on 127.0.0.1: %w", err)
		}
		if bytes.Equal(bytes.TrimSpace(now), []byte("1")) {
			continue
		}
		if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
			return fmt.Errorf("allowing node ports on 127.0.0.1: %w", err)
		}
		klog.FromContext(ctx).V(2).Info("Allowed node ports on 127.0.0.1", "interface", name)
	}
	return nil
}

func interfacesIn(pods netip.Prefix) ([]string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	var names []string
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue // the interface went away
		}
		for _, a := range addresses {
			ipnet, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			if ip, ok := netip.AddrFromSlice(ipnet.IP); ok && pods.Contains(ip.Unmap()) {
				names = append(names, i.Name)
				break
			}
		}
	}
	return names, nil
}
