package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/ipam"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// Configure makes the host ready for Pods of the given ranges, at most one of each
// family and one of IPv4, and reads back what an earlier process left. It may be repeated: it repairs what is missing and changes
// nothing else. It fails when the machine uses one of the ranges for something else,
// and when the node's range is another than the one that its Pods have.
func (n *Network) Configure(ctx context.Context, podCIDRs ranges.List) error {
	n.configuring.Lock()
	defer n.configuring.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := errors.Join(n.cfg.Validate(), checkPodCIDRs(n.cfg, podCIDRs)); err != nil {
		return fmt.Errorf("configuring the Pod network: %w", err)
	}
	before, err := n.snapshot()
	if err != nil {
		return fmt.Errorf("configuring the Pod network: %w", err)
	}
	if err := checkConflicts(n.cfg, before); err != nil {
		return fmt.Errorf("configuring the Pod network: %w", err)
	}
	mtu, err := chooseMTU(n.cfg, before)
	if err != nil {
		return fmt.Errorf("configuring the Pod network: %w", err)
	}
	leases, err := n.openLeases(ctx, podCIDRs)
	if err != nil {
		return fmt.Errorf("configuring the Pod network: %w", err)
	}
	next := &configured{ranges: podCIDRs, mtu: mtu, ipam: leases}
	if err := n.applyHost(ctx, next); err != nil {
		return fmt.Errorf("configuring the Pod network: %w", err)
	}
	if err := n.adoptLeases(ctx, leases, podAddresses(before)); err != nil {
		return fmt.Errorf("configuring the Pod network: %w", err)
	}
	n.current.Store(next)
	return nil
}

func (n *Network) snapshot() (s hostSnapshot, err error) {
	if s.links, err = n.kernel.Links(); err != nil {
		return s, err
	}
	if s.addrs, err = n.kernel.Addrs(); err != nil {
		return s, err
	}
	s.routes, err = n.kernel.Routes()
	return s, err
}

// openLeases reads the leases on disk, or returns those in use.
func (n *Network) openLeases(ctx context.Context, podCIDRs ranges.List) (*ipam.IPAM, error) {
	log := klog.FromContext(ctx)
	if c := n.current.Load(); c != nil {
		if !slices.Equal(c.ranges, podCIDRs) {
			return nil, fmt.Errorf("spec.podCIDR changed from %s to %s: drain the node and restart its agent", c.ranges, podCIDRs)
		}
		return c.ipam, nil
	}
	leases, foreign, problems, err := ipam.Open(n.leaseDir(), podCIDRs, n.clock)
	for _, problem := range problems {
		log.Error(problem, "Address lease is unreadable and was set aside")
	}
	if err != nil {
		return nil, err
	}
	names, err := n.kernel.ListNamespaces(n.cfg.NetNSDir)
	if err != nil {
		return nil, err
	}
	for _, l := range foreign {
		if slices.Contains(names, string(l.UID)) {
			return nil, fmt.Errorf("spec.podCIDR is %s but Pod %s/%s (%s) runs with address %s: give the node its former range back, or drain it with that range",
				podCIDRs, l.Namespace, l.Name, l.UID, l.IP)
		}
		log.Info("Discarding the lease of an address outside the node's range: its Pod is gone", "ips", l.IPs(), "podUID", l.UID, "podCIDRs", podCIDRs.Strings())
		if err := leases.Discard(l); err != nil {
			return nil, err
		}
	}
	return leases, nil
}

// applyHost makes bridge, addresses and routes.
func (n *Network) applyHost(ctx context.Context, c *configured) error {
	bridge, err := n.ensureBridge(c)
	if err != nil {
		return err
	}
	now, err := n.snapshot()
	if err != nil {
		return err
	}
	plan := planHost(n.cfg, c.ranges, bridge.Index, now)
	for _, a := range plan.setAddrs {
		if err := n.kernel.ReplaceAddr(a); err != nil {
			return err
		}
	}
	for _, a := range plan.deleteAddrs {
		if err := n.kernel.DeleteAddr(a); err != nil {
			return err
		}
	}
	for _, r := range plan.setRoutes {
		if err := n.kernel.ReplaceRoute(r); err != nil {
			return err
		}
	}
	for _, r := range plan.deleteRoutes {
		if err := n.kernel.DeleteRoute(r); err != nil {
			return err
		}
	}
	if len(plan.setAddrs)+len(plan.deleteAddrs)+len(plan.setRoutes)+len(plan.deleteRoutes) > 0 {
		klog.FromContext(ctx).V(2).Info("Configured the Pod network of the host", "bridge", n.cfg.BridgeName,
			"podCIDRs", c.ranges.Strings(), "mtu", c.mtu, "routesSet", len(plan.setRoutes), "routesDeleted", len(plan.deleteRoutes))
	}
	if err := n.kernel.SetSysctl("net/ipv4/ip_forward", "1"); err != nil || !c.ranges.V6().IsValid() {
		return err
	}
	return n.forwardIPv6(now)
}

