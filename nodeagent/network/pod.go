package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/network/ipam"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// Setup gives the Pod its network and returns it; a Pod that has it keeps it and its
// address, and what is missing of it is repaired. After an error the Pod may hold a
// part: repeat Setup, or call Teardown. ipam.ErrExhausted when the node's range is
// used up.
func (n *Network) Setup(ctx context.Context, ref PodRef) (PodNetwork, error) {
	c := n.current.Load()
	if c == nil {
		return PodNetwork{}, ErrNotConfigured
	}
	unlock, err := n.lockPod(ctx, ref.UID)
	if err != nil {
		return PodNetwork{}, err
	}
	defer unlock()
	lease, err := c.ipam.Acquire(ipam.Lease{UID: ref.UID, Namespace: ref.Namespace, Name: ref.Name})
	if err != nil {
		return PodNetwork{}, fmt.Errorf("leasing an address for Pod %s/%s: %w", ref.Namespace, ref.Name, err)
	}
	pod := n.describe(c, lease)
	if err := n.createNamespace(pod.NetNSPath, ref.Users); err != nil {
		return PodNetwork{}, fmt.Errorf("setting up the network of Pod %s/%s: %w", ref.Namespace, ref.Name, err)
	}
	if err := n.applyPod(planPod(pod, ref.UID)); err != nil {
		return PodNetwork{}, fmt.Errorf("setting up the network of Pod %s/%s: %w", ref.Namespace, ref.Name, err)
	}
	klog.FromContext(ctx).V(4).Info("Set up the network of a Pod", "pod", klog.KRef(ref.Namespace, ref.Name), "podUID", ref.UID, "ip", lease.IP)
	return pod, nil
}

func (n *Network) createNamespace(path string, users *userns.Range) error {
	if users != nil {
		return n.kernel.CreateOwnedNamespace(path, *users)
	}
	return n.kernel.CreateNamespace(path)
}

// podPlan is all that is made for one Pod.
type podPlan struct {
	veth netlinkx.Veth
	// addresses are one or two of the Pod, each with its gateway.
	addresses []podAddress
}

type podAddress struct{ ip, gateway netip.Addr }

func (p podPlan) hasIPv6() bool { return len(p.addresses) > 1 }

func planPod(pod PodNetwork, uid types.UID) podPlan {
	p := podPlan{
		veth: netlinkx.Veth{
			Name: linkName(uid), MAC: hostMAC(),
			PeerName: podLink, PeerMAC: podMAC(pod.IP), PeerNS: pod.NetNSPath,
			MTU: pod.MTU,
		},
		addresses: []podAddress{{pod.IP, pod.Gateway}},
	}
	if pod.IP6.IsValid() {
		p.addresses = append(p.addresses, podAddress{pod.IP6, pod.Gateway6})
	}
	return p
}

func (n *Network) applyPod(p podPlan) error {
	host, err := n.ensurePair(p.veth)
	if err != nil {
		return err
	}
	if err := openHostSide(n.kernel, p, host); err != nil {
		return err
	}
	if err := n.kernel.InNamespace(p.veth.PeerNS, func(h netlinkx.Handle) error { return applyPodSide(h, p) }); err != nil {
		return err
	}
	return publishPod(n.kernel, p, host)
}

// ensurePair returns the host side of the Pod's veth pair. A pair whose other end is
// not in the Pod's namespace is left from an earlier namespace and replaced.
func (n *Network) ensurePair(v netlinkx.Veth) (netlinkx.Link, error) {
	host, err := n.kernel.Link(v.Name)
	if err == nil {
		joined, err := n.joined(host, v)
		if err != nil || joined {
			return host, err
		}
		if err := n.deleteLink(v.Name); err != nil {
			return netlinkx.Link{}, err
		}
	} else if !errors.Is(err, netlinkx.ErrNotFound) {
		return netlinkx.Link{}, err
	}
	if err := n.kernel.AddVeth(v); err != nil {
		return netlinkx.Link{}, err
	}
	return n.kernel.Link(v.Name)
}

func (n *Network) joined(host netlinkx.Link, v netlinkx.Veth) (bool, error) {
	var pod netlinkx.Link
	err := n.kernel.InNamespace(v.PeerNS, func(h netlinkx.Handle) (err error) {
		pod, err = h.Link(v.PeerName)
		return err
	})
	if errors.Is(err, netlinkx.ErrNotFound) {
		return false, nil
	}
	return pod.Peer == host.Index && host.Peer == pod.Index, err
}

