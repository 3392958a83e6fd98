package statefulset

import (
	"slices"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// planUpdate deletes Pods of an old revision, the highest number first and none below
// the partition, so that at most maxUnavailable are unavailable.
func (p *plan) planUpdate(in input, replicas []slot) {
	unavailable := 0
	for _, s := range replicas {
		if in.unavailable(s.pod) {
			unavailable++
		}
	}
	var useless, serving []*keelsonv1.Pod
	for i, s := range slices.Backward(replicas) {
		switch {
		case i < in.partition || s.pod == nil || s.pod.DeletionTimestamp != nil || revisionOf(s.pod) == in.update:
			// Stays, comes, or goes already.
		case slices.Contains(p.ended, s.pod):
			// Makes room already.
		case in.available(s.pod):
			serving = append(serving, s.pod)
		default:
			useless = append(useless, s.pod)
		}
	}
	if in.parallel {
		// In order nothing is updated before every Pod is available; here a Pod that does
		// not serve costs nothing, and must not keep the update from curing it.
		p.updated = useless
	}
	room := min(max(0, in.maxUnavailable-unavailable), len(serving))
	p.updated = append(p.updated, serving[:room]...)
}
