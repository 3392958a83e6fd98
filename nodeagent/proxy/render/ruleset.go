package render

import (
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Ruleset accumulates the rendered Services of one family, so that a change of one costs
// the rendering of one and of the shared chains in which its rules differ.
type Ruleset struct {
	facts    Facts
	services map[types.NamespacedName]rendered
	// shared are the rules in shared chains by the Service that contributed them.
	shared map[ChainID]map[types.NamespacedName][]iptables.Rule
	// groups counts the ports in each part of the Service range.
	groups   map[netip.Prefix]int
	unserved Unserved
}

type rendered struct {
	model model.Service
	// own are the Service's chains, all of the table nat.
	own      []string
	shared   map[ChainID][]iptables.Rule
	groups   []netip.Prefix
	unserved Unserved
}

// NewRuleset returns a ruleset without Services.
func NewRuleset(facts Facts) *Ruleset {
	return &Ruleset{
		facts: facts, services: map[types.NamespacedName]rendered{},
		shared: map[ChainID]map[types.NamespacedName][]iptables.Rule{}, groups: map[netip.Prefix]int{},
	}
}

// Delta says which chains to write and which to remove.
type Delta struct {
	Set    []iptables.Chain
	Remove []ChainID
}

// Facts returns those that the rules were rendered for.
func (r *Ruleset) Facts() Facts { return r.facts }

// SetFacts renders everything again for other facts of the node.
func (r *Ruleset) SetFacts(facts Facts) Delta {
	before := r.chains()
	old := r.services
	*r = *NewRuleset(facts)
	delta := Delta{Set: Base(facts)}
	for _, name := range slices.SortedFunc(maps.Keys(old), model.CompareNames) {
		delta.Set = append(delta.Set, r.put(old[name].model, nil)...)
	}
	for _, id := range alwaysThere() {
		delta.Set = append(delta.Set, r.sharedChain(id))
	}
	for id := range r.shared {
		if !slices.Contains(alwaysThere(), id) {
			delta.Set = append(delta.Set, r.sharedChain(id))
		}
	}
	now := r.chains()
	for id := range before {
		if _, still := now[id]; !still {
			delta.Remove = append(delta.Remove, id)
		}
	}
	return delta
}

// chains returns the names of those that come from Services.
func (r *Ruleset) chains() map[ChainID]struct{} {
	all := map[ChainID]struct{}{}
	for id := range r.shared {
		all[id] = struct{}{}
	}
	for _, entry := range r.services {
		for _, name := range entry.own {
			all[ChainID{iptables.NAT, name}] = struct{}{}
		}
	}
	for _, id := range alwaysThere() {
		delete(all, id)
	}
	return all
}

// SetServices renders the Services that changed. One without ports is removed.
func (r *Ruleset) SetServices(changed []model.Service) Delta {
	var delta Delta
	dirty := map[ChainID]struct{}{}
	for _, svc := range changed {
		old, existed := r.services[svc.Name]
		if !existed && len(svc.Ports) == 0 {
			continue
		}
		delta.Set = append(delta.Set, r.put(svc, dirty)...)
		now := r.services[svc.Name].own
		for _, name := range old.own {
			if !slices.Contains(now, name) {
				delta.Remove = append(delta.Remove, ChainID{iptables.NAT, name})
			}
		}
	}
	for id := range dirty {
		if len(r.shared[id]) == 0 && !slices.Contains(alwaysThere(), id) {
			delta.Remove = append(delta.Remove, id)
		} else {
			delta.Set = append(delta.Set, r.sharedChain(id))
		}
	}
	return delta
}

// put renders a Service in the place of what it was before, and marks the shared chains
// whose contents that changes.
func (r *Ruleset) put(svc model.Service, dirty map[ChainID]struct{}) []iptables.Chain {
	old := r.services[svc.Name]
	rules := Service(svc, r.facts)
	if len(svc.Ports) == 0 {
		delete(r.services, svc.Name)
	} else {
		r.services[svc.Name] = newRendered(svc, rules)
	}
	for id := range old.shared {
		if _, still := rules.Shared[id]; !still {
			r.contribute(id, svc.Name, nil, dirty)
		}
	}
	for id, contributed := range rules.Shared {
		if !slices.Equal(old.shared[id], contributed) {
			r.contribute(id, svc.Name, contributed, dirty)
		}
	}
	r.unserved.Internal += rules.Unserved.Internal - old.unserved.Internal
	r.unserved.External += rules.Unserved.External - old.unserved.External
	if r.countGroups(old.groups, -1)+r.countGroups(rules.Groups, 1) > 0 && dirty != nil {
		dirty[ChainID{iptables.NAT, ClusterIPs}] = struct{}{}
	}
	return rules.Chains
}

func newRendered(svc model.Service, rules ServiceRules) rendered {
	entry := rendered{model: svc, shared: rules.Shared, groups: rules.Groups, unserved: rules.Unserved, own: make([]string, 0, len(rules.Chains))}
	for _, c := range rules.Chains {
		entry.own = append(entry.own, c.Name)
	}
	return entry
}

func (r *Ruleset) contribute(id ChainID, name types.NamespacedName, rules []iptables.Rule, dirty map[ChainID]struct{}) {
	if dirty != nil {
		dirty[id] = struct{}{}
	}
	if len(rules) > 0 {
		if r.shared[id] == nil {
			r.shared[id] = map[types.NamespacedName][]iptables.Rule{}
		}
		r.shared[id][name] = rules
		return
	}
	if delete(r.shared[id], name); len(r.shared[id]) == 0 {
		delete(r.shared, id)
	}
}

// countGroups returns how many parts of the range came into use or went out of it.
func (r *Ruleset) countGroups(groups []netip.Prefix, by int) (changed int) {
	for _, g := range groups {
		was := r.groups[g]
		if r.groups[g] = was + by; r.groups[g] == 0 {
			delete(r.groups, g)
		}
		if was == 0 || was+by == 0 {
			changed++
		}
	}
	return changed
}

// sharedChain puts a chain together in the order of names.
func (r *Ruleset) sharedChain(id ChainID) iptables.Chain {
	var contributed []iptables.Rule
	if id == (ChainID{iptables.NAT, ClusterIPs}) {
		for _, group := range slices.SortedFunc(maps.Keys(r.groups), comparePrefixes) {
			contributed = append(contributed, groupJump(group))
		}
		return sharedChain(r.facts, id, contributed)
	}
	from := r.shared[id]
	for _, name := range slices.SortedFunc(maps.Keys(from), model.CompareNames) {
		contributed = append(contributed, from[name]...)
	}
	return sharedChain(r.facts, id, contributed)
}

func comparePrefixes(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }

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

// Unserved returns how many ports of the policies Local have endpoints on other nodes
// only.
func (r *Ruleset) Unserved() Unserved { return r.unserved }
