package model

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Tracker holds policies, Pods and namespaces as they are told to it. It is not safe
// for concurrent use.
type Tracker struct {
	node       string
	policies   map[types.NamespacedName]*policy
	pods       map[types.NamespacedName]Pod
	namespaces map[string]labels.Set
	// members are, for each key of podPeers that a policy has, the Pods that match.
	members map[string]*membership
	// selected are the policies that select a Pod of this node.
	selected map[types.NamespacedName]map[types.NamespacedName]bool
}

type membership struct {
	peers []podPeer
	pods  map[types.NamespacedName]bool
}

// NewTracker returns one for the node called node, which knows nothing yet.
func NewTracker(node string) *Tracker {
	return &Tracker{
		node: node, policies: map[types.NamespacedName]*policy{}, pods: map[types.NamespacedName]Pod{}, namespaces: map[string]labels.Set{},
		members: map[string]*membership{}, selected: map[types.NamespacedName]map[types.NamespacedName]bool{},
	}
}

// SetPolicy notes a policy. With an error the one of that name stays as it was.
func (t *Tracker) SetPolicy(name types.NamespacedName, spec *networkingv1.NetworkPolicySpec) error {
	p, err := compile(name, spec)
	if err != nil {
		return fmt.Errorf("NetworkPolicy %s: %w", name, err)
	}
	t.policies[name] = p
	t.policiesChanged()
	for podName, pod := range t.pods {
		t.selects(p, podName, pod)
	}
	return nil
}

// RemovePolicy forgets one.
func (t *Tracker) RemovePolicy(name types.NamespacedName) {
	delete(t.policies, name)
	for _, by := range t.selected {
		delete(by, name)
	}
	t.policiesChanged()
}

// policiesChanged finds the members of what policies name now and did not before, and
// forgets those of what none names any more.
func (t *Tracker) policiesChanged() {
	wanted := map[string]bool{}
	for _, p := range t.policies {
		for _, peers := range p.podPeers() {
			if wanted[peers.key] = true; t.members[peers.key] != nil {
				continue
			}
			m := &membership{peers: peers.peers, pods: map[types.NamespacedName]bool{}}
			for name, pod := range t.pods {
				if t.matches(m, pod) {
					m.pods[name] = true
				}
			}
			t.members[peers.key] = m
		}
	}
	maps.DeleteFunc(t.members, func(key string, _ *membership) bool { return !wanted[key] })
}

func (p *policy) podPeers() []*podPeers {
	var all []*podPeers
	for _, s := range []*side{p.ingress, p.egress} {
		if s == nil {
			continue
		}
		for _, r := range s.rules {
			if r.pods != nil {
				all = append(all, r.pods)
			}
		}
	}
	return all
}

func (t *Tracker) matches(m *membership, pod Pod) bool {
	return slices.ContainsFunc(m.peers, func(p podPeer) bool { return p.matches(pod, t.namespaces[pod.Name.Namespace]) })
}

func (t *Tracker) selects(p *policy, name types.NamespacedName, pod Pod) {
	if pod.Node == t.node && p.name.Namespace == name.Namespace && p.pods.Matches(labels.Set(pod.Labels)) {
		if t.selected[name] == nil {
			t.selected[name] = map[types.NamespacedName]bool{}
		}
		t.selected[name][p.name] = true
		return
	}
	delete(t.selected[name], p.name)
}

// SetPod notes a Pod and says whether that changes anything.
func (t *Tracker) SetPod(pod Pod) bool {
	old, known := t.pods[pod.Name]
	if known && reflect.DeepEqual(old, pod) {
		return false
	}
	t.pods[pod.Name] = pod
	if known && old.Node == pod.Node && maps.Equal(old.Labels, pod.Labels) {
		return true
	}
	t.evaluate(pod)
	return true
}

func (t *Tracker) evaluate(pod Pod) {
	for _, m := range t.members {
		if t.matches(m, pod) {
			m.pods[pod.Name] = true
		} else {
			delete(m.pods, pod.Name)
		}
	}
	for _, p := range t.policies {
		t.selects(p, pod.Name, pod)
	}
}

// RemovePod forgets one.
func (t *Tracker) RemovePod(name types.NamespacedName) bool {
	if _, known := t.pods[name]; !known {
		return false
	}
	delete(t.pods, name)
	delete(t.selected, name)
	for _, m := range t.members {
		delete(m.pods, name)
	}
	return true
}

// SetNamespace notes the labels of a namespace, nil for one that is gone.
func (t *Tracker) SetNamespace(name string, set map[string]string) bool {
	old, known := t.namespaces[name]
	if known && set != nil && maps.Equal(old, labels.Set(set)) {
		return false
	}
	if delete(t.namespaces, name); set != nil {
		t.namespaces[name] = set
	}
	for _, pod := range t.pods {
		if pod.Name.Namespace == name {
			t.evaluate(pod)
		}
	}
	return true
}

// ForgetPeers forgets all Pods and namespaces, and keeps the policies.
func (t *Tracker) ForgetPeers() {
	t.pods, t.namespaces = map[types.NamespacedName]Pod{}, map[string]labels.Set{}
	t.selected = map[types.NamespacedName]map[types.NamespacedName]bool{}
	for _, m := range t.members {
		m.pods = map[types.NamespacedName]bool{}
	}
}

// Policies returns how many there are.
func (t *Tracker) Policies() int { return len(t.policies) }

// Tables returns what is to be enforced now, by family.
func (t *Tracker) Tables() [2]Table {
	var out [2]Table
	for family := range out {
		out[family] = t.table(Family(family))
	}
	return out
}

func (t *Tracker) table(family Family) Table {
	b := builder{t: t, family: family, table: Table{
		Sets: map[string]Set{}, Chains: map[string][]Rule{}, Ingress: map[netip.Addr]string{}, Egress: map[netip.Addr]string{},
	}}
	for name, by := range t.selected {
		if len(by) == 0 {
			continue
		}
		var ingress, egress []*side
		for _, policyName := range slices.SortedFunc(maps.Keys(by), func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) }) {
			p := t.policies[policyName]
			if p.ingress != nil {
				ingress = append(ingress, p.ingress)
			}
			if p.egress != nil {
				egress = append(egress, p.egress)
			}
		}
		for _, ip := range t.pods[name].IPs {
			if FamilyOf(ip) != family {
				continue
			}
			if len(ingress) > 0 {
				b.table.Ingress[ip] = b.chain("in", ingress)
			}
			if len(egress) > 0 {
				b.table.Egress[ip] = b.chain("out", egress)
			}
		}
	}
	return b.table
}