// applyPodSide configures the Pod's own namespace: its address has no network around
// it, the gateway is the only neighbour, known without ARP. Redirects are refused:
// a router that sends a packet back where it came from (a Pod reaching itself through
// a Service) would send one. A Pod without an IPv6 address has IPv6 on the loopback
// interface only.
func applyPodSide(h netlinkx.Handle, p podPlan) error {
	lo, err := h.Link("lo")
	if err != nil {
		return err
	}
	eth, err := h.Link(p.veth.PeerName)
	if err != nil {
		return err
	}
	if err := netlinkx.SetIPv6(h, eth.Name, p.hasIPv6(), false); err != nil {
		return err
	}
	for _, conf := range []string{"all", eth.Name} {
		if err := h.SetSysctl("net/ipv4/conf/"+conf+"/accept_redirects", "0"); err != nil {
			return err
		}
	}
	if eth.MTU != p.veth.MTU {
		if err := h.SetMTU(eth.Index, p.veth.MTU); err != nil {
			return err
		}
	}
	steps := []func() error{
		func() error { return h.SetUp(lo.Index) },
		func() error { return h.SetUp(eth.Index) },
	}
	for _, a := range p.addresses {
		steps = append(steps,
			func() error { return h.ReplaceAddr(netlinkx.Addr{Link: eth.Index, Prefix: single(a.ip)}) },
			func() error {
				return h.SetNeighbour(netlinkx.Neighbour{Link: eth.Index, IP: a.gateway, MAC: p.veth.MAC})
			},
			func() error {
				return h.ReplaceRoute(netlinkx.Route{Dst: single(a.gateway), Link: eth.Index, Protocol: routeProtocol})
			},
			func() error {
				return h.ReplaceRoute(netlinkx.Route{Dst: everything(a.ip), Link: eth.Index, Via: a.gateway, Protocol: routeProtocol})
			})
	}
	return inOrder(steps)
}

// everything is the range of all addresses of the family of ip.
func everything(ip netip.Addr) netip.Prefix {
	if ip.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// openHostSide sets the host's end up before the Pod's, see publishPod. Strict
// reverse-path filtering makes an address that is not the Pod's own useless to it.
func openHostSide(h netlinkx.Handle, p podPlan, host netlinkx.Link) error {
	if err := netlinkx.SetIPv6(h, host.Name, p.hasIPv6(), true); err != nil {
		return err
	}
	if err := h.SetSysctl("net/ipv4/conf/"+host.Name+"/rp_filter", "1"); err != nil {
		return err
	}
	if host.MTU != p.veth.MTU {
		if err := h.SetMTU(host.Index, p.veth.MTU); err != nil {
			return err
		}
	}
	return h.SetUp(host.Index)
}

// publishPod comes last: the route makes the Pod reachable.
//
// The end that was set up second, the Pod's, can send at once; the host's must be
// made to.
func publishPod(h netlinkx.Handle, p podPlan, host netlinkx.Link) error {
	if err := h.Activate(host.Name); err != nil {
		return err
	}
	for _, a := range p.addresses {
		if err := h.SetNeighbour(netlinkx.Neighbour{Link: host.Index, IP: a.ip, MAC: p.veth.PeerMAC}); err != nil {
			return err
		}
		if err := h.ReplaceRoute(netlinkx.Route{Dst: single(a.ip), Link: host.Index, Src: a.gateway, Protocol: routeProtocol}); err != nil {
			return err
		}
	}
	return nil
}

func inOrder(steps []func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Teardown takes the Pod's network away; it succeeds when there is none. Before
// Configure it cannot free the address: Sweep does that later.
func (n *Network) Teardown(ctx context.Context, uid types.UID) error {
	unlock, err := n.lockPod(ctx, uid)
	if err != nil {
		return err
	}
	defer unlock()
	if err := n.teardownLocked(uid); err != nil {
		return fmt.Errorf("tearing down the network of Pod %s: %w", uid, err)
	}
	return nil
}

func (n *Network) teardownLocked(uid types.UID) error {
	if err := n.deleteLink(linkName(uid)); err != nil {
		return err
	}
	if err := n.kernel.DeleteNamespace(n.netNSPath(uid)); err != nil {
		return err
	}
	c := n.current.Load()
	if c == nil {
		return nil
	}
	return c.ipam.Release(uid)
}

func (n *Network) deleteLink(name string) error {
	if err := n.kernel.DeleteLink(name); err != nil && !errors.Is(err, netlinkx.ErrNotFound) {
		return err
	}
	return nil
}
