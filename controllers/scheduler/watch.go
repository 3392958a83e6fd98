package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/queue"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

func (s *scheduler) namespaceHandler() toolscache.ResourceEventHandler {
	seen := func(obj any) {
		if namespace, ok := obj.(*corev1.Namespace); ok {
			s.cache.SetNamespace(namespace.Name, namespace.Labels)
			s.queue.Happened(&plugins.Event{Kind: plugins.NamespaceLabels})
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: seen,
		UpdateFunc: func(before, after any) {
			old, okOld := before.(*corev1.Namespace)
			namespace, ok := after.(*corev1.Namespace)
			if ok && okOld && !maps.Equal(old.Labels, namespace.Labels) {
				seen(namespace)
			}
		},
		DeleteFunc: func(obj any) {
			if namespace, ok := finalState(obj).(*corev1.Namespace); ok {
				s.cache.RemoveNamespace(namespace.Name)
			}
		},
	}
}

func (s *scheduler) nodeHandler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if node, ok := obj.(*keelsonv1.Node); ok {
				s.cache.SetNode(node)
				s.queue.Happened(&plugins.Event{Kind: plugins.NodeAdded, NewNode: node.Upstream()})
			}
		},
		UpdateFunc: func(before, after any) {
			old, okOld := before.(*keelsonv1.Node)
			node, ok := after.(*keelsonv1.Node)
			if !ok || !okOld {
				return
			}
			changes := nodeChanges(old, node)
			if changes == 0 && sameImages(old, node) {
				return // a heartbeat
			}
			s.cache.SetNode(node)
			s.queue.Happened(&plugins.Event{Kind: changes, OldNode: old.Upstream(), NewNode: node.Upstream()})
		},
		DeleteFunc: func(obj any) {
			if node, ok := finalState(obj).(*keelsonv1.Node); ok {
				s.cache.RemoveNode(node.Name)
				s.queue.Happened(&plugins.Event{Kind: plugins.NodeRemoved, OldNode: node.Upstream()})
			}
		},
	}
}

func (s *scheduler) podHandler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if pod, ok := obj.(*keelsonv1.Pod); ok {
				s.podSeen(nil, pod)
			}
		},
		UpdateFunc: func(before, after any) {
			old, okOld := before.(*keelsonv1.Pod)
			pod, ok := after.(*keelsonv1.Pod)
			if !ok || !okOld {
				return
			}
			if old.UID != pod.UID { // deleted and made again while the watch was away
				s.podLost(old)
				old = nil
			}
			s.podSeen(old, pod)
		},
		DeleteFunc: func(obj any) {
			if pod, ok := finalState(obj).(*keelsonv1.Pod); ok {
				s.podLost(pod)
			}
		},
	}
}

// podSeen sorts a Pod: to place, placed, or of no concern. old is its version before, if
// there was one.
func (s *scheduler) podSeen(old, pod *keelsonv1.Pod) {
	switch {
	case state.IsTerminal(pod):
		s.podLost(pod)
	case pod.Spec.NodeName != "":
		s.podPlaced(old, pod)
	case pod.DeletionTimestamp != nil || s.profileOf(pod) == nil:
		s.podLost(pod)
	default:
		s.podWaits(old, pod)
	}
}

func (s *scheduler) podPlaced(old, pod *keelsonv1.Pod) {
	if old != nil && old.Spec.NodeName != "" && !state.IsTerminal(old) {
		if !countsDifferently(old, pod) {
			return
		}
		before, after := state.NewPodInfo(old), state.NewPodInfo(pod)
		s.cache.SetPod(after)
		s.queue.Happened(&plugins.Event{Kind: podChanges(before, after), OldPod: before, NewPod: after})
		return
	}
	s.queue.Remove(pod.UID)
	info := state.NewPodInfo(pod)
	s.cache.SetPod(info)
	s.queue.Happened(&plugins.Event{Kind: plugins.PodPlaced, NewPod: info})
}

// podChanges compares two versions of a bound Pod.
func podChanges(before, after *state.PodInfo) plugins.EventKind {
	var changes plugins.EventKind
	if !maps.Equal(before.Labels(), after.Labels()) {
		changes |= plugins.PodRelabelled
	}
	if less := before.Requests.Plus(after.Requests, -1); less.MilliCPU > 0 || less.Memory > 0 || less.EphemeralStorage > 0 {
		changes |= plugins.PodShrunk
	}
	// Topology spread leaves out Pods that are being deleted.
	if before.Pod.DeletionTimestamp == nil && after.Pod.DeletionTimestamp != nil {
		changes |= plugins.PodRelabelled
	}
	return changes
}

func (s *scheduler) podWaits(old, pod *keelsonv1.Pod) {
	if old != nil && !queue.Changed(old, pod) && sameNomination(old, pod) && s.queue.Pod(pod.UID) != nil {
		// Its own condition came back. What is decided next needs its resource version.
		s.queue.Set(s.queue.Pod(pod.UID).WithStatusOf(pod))
		return
	}
	info := state.NewPodInfo(pod)
	switch nominated := s.cache.NominatedNode(pod.UID); {
	case old == nil || !sameNomination(old, pod):
		s.cache.Nominate(info, pod.Status.NominatedNodeName)
	case nominated != "":
		s.cache.Nominate(info, nominated)
	}
	s.queue.Set(info)
}

func sameNomination(a, b *keelsonv1.Pod) bool {
	return a.Status.NominatedNodeName == b.Status.NominatedNodeName
}

// podLost forgets a Pod that ended or is gone; what it held, or was to get, may help
// others.
func (s *scheduler) podLost(pod *keelsonv1.Pod) {
	waited := s.queue.Remove(pod.UID)
	nominated := s.cache.NominatedNode(pod.UID) != ""
	gone := s.cache.RemovePod(pod.UID)
	if gone == nil && nominated {
		gone = waited
	}
	if gone != nil {
		s.queue.Happened(&plugins.Event{Kind: plugins.PodGone, OldPod: gone})
	}
}

// finalState unwraps what an informer says about an object whose end it missed.
func finalState(obj any) any {
	if missed, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		return missed.Obj
	}
	return obj
}
