package scheduler

import (
	"cmp"

	toolscache "k8s.io/client-go/tools/cache"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func (s *scheduler) nodeHandler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if node, ok := obj.(*keelsonv1.Node); ok {
				s.nodes.setNode(node)
				s.queue.happened(nodeAdded)
			}
		},
		UpdateFunc: func(before, after any) {
			old, okOld := before.(*keelsonv1.Node)
			node, ok := after.(*keelsonv1.Node)
			if !ok || !okOld {
				return
			}
			changes := nodeChanges(old, node)
			if changes == 0 {
				return // a heartbeat
			}
			s.nodes.setNode(node)
			s.queue.happened(changes)
		},
		DeleteFunc: func(obj any) {
			if node, ok := finalState(obj).(*keelsonv1.Node); ok {
				s.nodes.removeNode(node.Name)
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

// podSeen sorts a Pod: to place, placed, or of no concern. old is its version
// before, if there was one.
func (s *scheduler) podSeen(old, pod *keelsonv1.Pod) {
	switch {
	case isTerminal(pod):
		s.podLost(pod)
	case pod.Spec.NodeName != "":
		s.queue.remove(pod.UID)
		// Agents write status often: only a Pod that is news costs anything.
		if old == nil || old.Spec.NodeName != pod.Spec.NodeName || specChanged(old, pod) || isTerminal(old) {
			s.nodes.setPod(NewPodInfo(pod))
		}
	case pod.DeletionTimestamp != nil || !s.serves(pod):
		s.queue.remove(pod.UID)
	default:
		s.queue.set(NewPodInfo(pod))
	}
}

// podLost forgets a Pod that ended or is gone; what it held may help others.
func (s *scheduler) podLost(pod *keelsonv1.Pod) {
	s.queue.remove(pod.UID)
	if s.nodes.removePod(pod.UID) {
		s.queue.happened(podGone)
	}
}

func (s *scheduler) serves(pod *keelsonv1.Pod) bool {
	return cmp.Or(pod.Spec.SchedulerName, keelsonv1.DefaultSchedulerName) == s.name
}

// finalState unwraps what an informer says about an object whose end it missed.
func finalState(obj any) any {
	if missed, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		return missed.Obj
	}
	return obj
}
