package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
)

// primaryAddresses stands for the node's own addresses in Options.NodePortAddresses.
const primaryAddresses = "primary"

// nodePortAddresses says on which of the machine's addresses node ports are open.
type nodePortAddresses struct {
	// primary means the node's own addresses; otherwise ranges, of either family.
	primary bool
	ranges  []netip.Prefix
}

// parseNodePortAddresses understands what kube-proxy's --nodeport-addresses does.
func parseNodePortAddresses(texts []string) (nodePortAddresses, error) {
	var n nodePortAddresses
	for _, text := range texts {
		if text == primaryAddresses {
			if len(texts) > 1 {
				return n, errors.New(`"primary" must be the only entry`)
			}
			return nodePortAddresses{primary: true}, nil
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return n, fmt.Errorf("%q is neither \"primary\" nor a range such as 192.0.2.0/24", text)
		}
		n.ranges = append(n.ranges, p.Masked())
	}
	return n, nil
}

// restricts reports whether node ports of a family are open on some addresses only. A
// family without ranges, or with one that has every address, is not restricted.
func (n nodePortAddresses) restricts(family model.Family) bool {
	if n.primary {
		return true
	}
	restricted := false
	for _, p := range n.ranges {
		if family.Of(p.Addr()) {
			if p.Bits() == 0 {
				return false
			}
			restricted = true
		}
	}
	return restricted
}

// apply returns the policy with the addresses of a family on which node ports are open,
// of those that the machine has.
func (n nodePortAddresses) apply(policy render.Policy, family model.Family, node, machine []netip.Addr) render.Policy {
	if !n.restricts(family) {
		return policy
	}
	policy.SomeNodePortAddresses = true
	from := machine
	if n.primary {
		from = node
	}
	for _, ip := range from {
		inRange := func(p netip.Prefix) bool { return p.Contains(ip) }
		if family.Of(ip) && (n.primary || slices.ContainsFunc(n.ranges, inRange)) {
			policy.NodePortAddresses = append(policy.NodePortAddresses, ip)
		}
	}
	slices.SortFunc(policy.NodePortAddresses, netip.Addr.Compare)
	policy.NodePortAddresses = slices.Compact(policy.NodePortAddresses)
	return policy
}
