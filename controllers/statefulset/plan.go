package statefulset

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// revisions are the names of the two ControllerRevisions that Pods are made from: the
// one that an update comes from and the one that it leads to.
type revisions struct{ current, update string }

// input is what a plan depends on. pods are the StatefulSet's, each with a number of it.
type input struct {
	settings
	revisions
	pods []*keelsonv1.Pod
	now  time.Time
}

// slot is the place of one number. pod is nil where there is none yet.
type slot struct {
	ordinal int
	pod     *keelsonv1.Pod
	// revision is the one that a missing Pod is made from.
	revision string
}

// plan is what one reconciliation does: replicas, then condemned, then updated. Where
// Pods go in parallel all of it may be there; in order there is one step at most,
// except that an update may replace several Pods.
type plan struct {
	// create are the numbers that get a Pod.
	create []slot
	// ended are Pods that have ended and make room for new ones of the same name.
	ended []*keelsonv1.Pod
	// fix are numbers whose Pods lack the labels of their identity.
	fix []slot
	// condemned are Pods beyond the wanted numbers, the highest first.
	condemned []*keelsonv1.Pod
	// updated are Pods of an old revision, deleted to be made anew, the highest first.
	updated []*keelsonv1.Pod
	// waitsFor says what keeps the next step from being taken; for the log.
	waitsFor string
}

// makePlan decides, as upstream does.
func makePlan(in input) plan {
	replicas, condemned := in.partitionPods()
	var p plan
	if !p.planReplicas(in, replicas) {
		return p
	}
	if !p.planCondemned(in, condemned) {
		return p
	}
	if in.rolling {
		p.planUpdate(in, replicas)
	}
	return p
}

// partitionPods sorts the Pods into the wanted numbers, ascending, and the rest,
// descending.
func (in input) partitionPods() (replicas []slot, condemned []*keelsonv1.Pod) {
	replicas = make([]slot, in.replicas)
	for i := range replicas {
		replicas[i] = slot{ordinal: in.start + i, revision: in.update}
		if i < in.partition {
			replicas[i].revision = in.current
		}
	}
	for _, pod := range in.pods {
		ordinal, ok := ordinalOf(in.name, pod.Name)
		switch i := ordinal - in.start; {
		case !ok:
		case i >= 0 && i < in.replicas:
			replicas[i].pod = pod
		default:
			condemned = append(condemned, pod)
		}
	}
	slices.SortFunc(condemned, func(a, b *keelsonv1.Pod) int { return cmp.Compare(in.ordinal(b), in.ordinal(a)) })
	return replicas, condemned
}

func (in input) ordinal(pod *keelsonv1.Pod) int {
	ordinal, _ := ordinalOf(in.name, pod.Name)
	return ordinal
}

// planReplicas brings every wanted number a Pod; ok is false where order demands to
// wait for that.
func (p *plan) planReplicas(in input, replicas []slot) (ok bool) {
	for _, s := range replicas {
		if wait := p.planReplica(in, s); wait != "" && !in.parallel {
			p.waitsFor = wait
			return false
		}
	}
	return true
}

// planReplica plans for one number, and says what has to happen before its successors
// may be looked at.
func (p *plan) planReplica(in input, s slot) (wait string) {
	name := podName(in.name, s.ordinal)
	switch {
	case s.pod == nil:
		p.create = append(p.create, s)
		return "creation of " + name
	case podstatus.IsFinished(s.pod):
		if s.pod.DeletionTimestamp == nil {
			p.ended = append(p.ended, s.pod)
		}
		return fmt.Sprintf("%s to be replaced: its containers have ended", name)
	case s.pod.DeletionTimestamp != nil:
		wait = name + " to terminate"
	case !runningAndReady(s.pod):
		wait = name + " to be running and ready"
	case !in.available(s.pod):
		wait = fmt.Sprintf("%s to be ready for %d s", name, in.minReadySeconds)
	}
	if wait != "" && !in.parallel {
		return wait
	}
	if !isIdentified(s.pod) {
		p.fix = append(p.fix, s)
	}
	return wait
}

// planCondemned removes what is too many, the highest number first; ok is false where
// order demands to wait.
func (p *plan) planCondemned(in input, condemned []*keelsonv1.Pod) (ok bool) {
	var firstUnavailable *keelsonv1.Pod
	for _, pod := range slices.Backward(condemned) {
		if in.unavailable(pod) {
			firstUnavailable = pod
			break
		}
	}
	for _, pod := range condemned {
		switch {
		case in.parallel:
			if pod.DeletionTimestamp == nil {
				p.condemned = append(p.condemned, pod)
			}
		case pod.DeletionTimestamp != nil:
			p.waitsFor = pod.Name + " to terminate before the next one goes"
			return false
		case pod != firstUnavailable && in.unavailable(pod):
			p.waitsFor = firstUnavailable.Name + " to be available before a higher one goes"
			return false
		default:
			p.condemned = append(p.condemned, pod)
			return false
		}
	}
	return true
}

// available says whether pod has been ready for long enough.
func (in input) available(pod *keelsonv1.Pod) bool {
	wait, ready := podstatus.AvailableAfter(pod, in.minReadySeconds, in.now)
	return ready && wait == 0
}

// unavailable says whether an update or a scale down must reckon without pod.
func (in input) unavailable(pod *keelsonv1.Pod) bool {
	return pod == nil || pod.DeletionTimestamp != nil || !in.available(pod)
}

func runningAndReady(pod *keelsonv1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && podstatus.IsReady(pod)
}
