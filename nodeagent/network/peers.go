package network

import (
	"context"

	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
)

// SetPeers makes the Pods of all given nodes reachable, and those of no other; this
// node may be among them. It costs what changed since the last call; with repair it
// reads the kernel and mends what somebody else has changed. Problems name nodes whose
// Pods cannot be reached. It returns ErrNotConfigured before Configure.
func (n *Network) SetPeers(ctx context.Context, nodes []overlay.Node, repair bool) ([]overlay.Problem, error) {
	n.configuring.Lock()
	defer n.configuring.Unlock()
	c := n.current.Load()
	if c == nil {
		return nil, ErrNotConfigured
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if repair {
		n.overlay.Forget()
	}
	self := overlay.Node{Name: n.cfg.NodeName, IPs: n.cfg.NodeIPs, Ranges: c.ranges}
	return n.overlay.Sync(ctx, self, c.mtu, nodes)
}
