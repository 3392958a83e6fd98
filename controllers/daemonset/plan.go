package daemonset

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// burst is how many Pods one reconciliation creates at most, and how many it deletes.
const burst = 250

// input is what a plan depends on.
type input struct {
	places []place
	limits limits
	// latest says whether a Pod is made from the present template.
	latest          func(*keelsonv1.Pod) bool
	minReadySeconds int32
	now             time.Time
	// hold says that a failed Pod on a node must wait before it is replaced.
	hold func(node string) bool
}

// failure is a Pod that has ended, which no daemon should.
type failure struct {
	pod  *keelsonv1.Pod
	node string
}

// plan is what one reconciliation does.
type plan struct {
	// create names the nodes that get a Pod.
	create []string
	// remove are Pods to delete, those in failed and succeeded included.
	remove []*keelsonv1.Pod
	// failed and succeeded are removed because they ended.
	failed, succeeded []failure
	// held are nodes whose failed Pod waits for its back-off.
	held []string
}

// makePlan decides. An update goes on only where every node has the Pods that it should
// have, or will get none now.
func makePlan(in input) plan {
	p := planPlaces(in)
	if len(p.create) == 0 && len(p.remove) == 0 && in.limits.rolling {
		rollout := planRollout(in)
		p.create, p.remove = rollout.create, rollout.remove
	}
	p.create = p.create[:min(len(p.create), burst)]
	p.remove = p.remove[:min(len(p.remove), burst)]
	return p
}

// planPlaces brings one Pod to every node that should have one, two while a surge lasts.
func planPlaces(in input) plan {
	var p plan
	for _, place := range in.places {
		switch {
		case !place.known:
			// Bound Pods of a node that is gone are the Pod garbage collector's.
			for _, pod := range place.pods {
				if pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil {
					p.remove = append(p.remove, pod)
				}
			}
		case place.run && len(place.pods) == 0:
			p.create = append(p.create, place.name)
		case place.stay:
			p.planDaemons(in, place)
		default:
			for _, pod := range place.pods {
				if pod.DeletionTimestamp == nil {
					p.remove = append(p.remove, pod)
				}
			}
		}
	}
	return p
}

// planDaemons removes what has ended and what is too many on one node.
func (p *plan) planDaemons(in input, place place) {
	var running []*keelsonv1.Pod
	held := false
	for _, pod := range place.pods {
		switch {
		case pod.DeletionTimestamp != nil:
		case pod.Status.Phase == corev1.PodFailed && in.hold(place.name):
			held = true
		case pod.Status.Phase == corev1.PodFailed:
			p.failed = append(p.failed, failure{pod, place.name})
			p.remove = append(p.remove, pod)
		case pod.Status.Phase == corev1.PodSucceeded:
			p.succeeded = append(p.succeeded, failure{pod, place.name})
			p.remove = append(p.remove, pod)
		default:
			running = append(running, pod)
		}
	}
	if held {
		p.held = append(p.held, place.name)
	}
	switch {
	case !in.limits.surges() && !in.limits.pairs:
		p.remove = append(p.remove, running[min(1, len(running)):]...)
	case len(running) == 0 && place.run && !held:
		p.create = append(p.create, place.name)
	case len(running) > 1:
		p.remove = append(p.remove, surplus(in, running)...)
	}
}

// surplus keeps the oldest new Pod and the oldest old one of a node, and the old one
// only until the new one is available or it is of no use any more.
func surplus(in input, running []*keelsonv1.Pod) []*keelsonv1.Pod {
	var remove []*keelsonv1.Pod
	var newest, old *keelsonv1.Pod
	for _, pod := range running {
		switch latest := in.latest(pod); {
		case latest && newest == nil:
			newest = pod
		case !latest && old == nil:
			old = pod
		default:
			remove = append(remove, pod)
		}
	}
	if newest != nil && old != nil && (!podstatus.IsReady(old) || in.available(newest)) {
		remove = append(remove, old)
	}
	return remove
}

func (in input) available(pod *keelsonv1.Pod) bool {
	wait, ready := podstatus.AvailableAfter(pod, in.minReadySeconds, in.now)
	return ready && wait == 0
}

// isGone says that pod has ended and is being deleted: whoever still holds it, it keeps
// nothing from starting.
func isGone(pod *keelsonv1.Pod) bool {
	return podstatus.IsFinished(pod) && pod.DeletionTimestamp != nil
}
