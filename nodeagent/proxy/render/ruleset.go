package render

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Ruleset accumulates the rendered Services, so that a change of one costs the
// rendering of one; the chains that all share are put together from the parts.
type Ruleset struct {
	facts    model.NodeFacts
	services map[types.NamespacedName]rendered
}

type rendered struct {
	model model.Service
	// own are the names of the Service's chains.
	own []string
	// contribution to the shared chains
	portals, nodePorts, rejects, nodeRejects []iptables.Rule
}

// NewRuleset returns a ruleset without Services.
func NewRuleset(facts model.NodeFacts) *Ruleset {
	return &Ruleset{facts: facts, services: map[types.NamespacedName]rendered{}}
}

// Delta says which chains to write and which to remove.
type Delta struct {
	Set    []iptables.Chain
	Remove []string
}

// SetFacts renders everything again for other facts of the node.
func (r *Ruleset) SetFacts(facts model.NodeFacts) Delta {
	r.facts = facts
	delta := Delta{Set: Base(facts)}
	for _, name := range slices.SortedFunc(maps.Keys(r.services), model.CompareNames) {
		rules := Service(r.services[name].model, facts)
		r.put(r.services[name].model, rules)
		delta.Set = append(delta.Set, rules.Chains...)
	}
	delta.Set = append(delta.Set, r.sharedChains()...)
	return delta
}

// SetServices renders the Services that changed. One without ports is removed.
func (r *Ruleset) SetServices(changed []model.Service) Delta {
	var delta Delta
	shared := false
	for _, svc := range changed {
		old := r.services[svc.Name]
		rules := Service(svc, r.facts)
		r.put(svc, rules)
		delta.Set = append(delta.Set, rules.Chains...)
		now := r.services[svc.Name]
		for _, name := range old.own {
			if !slices.Contains(now.own, name) {
				delta.Remove = append(delta.Remove, name)
			}
		}
		shared = shared || !old.sharesSame(now)
	}
	if shared {
		delta.Set = append(delta.Set, r.sharedChains()...)
	}
	return delta
}

func (r *Ruleset) put(svc model.Service, rules ServiceRules) {
	if len(svc.Ports) == 0 {
		delete(r.services, svc.Name)
		return
	}
	entry := rendered{
		model: svc, portals: rules.Portals, nodePorts: rules.NodePorts,
		rejects: rules.Rejects, nodeRejects: rules.NodeRejects,
	}
	for _, c := range rules.Chains {
		entry.own = append(entry.own, c.Name)
	}
	r.services[svc.Name] = entry
}

func (a rendered) sharesSame(b rendered) bool {
	return slices.Equal(a.portals, b.portals) && slices.Equal(a.nodePorts, b.nodePorts) &&
		slices.Equal(a.rejects, b.rejects) && slices.Equal(a.nodeRejects, b.nodeRejects)
}

// sharedChains puts together the chains that every Service contributes to, in the order
// of names.
func (r *Ruleset) sharedChains() []iptables.Chain {
	services := iptables.Chain{Table: iptables.NAT, Name: Services}
	nodePorts := iptables.Chain{Table: iptables.NAT, Name: NodePorts}
	nodeRejects := iptables.Chain{Table: iptables.Filter, Name: RejectNode}
	var rejects []iptables.Rule
	for _, name := range slices.SortedFunc(maps.Keys(r.services), model.CompareNames) {
		entry := r.services[name]
		services.Rules = append(services.Rules, entry.portals...)
		nodePorts.Rules = append(nodePorts.Rules, entry.nodePorts...)
		rejects = append(rejects, entry.rejects...)
		nodeRejects.Rules = append(nodeRejects.Rules, entry.nodeRejects...)
	}
	services.Rules = append(services.Rules,
		match{}.toLocal().jump(HostPorts, "host ports of Pods"),
		match{}.toLocal().jump(NodePorts, "node ports; this must be the last rule"))
	return []iptables.Chain{services, nodePorts, nodeRejects, rejectChain(r.facts, rejects)}
}

// Services calls yield for every Service of the ruleset.
func (r *Ruleset) Services(yield func(model.Service) bool) {
	for _, entry := range r.services {
		if !yield(entry.model) {
			return
		}
	}
}

// Service returns a Service as it was last rendered; without ports when there is none.
func (r *Ruleset) Service(name types.NamespacedName) model.Service { return r.services[name].model }
