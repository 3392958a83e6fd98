package deployment

import (
	"cmp"
	"math"
	"slices"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// plan is one step of a Deployment, and what the sets look like after it.
type plan struct {
	// current is the set of the Deployment's template; nil where there is none yet and
	// it is not time to make one. It is to be created when it has no have.
	current *set
	// old are the others, oldest first.
	old []*set
	// remove are old sets beyond the limit of the history.
	remove []*appsv1.ReplicaSet
	// estimate says that the step was one of a rollout, so that progress can be judged.
	estimate bool
	// reason says which of the ways below was taken.
	reason string
}

// all are the sets, the current one last.
func (p *plan) all() []*set {
	if p.current == nil {
		return p.old
	}
	return append(slices.Clone(p.old), p.current)
}

// creates says whether the step makes a ReplicaSet.
func (p *plan) creates() bool { return p.current != nil && p.current.have == nil }

// changesSets says whether a ReplicaSet that exists gets another size or annotation.
func (p *plan) changesSets() bool {
	return slices.ContainsFunc(p.all(), (*set).changed)
}

// planStep decides the next step of d. sets are the ReplicaSets that it controls; they
// are not changed.
func planStep(d *appsv1.Deployment, spec *settings, sets []*appsv1.ReplicaSet) plan {
	p := plan{}
	p.current, p.old = split(&d.Spec.Template, sets)
	if d.DeletionTimestamp != nil {
		p.reason = "The Deployment is being deleted"
		return p
	}
	if p.current != nil {
		annotateCurrent(d, p.current, p.old)
		p.current.want.Spec.MinReadySeconds = spec.minReadySeconds
	}
	if spec.paused {
		p.reason = "The Deployment is paused"
		if p.isScaling(spec) || len(activeOf(p.all())) < 2 {
			p.scale(d, spec)
		}
		p.cleanUp(spec)
		return p
	}
	if p.isScaling(spec) {
		p.reason = "The wanted count has changed"
		p.scale(d, spec)
		if p.changesSets() {
			return p
		}
	}
	p.estimate = true
	if spec.recreate {
		p.reason = "Recreate"
		p.recreate(d, spec)
	} else {
		p.reason = "RollingUpdate"
		p.roll(d, spec)
	}
	if !p.creates() && !p.changesSets() && isComplete(spec, count(&p)) {
		p.cleanUp(spec)
	}
	return p
}

// create plans the set of d's template.
func (p *plan) create(d *appsv1.Deployment, spec *settings) {
	p.current = newSet(d)
	annotateCurrent(d, p.current, p.old)
	p.current.noteWanted(spec)
}

// roll moves Pods from old sets to the current one, as far as the bounds allow now. It
// grows or shrinks, not both: what may shrink depends on what has become of the growth.
// Upstream does not wait for what the sets say about their last change, and so can
// overstep both bounds while their controller is slow.
func (p *plan) roll(d *appsv1.Deployment, spec *settings) {
	if slices.ContainsFunc(p.all(), (*set).unsettled) {
		p.reason = "RollingUpdate: waiting for the last change of a ReplicaSet to be seen"
		return
	}
	if p.current == nil {
		p.create(d, spec)
		p.current.scale(p.roomForCurrent(spec), spec)
	} else if size := p.roomForCurrent(spec); size != p.current.size() {
		p.current.scale(size, spec)
		return
	}
	p.shrinkOld(spec)
}

// roomForCurrent is the size that the current set may have.
func (p *plan) roomForCurrent(spec *settings) int32 {
	size := p.current.size()
	if size >= spec.replicas {
		return spec.replicas
	}
	room := spec.maxReplicas() - pods(p.all())
	return size + max(0, min(room, spec.replicas-size))
}

// shrinkOld takes Pods away from old sets: unhealthy ones first, since that costs no
// availability and they would block the rollout; then as many as are available beyond
// the minimum.
//
// Pods of the current set that are not available yet count as if they never will be:
// the surge must not be spent on making room for more of them.
func (p *plan) shrinkOld(spec *settings) {
	old := activeOf(p.old)
	allowed := sizes(p.all()) - spec.minAvailable() - (p.current.size() - p.current.available())
	if len(old) == 0 || allowed <= 0 {
		return
	}
	for _, s := range old {
		unhealthy := s.size() - s.available()
		if cut := min(allowed, unhealthy); cut > 0 {
			s.scale(s.size()-cut, spec)
			allowed -= cut
		}
	}
	spare := available(p.all()) - spec.minAvailable()
	for _, s := range old {
		if cut := min(spare, s.size()); cut > 0 {
			s.scale(s.size()-cut, spec)
			spare -= cut
		}
	}
}

// recreate empties the old sets, waits until none of their Pods is left, and only then
// fills the current one.
func (p *plan) recreate(d *appsv1.Deployment, spec *settings) {
	if old := activeOf(p.old); len(old) > 0 {
		for _, s := range old {
			s.scale(0, spec)
		}
		return
	}
	if slices.ContainsFunc(p.old, func(s *set) bool { return !s.gone() }) {
		p.reason = "Recreate: waiting for the old Pods to end"
		return
	}
	if p.current == nil {
		p.create(d, spec)
	}
	if p.current.size() != spec.replicas {
		p.current.scale(spec.replicas, spec)
	}
}

// isScaling says whether the wanted count has changed since a set was scaled.
func (p *plan) isScaling(spec *settings) bool {
	return slices.ContainsFunc(activeOf(p.all()), func(s *set) bool {
		desired, ok := s.noted(annotationDesired)
		return ok && desired != spec.replicas
	})
}

// scale follows a change of the wanted count without hastening a rollout.
func (p *plan) scale(d *appsv1.Deployment, spec *settings) {
	active := activeOf(p.all())
	switch {
	case len(active) == 1:
		p.scaleAlone(active[0], spec)
	case len(active) == 0:
		if newest := p.newest(); newest != nil && newest.size() != spec.replicas {
			p.scaleAlone(newest, spec)
		}
	case p.saturated(spec):
		for _, s := range activeOf(p.old) {
			s.scale(0, spec)
		}
	case !spec.recreate:
		scaleInProportion(active, d.Status.Replicas, spec)
	}
}

// scaleAlone gives the only set that has a size the whole of it. Pods of the others that
// are still to be deleted count as long as they are there.
func (p *plan) scaleAlone(s *set, spec *settings) {
	if spec.replicas <= s.size() {
		s.scale(spec.replicas, spec)
		return
	}
	if slices.ContainsFunc(p.all(), (*set).unsettled) {
		return
	}
	room := spec.maxReplicas() - pods(p.all())
	s.scale(s.size()+max(0, min(room, spec.replicas-s.size())), spec)
}

func (p *plan) newest() *set {
	switch {
	case p.current != nil:
		return p.current
	case len(p.old) > 0:
		return p.old[len(p.old)-1]
	default:
		return nil
	}
}

// saturated says whether the current set has all the Pods that the Deployment wants, and
// was meant to.
func (p *plan) saturated(spec *settings) bool {
	if p.current == nil {
		return false
	}
	desired, ok := p.current.noted(annotationDesired)
	return ok && desired == spec.replicas && p.current.size() == spec.replicas && p.current.available() == spec.replicas
}

// scaleInProportion gives each set its share of what is added or taken away, so that a
// template that does not work does not get more Pods than it had in proportion.
// observed is the size of the Deployment where a set does not say for what it was made.
func scaleInProportion(active []*set, observed int32, spec *settings) {
	allowed := int32(0)
	if spec.replicas > 0 {
		allowed = spec.maxReplicas()
	}
	add := allowed - sizes(active)
	// The larger first; among alike ones the younger grows and the older shrinks.
	slices.SortFunc(active, func(a, b *set) int {
		if add > 0 {
			return cmp.Or(-cmp.Compare(a.size(), b.size()), -byAge(a, b))
		}
		return cmp.Or(-cmp.Compare(a.size(), b.size()), byAge(a, b))
	})
	wanted, left := make([]int32, len(active)), add
	for i, s := range active {
		share := shareOf(s, observed, spec)
		if add > 0 {
			share = max(0, min(share, left))
		} else {
			share = min(0, max(share, left))
		}
		wanted[i] = s.size() + share
		left -= share
	}
	// What rounding has left over is the largest set's.
	wanted[0] = max(0, wanted[0]+left)
	for i, s := range active {
		s.scale(wanted[i], spec)
	}
}

// shareOf is by how much s alone would grow if it kept its part of the whole.
func shareOf(s *set, observed int32, spec *settings) int32 {
	if spec.replicas == 0 {
		return -s.size()
	}
	whole, ok := s.noted(annotationMax)
	if !ok || whole == 0 {
		whole = observed
	}
	if whole == 0 {
		return 0
	}
	size := float64(s.size()) * float64(spec.maxReplicas()) / float64(whole)
	return int32(math.Round(size)) - s.size()
}

// cleanUp forgets the oldest sets beyond the limit. One that still has Pods stays.
func (p *plan) cleanUp(spec *settings) {
	if spec.historyLimit < 0 {
		return
	}
	history := slices.DeleteFunc(slices.Clone(p.old), func(s *set) bool { return s.want.DeletionTimestamp != nil })
	slices.SortStableFunc(history, func(a, b *set) int { return cmp.Compare(revisionOf(a.want), revisionOf(b.want)) })
	for _, s := range history[:max(0, len(history)-spec.historyLimit)] {
		status := &s.want.Status
		if s.size() == 0 && status.Replicas == 0 && status.ObservedGeneration >= s.want.Generation {
			p.remove = append(p.remove, s.have)
		}
	}
}