// forwardIPv6 makes the machine a router for IPv6. A router ignores what other routers
// announce, unless told otherwise: who had its default route from there keeps it.
func (n *Network) forwardIPv6(s hostSnapshot) error {
	const forwarding = "net/ipv6/conf/all/forwarding"
	if now, err := n.kernel.Sysctl(forwarding); err != nil && !errors.Is(err, netlinkx.ErrNotFound) || now == "1" {
		return err
	}
	for _, l := range s.links {
		setting := "net/ipv6/conf/" + l.Name + "/accept_ra"
		value, err := n.kernel.Sysctl(setting)
		if errors.Is(err, netlinkx.ErrNotFound) {
			continue // without IPv6, or gone
		}
		if err == nil && value == "1" {
			err = setIfKnown(n.kernel, setting, "2")
		}
		if err != nil {
			return err
		}
	}
	return n.kernel.SetSysctl(forwarding, "1")
}

func (n *Network) ensureBridge(c *configured) (netlinkx.Link, error) {
	bridge, err := n.kernel.Link(n.cfg.BridgeName)
	if errors.Is(err, netlinkx.ErrNotFound) {
		mac := net.HardwareAddr{0x0a, 0x4b, 0, 0, 0, 0x02}
		if err := n.kernel.AddBridge(netlinkx.Bridge{Name: n.cfg.BridgeName, MTU: c.mtu, MAC: mac}); err != nil {
			return bridge, err
		}
		bridge, err = n.kernel.Link(n.cfg.BridgeName)
	}
	if err != nil {
		return bridge, err
	}
	if bridge.Kind != "bridge" {
		return bridge, fmt.Errorf("interface %s is a %s, not a bridge: remove it, or choose another bridgeName", bridge.Name, bridge.Kind)
	}
	if err := netlinkx.SetIPv6(n.kernel, bridge.Name, c.ranges.V6().IsValid(), true); err != nil {
		return bridge, err
	}
	if bridge.MTU != c.mtu {
		if err := n.kernel.SetMTU(bridge.Index, c.mtu); err != nil {
			return bridge, err
		}
	}
	if !bridge.Up {
		return bridge, n.kernel.SetUp(bridge.Index)
	}
	return bridge, nil
}

// setIfKnown writes a setting that kernels without the feature do not have.
func setIfKnown(h netlinkx.Handle, name, value string) error {
	if err := h.SetSysctl(name, value); err != nil && !errors.Is(err, netlinkx.ErrNotFound) {
		return err
	}
	return nil
}

// adoptLeases gives Pods that run without a lease (its file was corrupt or lost)
// their address back, before anybody else can get it.
func (n *Network) adoptLeases(ctx context.Context, leases *ipam.IPAM, addresses map[string]podAddrs) error {
	names, err := n.kernel.ListNamespaces(n.cfg.NetNSDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		uid := types.UID(name)
		had, routed := addresses[linkName(uid)]
		if _, leased := leases.Lookup(uid); leased || !routed || !had.v4.IsValid() {
			continue
		}
		lease := ipam.Lease{UID: uid, IP: had.v4, IP6: had.v6, AcquiredAt: n.clock.Now().UTC()}
		if err := leases.Restore(lease); err != nil {
			return err
		}
		klog.FromContext(ctx).Info("Restored the address lease of a running Pod from its route", "podUID", uid, "ips", lease.IPs())
	}
	return nil
}

// Remove takes everything of the Pod network off this machine, whoever's Pods they
// are; net.ipv4.ip_forward stays on, because others may have come to need it. It needs
// no Configure before and may be repeated.
func (n *Network) Remove(ctx context.Context) error {
	n.configuring.Lock()
	defer n.configuring.Unlock()
	n.current.Store(nil)
	errs := []error{n.removeNamespaces(), n.overlay.Remove(), n.removeLinks(), n.removeRoutes(), removeDir(n.leaseDir()), removeEmptyDir(n.cfg.StateDir), removeEmptyDir(n.cfg.NetNSDir), ctx.Err()}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the Pod network: %w", err)
	}
	return nil
}

func (n *Network) removeNamespaces() error {
	names, err := n.kernel.ListNamespaces(n.cfg.NetNSDir)
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, n.kernel.DeleteNamespace(n.netNSPath(types.UID(name))))
	}
	return errors.Join(errs...)
}

func (n *Network) removeLinks() error {
	links, err := n.kernel.Links()
	errs := []error{err}
	for _, l := range links {
		if isPodLink(l.Name) || (l.Name == n.cfg.BridgeName && l.Kind == "bridge") {
			errs = append(errs, n.deleteLink(l.Name))
		}
	}
	return errors.Join(errs...)
}

// removeRoutes deletes what did not go with an interface.
func (n *Network) removeRoutes() error {
	routes, err := n.kernel.Routes()
	errs := []error{err}
	for _, r := range routes {
		if r.Protocol == routeProtocol {
			errs = append(errs, n.kernel.DeleteRoute(r))
		}
	}
	return errors.Join(errs...)
}
