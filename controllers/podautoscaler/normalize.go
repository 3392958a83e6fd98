package podautoscaler

import (
	"math"
	"time"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
)

// recommendation is how many replicas the metrics once asked for.
type recommendation struct {
	replicas int32
	at       time.Time
}

// change is by how many replicas the target was once scaled; never negative.
type change struct {
	replicas int32
	at       time.Time
}

// history is what is remembered of one autoscaler.
type history struct {
	recommendations []recommendation
	ups, downs      []change
}

// limits are between which numbers, and how fast, the target is scaled.
type limits struct {
	min, max, current int32
	// behavior nil means the rules of before there were any.
	behavior *upstreamautoscalingv2.HorizontalPodAutoscalerBehavior
	// window is how long recommendations hold a scale-down back where behavior does
	// not say.
	window time.Duration
}

// finding is a reason and a message of a condition.
type finding struct{ reason, message string }

// normalized is what becomes of a recommendation.
type normalized struct {
	replicas int32
	// able is what AbleToScale says.
	able finding
	// limited tells whether the limits cut the recommendation, and why.
	limited bool
	why     finding
}

var (
	readyForNewScale    = finding{"ReadyForNewScale", "recommended size matches current size"}
	scaleDownStabilized = finding{"ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"}
	scaleUpStabilized   = finding{"ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"}

	withinRange     = finding{"DesiredWithinRange", "the desired count is within the acceptable range"}
	scaleUpLimit    = finding{"ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"}
	scaleDownLimit  = finding{"ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"}
	tooManyReplicas = finding{"TooManyReplicas", "the desired replica count is more than the maximum replica count"}
	tooFewReplicas  = finding{"TooFewReplicas", "the desired replica count is less than the minimum replica count"}
)

// normalize holds a recommendation to the limits and to what was recommended and done
// before, and remembers it.
func (h *history) normalize(desired int32, l limits, now time.Time) normalized {
	var stable int32
	n := normalized{able: readyForNewScale}
	if l.behavior == nil {
		stable = h.stabilize(desired, l.window, now)
		if stable != desired {
			n.able = scaleDownStabilized
		}
		n.replicas, n.why = bound(stable, l)
	} else {
		behavior := completeBehavior(l.behavior, l.window)
		stable = h.stabilizeBoth(desired, l.current, behavior, now)
		if stable != desired {
			n.able = scaleDownStabilized
			if desired >= l.current {
				n.able = scaleUpStabilized
			}
		}
		n.replicas, n.why = h.boundRate(stable, l, behavior, now)
	}
	n.limited = n.replicas != stable
	return n
}

// remember keeps a recommendation in the place of one that does not count any more.
func (h *history) remember(desired int32, now time.Time, outdated func(recommendation) bool) {
	for i := len(h.recommendations) - 1; i >= 0; i-- {
		if outdated(h.recommendations[i]) {
			h.recommendations[i] = recommendation{desired, now}
			return
		}
	}
	h.recommendations = append(h.recommendations, recommendation{desired, now})
}

// stabilize is the highest recommendation of the window.
func (h *history) stabilize(desired int32, window time.Duration, now time.Time) int32 {
	cutoff, highest := now.Add(-window), desired
	for _, r := range h.recommendations {
		if !r.at.Before(cutoff) {
			highest = max(highest, r.replicas)
		}
	}
	h.remember(desired, now, func(r recommendation) bool { return r.at.Before(cutoff) })
	return highest
}

// stabilizeBoth moves the present number no further than the lowest recommendation of
// the window for scaling up, and the highest of the one for scaling down.
func (h *history) stabilizeBoth(desired, current int32, behavior upstreamautoscalingv2.HorizontalPodAutoscalerBehavior, now time.Time) int32 {
	upCutoff := now.Add(-seconds(*behavior.ScaleUp.StabilizationWindowSeconds))
	downCutoff := now.Add(-seconds(*behavior.ScaleDown.StabilizationWindowSeconds))
	lowest, highest := desired, desired
	for _, r := range h.recommendations {
		if r.at.After(upCutoff) {
			lowest = min(lowest, r.replicas)
		}
		if r.at.After(downCutoff) {
			highest = max(highest, r.replicas)
		}
	}
	h.remember(desired, now, func(r recommendation) bool { return r.at.Before(upCutoff) && r.at.Before(downCutoff) })
	return min(max(current, lowest), highest)
}

