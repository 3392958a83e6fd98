package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// Reason is why a Node cannot take a Pod, worded as upstream words it. One filter
// may give several.
type Reason struct {
	Messages []string
}

func reason(messages ...string) *Reason { return &Reason{Messages: messages} }

// Filter says whether a Node can take a Pod; nil means yes. It must be pure.
type Filter struct {
	Name   string
	Filter func(*PodInfo, *NodeInfo) *Reason
	// helpedBy are the changes after which a Pod refused by this filter may fit.
	helpedBy change
}

// filters run in this order; the first that refuses a Node speaks for it.
func filters() []Filter {
	return []Filter{
		{Name: "NodeUnschedulable", Filter: filterUnschedulable, helpedBy: nodeAdded | nodeSpecChanged},
		{Name: "NodeName", Filter: filterNodeName, helpedBy: nodeAdded},
		{Name: "TaintToleration", Filter: filterTaints, helpedBy: nodeAdded | nodeSpecChanged},
		{Name: "NodeAffinity", Filter: filterAffinity, helpedBy: nodeAdded | nodeLabelsChanged},
		{Name: "NodePorts", Filter: filterPorts, helpedBy: nodeAdded | podGone},
		{Name: "NodeResourcesFit", Filter: filterResources, helpedBy: nodeAdded | nodeCapacityChanged | podGone},
	}
}

func filterUnschedulable(pod *PodInfo, node *NodeInfo) *Reason {
	if !node.Node.Spec.Unschedulable {
		return nil
	}
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if corev1helpers.TolerationsTolerateTaint(klog.Background(), pod.Pod.Spec.Tolerations, &cordon, true) {
		return nil
	}
	return reason("node(s) were unschedulable")
}

func filterNodeName(pod *PodInfo, node *NodeInfo) *Reason {
	if pod.Pod.Spec.NodeName == "" || pod.Pod.Spec.NodeName == node.Node.Name {
		return nil
	}
	return reason("node(s) didn't match the requested node name")
}

func filterTaints(pod *PodInfo, node *NodeInfo) *Reason {
	_, untolerated := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(),
		node.Node.Spec.Taints, pod.Pod.Spec.Tolerations, keepsOut, true)
	if !untolerated {
		return nil
	}
	return reason("node(s) had untolerated taint(s)")
}

func keepsOut(taint *corev1.Taint) bool {
	return taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
}

func filterAffinity(pod *PodInfo, node *NodeInfo) *Reason {
	if matches, err := pod.affinity.Match(node.Node); err == nil && matches {
		return nil
	}
	return reason("node(s) didn't match Pod's node affinity/selector")
}

func filterPorts(pod *PodInfo, node *NodeInfo) *Reason {
	for _, wanted := range pod.ports {
		if slices.ContainsFunc(node.ports, wanted.conflicts) {
			return reason("node(s) didn't have free ports for the requested pod ports")
		}
	}
	return nil
}

func filterResources(pod *PodInfo, node *NodeInfo) *Reason {
	var short []string
	if node.pods+1 > node.allowedPods {
		short = append(short, "Too many pods")
	}
	need := pod.requests
	if !need.isZero() {
		short = append(short, insufficient(need, node.allocatable, node.requested)...)
	}
	if len(short) == 0 {
		return nil
	}
	return reason(short...)
}

func insufficient(need, have, used amounts) []string {
	var short []string
	check := func(name corev1.ResourceName, need, have, used int64) {
		if need > 0 && need > have-used {
			short = append(short, fmt.Sprintf("Insufficient %s", name))
		}
	}
	check(corev1.ResourceCPU, need.milliCPU, have.milliCPU, used.milliCPU)
	check(corev1.ResourceMemory, need.memory, have.memory, used.memory)
	check(corev1.ResourceEphemeralStorage, need.ephemeralStorage, have.ephemeralStorage, used.ephemeralStorage)
	for name, value := range need.scalar {
		check(name, value, have.scalar[name], used.scalar[name])
	}
	return short
}
