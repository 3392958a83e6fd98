package tainteviction

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// decision is what becomes of one Pod.
type decision struct {
	// evict: its time is up.
	evict bool
	// wait is the time until then; 0 for a Pod that stays.
	wait time.Duration
}

// noExecute are the taints that send Pods away.
func noExecute(taints []corev1.Taint) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(taints), func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectNoExecute })
}

// decide says how long a Pod with such tolerations may stay on a node with such taints,
// all NoExecute; since is when it was first seen there.
func decide(taints []corev1.Taint, tolerations []corev1.Toleration, since, now time.Time) decision {
	if len(taints) == 0 {
		return decision{}
	}
	shortest, limited := time.Duration(0), false
	for i := range taints {
		at := slices.IndexFunc(tolerations, func(t corev1.Toleration) bool { return tolerates(&t, &taints[i]) })
		if at < 0 {
			return decision{evict: true}
		}
		seconds := tolerations[at].TolerationSeconds
		if seconds == nil {
			continue
		}
		limit := max(time.Duration(*seconds)*time.Second, 0)
		if !limited || limit < shortest {
			shortest, limited = limit, true
		}
	}
	if !limited {
		return decision{}
	}
	if wait := since.Add(shortest).Sub(now); wait > 0 {
		return decision{wait: wait}
	}
	return decision{evict: true}
}

func tolerates(toleration *corev1.Toleration, taint *corev1.Taint) bool {
	switch {
	case toleration.Effect != "" && toleration.Effect != taint.Effect, toleration.Key != "" && toleration.Key != taint.Key:
		return false
	case toleration.Operator == corev1.TolerationOpExists:
		return true
	case toleration.Operator == "", toleration.Operator == corev1.TolerationOpEqual:
		return toleration.Value == taint.Value
	}
	return false
}

// tainted is since when the node has had all of the taints, as far as they say so.
func tainted(taints []corev1.Taint) (since time.Time, known bool) {
	for _, t := range taints {
		if t.TimeAdded == nil {
			return time.Time{}, false
		}
		if t.TimeAdded.After(since) {
			since = t.TimeAdded.Time
		}
	}
	return since, len(taints) > 0
}