// bound holds a number between the limits, and lets it at most double, or go to four:
// a first measurement may be nonsense.
func bound(desired int32, l limits) (int32, finding) {
	most, why := l.max, tooManyReplicas
	if doubled := ceil(max(2*float64(l.current), 4)); l.max > doubled {
		most, why = doubled, scaleUpLimit
	}
	switch {
	case desired < l.min:
		return l.min, tooFewReplicas
	case desired > most:
		return most, why
	}
	return desired, withinRange
}

// boundRate holds a number between the limits, and the change within the policies.
func (h *history) boundRate(desired int32, l limits, behavior upstreamautoscalingv2.HorizontalPodAutoscalerBehavior, now time.Time) (int32, finding) {
	switch {
	case desired > l.current:
		most, why := l.max, tooManyReplicas
		if rate := max(h.upLimit(l.current, behavior.ScaleUp, now), l.current); most > rate {
			most, why = rate, scaleUpLimit
		}
		if desired > most {
			return most, why
		}
	case desired < l.current:
		least, why := l.min, tooFewReplicas
		if rate := min(h.downLimit(l.current, behavior.ScaleDown, now), l.current); least < rate {
			least, why = rate, scaleDownLimit
		}
		if desired < least {
			return least, why
		}
	}
	return desired, withinRange
}

// upLimit is to how many replicas the policies let the target grow. A percentage is
// rounded up, or one replica would never become two.
func (h *history) upLimit(current int32, rules *upstreamautoscalingv2.HPAScalingRules, now time.Time) int32 {
	return h.limit(current, rules, now, func(start float64, policy upstreamautoscalingv2.HPAScalingPolicy) float64 {
		if policy.Type == upstreamautoscalingv2.PercentScalingPolicy {
			return math.Ceil(start * (1 + float64(policy.Value)/100))
		}
		return start + float64(policy.Value)
	}, true)
}

// downLimit is to how many replicas the policies let the target shrink.
func (h *history) downLimit(current int32, rules *upstreamautoscalingv2.HPAScalingRules, now time.Time) int32 {
	return h.limit(current, rules, now, func(start float64, policy upstreamautoscalingv2.HPAScalingPolicy) float64 {
		if policy.Type == upstreamautoscalingv2.PercentScalingPolicy {
			return math.Trunc(start * (1 - float64(policy.Value)/100))
		}
		return start - float64(policy.Value)
	}, false)
}

// limit is the farthest number that one policy allows, or with Min the nearest that one
// does; each counts from what there was at the beginning of its period.
func (h *history) limit(current int32, rules *upstreamautoscalingv2.HPAScalingRules, now time.Time, allowed func(start float64, policy upstreamautoscalingv2.HPAScalingPolicy) float64, up bool) int32 {
	if *rules.SelectPolicy == upstreamautoscalingv2.DisabledPolicySelect || len(rules.Policies) == 0 {
		return current
	}
	highest := up != (*rules.SelectPolicy == upstreamautoscalingv2.MinChangePolicySelect)
	var result float64
	for i, policy := range rules.Policies {
		since := now.Add(-seconds(policy.PeriodSeconds))
		start := float64(current) - changed(h.ups, since) + changed(h.downs, since)
		switch proposed := allowed(start, policy); {
		case i == 0:
			result = proposed
		case highest:
			result = max(result, proposed)
		default:
			result = min(result, proposed)
		}
	}
	return int32(min(max(result, math.MinInt32), math.MaxInt32))
}

func changed(changes []change, since time.Time) float64 {
	total := 0.0
	for _, c := range changes {
		if c.at.After(since) {
			total += float64(c.replicas)
		}
	}
	return total
}

// scaled remembers that the target was scaled, for as long as a policy looks back.
// Without rules nothing is counted; what was counted before stays for when there are
// some again.
func (h *history) scaled(from, to int32, behavior *upstreamautoscalingv2.HorizontalPodAutoscalerBehavior, now time.Time) {
	if behavior == nil {
		return
	}
	complete := completeBehavior(behavior, 0)
	oldest := now.Add(-max(longestPeriod(complete.ScaleUp), longestPeriod(complete.ScaleDown)))
	h.ups, h.downs = kept(h.ups, oldest), kept(h.downs, oldest)
	if to > from {
		h.ups = append(h.ups, change{to - from, now})
	} else {
		h.downs = append(h.downs, change{from - to, now})
	}
}

func kept(changes []change, oldest time.Time) []change {
	var recent []change
	for _, c := range changes {
		if !c.at.Before(oldest) {
			recent = append(recent, c)
		}
	}
	return recent
}

func longestPeriod(rules *upstreamautoscalingv2.HPAScalingRules) time.Duration {
	longest := int32(0)
	for _, policy := range rules.Policies {
		longest = max(longest, policy.PeriodSeconds)
	}
	return seconds(longest)
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }
