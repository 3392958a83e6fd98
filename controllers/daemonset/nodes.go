package daemonset

import (
	"cmp"
	"slices"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// eligibility judges nodes for one DaemonSet, as upstream's NodeShouldRunDaemonPod.
type eligibility struct {
	// nodeName is the template's; empty lets any node do.
	nodeName    string
	affinity    nodeaffinity.RequiredNodeAffinity
	tolerations []corev1.Toleration
}

func eligibilityOf(spec *upstreamappsv1.DaemonSetSpec) eligibility {
	pod := &spec.Template.Spec
	return eligibility{
		nodeName:    pod.NodeName,
		affinity:    nodeaffinity.NewRequiredNodeAffinity(pod.NodeSelector, pod.Affinity),
		tolerations: withDaemonTolerations(pod),
	}
}

// of says whether a Pod should run on node, and whether one that runs there may go on:
// a taint that only keeps Pods out lets those that are there stay.
func (e eligibility) of(node *keelsonv1.Node) (run, stay bool) {
	if e.nodeName != "" && e.nodeName != node.Name {
		return false, false
	}
	upstream := corev1.Node{ObjectMeta: node.ObjectMeta, Spec: node.Spec}
	if matches, err := e.affinity.Match(&upstream); err != nil || !matches {
		return false, false
	}
	if e.untolerated(node, corev1.TaintEffectNoExecute) {
		return false, false
	}
	return !e.untolerated(node, corev1.TaintEffectNoSchedule), true
}

func (e eligibility) untolerated(node *keelsonv1.Node, effect corev1.TaintEffect) bool {
	_, untolerated := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, e.tolerations,
		func(taint *corev1.Taint) bool { return taint.Effect == effect }, true)
	return untolerated
}

// place is a node with the DaemonSet's Pods on it, or on their way to it.
type place struct {
	name string
	// known says that the Node exists.
	known bool
	// run and stay are those of eligibility.
	run, stay bool
	pods      []*keelsonv1.Pod
}

// placesOf brings nodes and Pods together, ordered by name. A Pod that is meant for no
// node in particular belongs nowhere; one that has ended and is being deleted is gone.
func placesOf(e eligibility, nodes []keelsonv1.Node, pods []*keelsonv1.Pod) []place {
	all := make([]place, 0, len(nodes))
	at := make(map[string]int, len(nodes))
	for i := range nodes {
		node := &nodes[i]
		run, stay := e.of(node)
		at[node.Name] = len(all)
		all = append(all, place{name: node.Name, known: true, run: run, stay: stay})
	}
	for _, pod := range pods {
		target := targetNode(pod)
		if target == "" || isGone(pod) {
			continue
		}
		i, ok := at[target]
		if !ok {
			i = len(all)
			at[target] = i
			all = append(all, place{name: target})
		}
		all[i].pods = append(all[i].pods, pod)
	}
	for i := range all {
		slices.SortFunc(all[i].pods, bySeniority)
	}
	slices.SortFunc(all, func(a, b place) int { return cmp.Compare(a.name, b.name) })
	return all
}

// bySeniority puts bound Pods first, then the oldest.
func bySeniority(a, b *keelsonv1.Pod) int {
	return cmp.Or(
		boolFirst(a.Spec.NodeName != "", b.Spec.NodeName != ""),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.Name, b.Name),
	)
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}
