package plugins

import (
	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// Names of plug-ins, which are upstream's.
const (
	NameNodeName            = "NodeName"
	NameNodeUnschedulable   = "NodeUnschedulable"
	NameTaintToleration     = "TaintToleration"
	NameNodeAffinity        = "NodeAffinity"
	NameNodePorts           = "NodePorts"
	NameNodeResourcesFit    = "NodeResourcesFit"
	NamePodTopologySpread   = "PodTopologySpread"
	NameInterPodAffinity    = "InterPodAffinity"
	NameBalancedAllocation  = "NodeResourcesBalancedAllocation"
	NameImageLocality       = "ImageLocality"
	NameDefaultPreemption   = "DefaultPreemption"
	NameSchedulingGates     = "SchedulingGates"
	NamePrioritySort        = "PrioritySort"
	NameDefaultBinder       = "DefaultBinder"
	unschedulableNode       = "node(s) were unschedulable"
	otherNodeName           = "node(s) didn't match the requested node name"
	untoleratedTaint        = "node(s) had untolerated taint(s)"
	noFreePorts             = "node(s) didn't have free ports for the requested pod ports"
	comparisonsInTolerating = true // upstream's feature TaintTolerationComparisonOperators
)

// check is a Check made of one function.
type check func(*state.NodeInfo) *Rejection

func (c check) Node(node *state.NodeInfo) *Rejection { return c(node) }

func tolerates(pod *state.PodInfo, taint *corev1.Taint) bool {
	return corev1helpers.TolerationsTolerateTaint(klog.Background(), pod.Pod.Spec.Tolerations, taint, comparisonsInTolerating)
}

func untolerated(node *corev1.Node, pod *state.PodInfo) bool {
	if len(node.Spec.Taints) == 0 {
		return false
	}
	_, found := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(),
		node.Spec.Taints, pod.Pod.Spec.Tolerations, keepsOut, comparisonsInTolerating)
	return found
}

func keepsOut(taint *corev1.Taint) bool {
	return taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
}

// nodeName lets a Pod that names its Node only there.
type nodeName struct{ always }

func newNodeName() nodeName { return nodeName{always{NodeAdded}} }

func (nodeName) Name() string { return NameNodeName }

func (nodeName) Prepare(pod *state.PodInfo, _ *state.Snapshot) (Check, *Rejection) {
	wanted := pod.Pod.Spec.NodeName
	if wanted == "" {
		return nil, nil
	}
	refused := &Rejection{Plugin: NameNodeName, Messages: []string{otherNodeName}, Unresolvable: true}
	return check(func(node *state.NodeInfo) *Rejection {
		if node.Node.Name == wanted {
			return nil
		}
		return refused
	}), nil
}

// nodeUnschedulable keeps Pods from cordoned Nodes.
type nodeUnschedulable struct{}

func (nodeUnschedulable) Name() string { return NameNodeUnschedulable }

func (nodeUnschedulable) Prepare(pod *state.PodInfo, _ *state.Snapshot) (Check, *Rejection) {
	cordon := &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if tolerates(pod, cordon) {
		return nil, nil
	}
	refused := &Rejection{Plugin: NameNodeUnschedulable, Messages: []string{unschedulableNode}, Unresolvable: true}
	return check(func(node *state.NodeInfo) *Rejection {
		if !node.Node.Spec.Unschedulable {
			return nil
		}
		return refused
	}), nil
}

func (nodeUnschedulable) Events() EventKind { return NodeAdded | NodeTaints }

func (nodeUnschedulable) Helps(_ *state.PodInfo, event *Event) bool {
	return !event.NewNode.Spec.Unschedulable && (event.OldNode == nil || event.OldNode.Spec.Unschedulable)
}

// taintToleration keeps Pods from Nodes with taints that they do not tolerate, and
// prefers Nodes with few PreferNoSchedule taints among the others.
type taintToleration struct{}

func (taintToleration) Name() string { return NameTaintToleration }

func (taintToleration) Prepare(pod *state.PodInfo, _ *state.Snapshot) (Check, *Rejection) {
	refused := &Rejection{Plugin: NameTaintToleration, Messages: []string{untoleratedTaint}, Unresolvable: true}
	return check(func(node *state.NodeInfo) *Rejection {
		if untolerated(node.Node, pod) {
			return refused
		}
		return nil
	}), nil
}

func (taintToleration) Events() EventKind { return NodeAdded | NodeTaints }

func (taintToleration) Helps(pod *state.PodInfo, event *Event) bool {
	return !untolerated(event.NewNode, pod) && (event.OldNode == nil || untolerated(event.OldNode, pod))
}

func (taintToleration) PrepareScore(pod *state.PodInfo, _ *state.Snapshot, _ []*state.NodeInfo) *Scorer {
	var relevant []corev1.Toleration
	for _, t := range pod.Pod.Spec.Tolerations {
		if t.Effect == "" || t.Effect == corev1.TaintEffectPreferNoSchedule {
			relevant = append(relevant, t)
		}
	}
	return &Scorer{
		Node: func(node *state.NodeInfo) int64 {
			var repelling int64
			for i := range node.Node.Spec.Taints {
				taint := &node.Node.Spec.Taints[i]
				if taint.Effect == corev1.TaintEffectPreferNoSchedule &&
					!corev1helpers.TolerationsTolerateTaint(klog.Background(), relevant, taint, comparisonsInTolerating) {
					repelling++
				}
			}
			return repelling
		},
		Normalize: func(scores []int64) { normalize(scores, true) },
	}
}

// nodePorts keeps Pods from Nodes where a port that they want is taken.
type nodePorts struct{}

func (nodePorts) Name() string { return NameNodePorts }

func (nodePorts) Prepare(pod *state.PodInfo, _ *state.Snapshot) (Check, *Rejection) {
	if len(pod.Ports) == 0 {
		return nil, nil
	}
	refused := &Rejection{Plugin: NameNodePorts, Messages: []string{noFreePorts}}
	return check(func(node *state.NodeInfo) *Rejection {
		if portsConflict(pod.Ports, node.Ports) {
			return refused
		}
		return nil
	}), nil
}

func portsConflict(wanted, taken []state.HostPort) bool {
	for _, w := range wanted {
		for _, t := range taken {
			if w.Conflicts(t) {
				return true
			}
		}
	}
	return false
}

func (nodePorts) Events() EventKind { return NodeAdded | PodGone }

func (nodePorts) Helps(pod *state.PodInfo, event *Event) bool {
	return event.Kind == NodeAdded || portsConflict(pod.Ports, event.OldPod.Ports)
}
