package planner

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// Budget is a PodDisruptionBudget as far as preemption looks at it.
type Budget struct {
	Namespace string
	Selector  labels.Selector
	// Allowed is how many of its Pods may go now.
	Allowed int32
	// Disrupted are Pods that are going already.
	Disrupted func(pod string) bool
}

// Preemption is a Node on which a Pod fits once the victims are gone.
type Preemption struct {
	Node string
	// Victims are in order of importance, the most important first.
	Victims []*state.PodInfo
	// violations is how many of them go beyond what their budgets allow.
	violations int
}

// Outcome is what came of looking for victims.
type Outcome struct {
	// Preemption is nil when there is none.
	Preemption *Preemption
	// KeepNomination says that the Pod goes on waiting for the Node that it is nominated
	// for; else that nomination is void.
	KeepNomination bool
	// Message says what came of it, in upstream's words.
	Message string
}

// Preempt looks for the Node where the least harm makes room for a Pod that no Node can
// take as things are. It does not look for Pods that only a victim's going would bring
// nearer: affinity to less important Pods.
func (p *Planner) Preempt(pod *state.PodInfo, cluster *state.Snapshot, refusal *Refusal, budgets []Budget) Outcome {
	if refusal.Nodes == 0 || p.Profile.Preemption == nil {
		return Outcome{}
	}
	if why := ineligible(pod, cluster, refusal); why != "" {
		return Outcome{KeepNomination: true, Message: why}
	}
	potential := refusal.resolvable()
	candidates, failed := p.dryRun(refusal.trial, potential, budgets)
	if len(candidates) == 0 {
		return Outcome{Message: failed.message(refusal.Nodes)}
	}
	best := leastHarm(candidates)
	return Outcome{
		Preemption: best,
		Message:    fmt.Sprintf("found a potential placement for pod on node %v, preempting %d victims", best.Node, len(best.Victims)),
	}
}

// ineligible says why the Pod may not make others go: it does not want to, or others
// are going for it already.
func ineligible(pod *state.PodInfo, cluster *state.Snapshot, refusal *Refusal) string {
	if policy := pod.Pod.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	nominated := cluster.Node(pod.Pod.Status.NominatedNodeName)
	if nominated == nil {
		return ""
	}
	if why := refusal.of(nominated.Node.Name); why != nil && why.Unresolvable {
		return ""
	}
	for _, other := range nominated.Pods {
		if other.Priority() < pod.Priority() && goesForAnother(other.Pod) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

func goesForAnother(pod *keelsonv1.Pod) bool {
	if pod.DeletionTimestamp == nil {
		return false
	}
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
	})
}

// resolvable are the Nodes where the going of Pods could help.
func (r *Refusal) resolvable() []*state.NodeInfo {
	var nodes []*state.NodeInfo
	for _, refused := range r.refused {
		if !refused.why.Unresolvable {
			nodes = append(nodes, refused.node)
		}
	}
	return nodes
}

// failures counts Nodes where no victims make room, by what stands in the way.
type failures struct {
	nodes   int
	reasons map[string]int
}

func (f *failures) add(why *plugins.Rejection) {
	f.nodes++
	for _, message := range why.Messages {
		f.reasons[message]++
	}
}

// message is upstream's; all is the number of all Nodes.
func (f *failures) message(all int) string {
	if absent := all - f.nodes; absent > 0 {
		f.reasons["Preemption is not helpful for scheduling"] += absent
	}
	return fmt.Sprintf("0/%d nodes are available: %s.", all, histogram(f.reasons))
}

// dryRun tries Nodes from a random one on until there are enough candidates, one of
// them without a violated budget.
func (p *Planner) dryRun(t *trial, nodes []*state.NodeInfo, budgets []Budget) ([]*Preemption, *failures) {
	failed := &failures{reasons: map[string]int{}}
	if len(nodes) == 0 {
		return nil, failed
	}
	var candidates []*Preemption
	offset, enough := int(p.Rand.Int64N(int64(len(nodes)))), p.Profile.Preemption.Candidates(len(nodes))
	harmless := false
	for i := range nodes {
		candidate, why := t.victims(nodes[(offset+i)%len(nodes)], budgets)
		if why != nil {
			failed.add(why)
			continue
		}
		candidates = append(candidates, candidate)
		harmless = harmless || candidate.violations == 0
		if harmless && len(candidates) >= enough {
			break
		}
	}
	return candidates, failed
}

// victims is the least set of less important Pods whose going makes room on node.
func (t *trial) victims(node *state.NodeInfo, budgets []Budget) (*Preemption, *plugins.Rejection) {
	var potential []*state.PodInfo
	for _, other := range node.Pods {
		if other.Priority() < t.pod.Priority() {
			potential = append(potential, other)
		}
	}
	if len(potential) == 0 {
		return nil, &plugins.Rejection{Messages: []string{"No preemption victims found for incoming pod"}, Unresolvable: true}
	}
	without := &trial{pod: t.pod, cluster: t.cluster, checks: cloneChecks(t.checks)}
	for _, victim := range potential {
		node = node.Without(victim)
		count(without.checks, victim, node, -1)
	}
	if why := without.node(node); why != nil {
		return nil, why
	}
	slices.SortStableFunc(potential, compareImportance)
	found := &Preemption{Node: node.Node.Name}
	violating, harmless := splitByBudgets(potential, budgets)
	spare := func(victim *state.PodInfo) bool {
		with := node.With(victim)
		count(without.checks, victim, with, 1)
		if without.node(with) == nil {
			node = with
			return true
		}
		count(without.checks, victim, node, -1)
		found.Victims = append(found.Victims, victim)
		return false
	}
	for _, victim := range violating {
		if !spare(victim) {
			found.violations++
		}
	}
	for _, victim := range harmless {
		spare(victim)
	}
	slices.SortStableFunc(found.Victims, compareImportance)
	if len(found.Victims) == 0 {
		// It fits without anybody's going: only because others that are nominated would
		// count twice. The next attempt finds it.
		return nil, &plugins.Rejection{Messages: []string{"No preemption victims found for incoming pod"}}
	}
	return found, nil
}
