package daemonset

import (
	"fmt"

	upstreamappsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// limits are how fast an update may go.
type limits struct {
	// rolling says that Pods of an old template are replaced at all.
	rolling bool
	// surge is how many nodes may have two Pods; unavailable on how many no Pod may be
	// available.
	surge, unavailable int
	// pairs says that the surge is a share of no node at all: no Pod comes, but where an
	// old and a new one stand beside each other, they may.
	pairs bool
}

func (l limits) surges() bool { return l.surge > 0 }

// limitsOf scales the limits of spec to the number of nodes that should run a Pod, with
// the defaults that admission would have written.
func limitsOf(spec *upstreamappsv1.DaemonSetSpec, desired int) (limits, error) {
	strategy := spec.UpdateStrategy
	if strategy.Type == upstreamappsv1.OnDeleteDaemonSetStrategyType {
		return limits{}, nil
	}
	surge, unavailable := intstr.FromInt32(0), intstr.FromInt32(1)
	if rolling := strategy.RollingUpdate; rolling != nil {
		surge = *intstr.ValueOrDefault(rolling.MaxSurge, surge)
		unavailable = *intstr.ValueOrDefault(rolling.MaxUnavailable, unavailable)
	}
	l := limits{rolling: true}
	var err error
	if l.surge, err = intstr.GetScaledValueFromIntOrPercent(&surge, desired, true); err != nil {
		return limits{}, fmt.Errorf("spec.updateStrategy.rollingUpdate.maxSurge: %w", err)
	}
	if l.unavailable, err = intstr.GetScaledValueFromIntOrPercent(&unavailable, desired, true); err != nil {
		return limits{}, fmt.Errorf("spec.updateStrategy.rollingUpdate.maxUnavailable: %w", err)
	}
	if ofOne, err := intstr.GetScaledValueFromIntOrPercent(&surge, 1, true); err == nil {
		l.pairs = ofOne > 0 && l.surge == 0
	}
	if desired > 0 && l.surge == 0 && l.unavailable == 0 {
		// With neither, nothing could ever be updated.
		l.unavailable = 1
	}
	return l, nil
}

// planRollout replaces Pods of an old template. Pods that are being deleted count
// for nothing: planPlaces replaces them.
func planRollout(in input) plan {
	if in.limits.surges() {
		return planSurge(in)
	}
	return planReplacement(in)
}

// pair returns the Pod of the present template and that of an old one on a node; ok is
// false when there are several of a sort, which planPlaces deals with.
func pair(in input, place place) (latest, old *keelsonv1.Pod, ok bool) {
	for _, pod := range place.pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		slot := &old
		if in.latest(pod) {
			slot = &latest
		}
		if *slot != nil {
			return nil, nil, false
		}
		*slot = pod
	}
	return latest, old, true
}

// planReplacement deletes old Pods so that at most limits.unavailable nodes are without
// an available one. An old Pod that is not available may always go.
func planReplacement(in input) plan {
	var useless, candidates []*keelsonv1.Pod
	unavailable := 0
	for _, place := range in.places {
		if !place.run && len(place.pods) == 0 {
			continue
		}
		latest, old, ok := pair(in, place)
		switch {
		case !ok, (latest == nil) == (old == nil):
			unavailable++
		case latest != nil:
			if !in.available(latest) {
				unavailable++
			}
		case !in.available(old):
			useless = append(useless, old)
			unavailable++
		default:
			candidates = append(candidates, old)
		}
	}
	room := min(max(0, in.limits.unavailable-unavailable), len(candidates))
	return plan{remove: append(useless, candidates[:room]...)}
}

// surge is what planSurge finds on the nodes.
type surge struct {
	plan
	// unwanted are old Pods that serve on nodes which should no longer have one.
	unwanted []*keelsonv1.Pod
	// candidates are nodes whose old Pod serves and has no new one beside it.
	candidates []string
	// under counts the nodes where a new Pod is on its way beside an old one.
	under int
	// available counts the nodes with a Pod that serves, desired those that should have one.
	available, desired int
}

// planSurge starts new Pods beside old ones, on at most limits.surge nodes whose old Pod
// is available, and deletes an old Pod once the new one is available. On a node that
// should no longer run a Pod the old one stays until enough others are available.
func planSurge(in input) plan {
	var s surge
	for _, place := range in.places {
		s.look(in, place)
	}
	s.remove = append(s.remove, s.unwanted[:min(max(0, s.available-s.desired), len(s.unwanted))]...)
	s.create = append(s.create, s.candidates[:min(max(0, in.limits.surge-s.under), len(s.candidates))]...)
	return s.plan
}

// look takes one node in.
func (s *surge) look(in input, place place) {
	if place.run {
		s.desired++
	}
	latest, old, ok := pair(in, place)
	if !ok {
		s.under++
		return
	}
	newServes := latest != nil && in.available(latest)
	oldServes := old != nil && in.available(old)
	if oldServes || (old == nil && newServes) {
		s.available++
	}
	switch {
	case old == nil:
		// planPlaces brings the new one.
	case newServes:
		s.remove = append(s.remove, old)
	case latest != nil:
		s.under++
	case !oldServes && place.run:
		s.create = append(s.create, place.name)
	case !oldServes:
		s.remove = append(s.remove, old)
	case place.run:
		s.candidates = append(s.candidates, place.name)
	default:
		s.unwanted = append(s.unwanted, old)
	}
}
