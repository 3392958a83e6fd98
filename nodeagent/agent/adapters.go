package agent

import (
	"context"
	"net"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/network"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// podNetwork is what the agent needs of package network.
type podNetwork interface {
	Configure(ctx context.Context, podCIDRs ranges.List) error
	SetPeers(ctx context.Context, nodes []overlay.Node, repair bool) ([]overlay.Problem, error)
	Setup(ctx context.Context, ref network.PodRef) (network.PodNetwork, error)
	Teardown(ctx context.Context, uid types.UID) error
	Sweep(ctx context.Context, keep func(types.UID) bool) error
	DialPod(ctx context.Context, uid types.UID, port int32) (net.Conn, error)
}

// serviceProxy is what the agent tells the proxy.
type serviceProxy interface {
	SetNodeFacts(facts model.NodeFacts) error
	SetHostPorts(ports []model.HostPort)
}

// networkAdapter gives lifecycle the Pod network, and says when addresses change.
type networkAdapter struct {
	podNetwork
	changed func(runtime.PodIdentity, []netip.Addr)
	// protect returns when the Pod's traffic is under its policies, release takes note
	// that its addresses are free; nil without policies.
	protect func(context.Context, runtime.PodIdentity, []netip.Addr) error
	release func(types.UID)
}

// Attach implements lifecycle.Network.
func (n networkAdapter) Attach(ctx context.Context, id runtime.PodIdentity, users *userns.Range) (lifecycle.Attachment, error) {
	got, err := n.Setup(ctx, network.PodRef{UID: id.UID, Namespace: id.Namespace, Name: id.Name, Users: users})
	if err != nil {
		return lifecycle.Attachment{}, err
	}
	n.changed(id, got.IPs())
	if n.protect != nil { // before anything runs in the Pod
		if err := n.protect(ctx, id, got.IPs()); err != nil {
			return lifecycle.Attachment{}, err
		}
	}
	at := lifecycle.Attachment{NetNSPath: got.NetNSPath, IP: got.IPs()[0]}
	if ips := got.IPs(); len(ips) > 1 {
		at.SecondIP = ips[1]
	}
	return at, nil
}

// Detach implements lifecycle.Network.
func (n networkAdapter) Detach(ctx context.Context, uid types.UID) error {
	n.changed(runtime.PodIdentity{UID: uid}, nil)
	if n.release != nil { // before another Pod can get the addresses
		n.release(uid)
	}
	return n.Teardown(ctx, uid)
}
