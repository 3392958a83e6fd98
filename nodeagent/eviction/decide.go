package eviction

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Observation is how much of something there is, in bytes or pieces.
type Observation struct{ Available, Capacity int64 }

// Observations are what could be measured.
type Observations map[Signal]Observation

// memory is what one round has to know of those before it.
type memory struct {
	// since says when a threshold was crossed that is crossed still.
	since map[thresholdKey]time.Time
	// seen says when a condition was true last.
	seen map[corev1.NodeConditionType]time.Time
	// active are the thresholds that acted in the last round: they hold until MinReclaim
	// is free as well.
	active []Threshold
}

// verdict is what follows from one look at the node.
type verdict struct {
	// Conditions of the Node that are true, sorted.
	Conditions []corev1.NodeConditionType
	// Active are the thresholds to act on, the most urgent first.
	Active []Threshold
}

// decide compares what was observed with the thresholds. transition is how long a
// condition stays true after it was true last.
func decide(before memory, thresholds []Threshold, seen Observations, transition time.Duration, now time.Time) (verdict, memory) {
	crossed := crossedThresholds(thresholds, seen, false)
	for _, t := range crossedThresholds(before.active, seen, true) {
		if !slices.ContainsFunc(crossed, func(c Threshold) bool { return c.key() == t.key() }) {
			crossed = append(crossed, t)
		}
	}
	after := memory{since: map[thresholdKey]time.Time{}, seen: maps.Clone(before.seen)}
	if after.seen == nil {
		after.seen = map[corev1.NodeConditionType]time.Time{}
	}
	var v verdict
	for _, t := range crossed {
		first, ok := before.since[t.key()]
		if !ok {
			first = now
		}
		after.since[t.key()] = first
		after.seen[conditionOf(t.Signal)] = now
		if now.Sub(first) >= t.Grace {
			v.Active = append(v.Active, t)
		}
	}
	after.active = slices.Clone(v.Active)
	for condition, last := range after.seen {
		if last.Equal(now) || now.Sub(last) < transition {
			v.Conditions = append(v.Conditions, condition)
		}
	}
	slices.Sort(v.Conditions)
	slices.SortStableFunc(v.Active, func(a, b Threshold) int { return cmp.Compare(urgency(a), urgency(b)) })
	return v, after
}

// urgency puts memory first, as upstream.
func urgency(t Threshold) int {
	if resourceOf(t.Signal) == corev1.ResourceMemory {
		return 0
	}
	return 1
}

// crossedThresholds are those below which something has fallen; reclaim asks for their
// MinReclaim as well.
func crossedThresholds(thresholds []Threshold, seen Observations, reclaim bool) []Threshold {
	var crossed []Threshold
	for _, t := range thresholds {
		o, ok := seen[t.Signal]
		if !ok {
			continue
		}
		wanted := t.Value.of(o.Capacity)
		if reclaim {
			wanted += t.MinReclaim.of(o.Capacity)
		}
		if o.Available < wanted {
			crossed = append(crossed, t)
		}
	}
	return crossed
}
