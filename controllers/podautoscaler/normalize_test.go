package podautoscaler

import (
	"testing"
	"time"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	"pgregory.net/rapid"
)

const window = 5 * time.Minute

func rules(stabilization int32, choose upstreamautoscalingv2.ScalingPolicySelect, policies ...upstreamautoscalingv2.HPAScalingPolicy) *upstreamautoscalingv2.HPAScalingRules {
	return &upstreamautoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &stabilization, SelectPolicy: &choose, Policies: policies}
}

func pods(value, period int32) upstreamautoscalingv2.HPAScalingPolicy {
	return upstreamautoscalingv2.HPAScalingPolicy{Type: upstreamautoscalingv2.PodsScalingPolicy, Value: value, PeriodSeconds: period}
}

func percent(value, period int32) upstreamautoscalingv2.HPAScalingPolicy {
	return upstreamautoscalingv2.HPAScalingPolicy{Type: upstreamautoscalingv2.PercentScalingPolicy, Value: value, PeriodSeconds: period}
}

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// The cases are upstream's, of TestNormalizeDesiredReplicas, TestConvertDesiredReplicasWithRules
// and TestScalingWithRules.
func TestNormalize(t *testing.T) {
	const most, least, never = upstreamautoscalingv2.MaxChangePolicySelect, upstreamautoscalingv2.MinChangePolicySelect, upstreamautoscalingv2.DisabledPolicySelect
	behavior := func(up, down *upstreamautoscalingv2.HPAScalingRules) *upstreamautoscalingv2.HorizontalPodAutoscalerBehavior {
		return &upstreamautoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: up, ScaleDown: down}
	}
	for what, tc := range map[string]struct {
		history   history
		desired   int32
		limits    limits
		want      int32
		able, why string
		limited   bool
	}{
		"without rules, as it is":                  {desired: 5, limits: limits{min: 1, max: 10, current: 4}, want: 5, able: "ReadyForNewScale", why: "DesiredWithinRange"},
		"without rules, at most the double":        {desired: 50, limits: limits{min: 1, max: 100, current: 10}, want: 20, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"without rules, four at once from one":     {desired: 50, limits: limits{min: 1, max: 100, current: 1}, want: 4, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"more than the most":                       {desired: 12, limits: limits{min: 1, max: 10, current: 8}, want: 10, able: "ReadyForNewScale", why: "TooManyReplicas", limited: true},
		"less than the least":                      {desired: 1, limits: limits{min: 3, max: 10, current: 5}, want: 3, able: "ReadyForNewScale", why: "TooFewReplicas", limited: true},
		"a recent recommendation holds back":       {history: history{recommendations: []recommendation{{8, ago(time.Minute)}, {3, ago(30 * time.Second)}}}, desired: 2, limits: limits{min: 1, max: 10, current: 8}, want: 8, able: "ScaleDownStabilized", why: "DesiredWithinRange"},
		"an old recommendation does not":           {history: history{recommendations: []recommendation{{8, ago(6 * time.Minute)}}}, desired: 2, limits: limits{min: 1, max: 10, current: 8}, want: 2, able: "ReadyForNewScale", why: "DesiredWithinRange"},
		"default rules double, or add four":        {desired: 50, limits: limits{min: 1, max: 100, current: 10, behavior: behavior(nil, nil)}, want: 20, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"default rules wait before going down":     {history: history{recommendations: []recommendation{{8, ago(time.Minute)}}}, desired: 2, limits: limits{min: 1, max: 10, current: 8, behavior: behavior(nil, nil)}, want: 8, able: "ScaleDownStabilized", why: "DesiredWithinRange"},
		"up by Pods":                               {desired: 50, limits: limits{min: 1, max: 100, current: 10, behavior: behavior(rules(0, most, pods(3, 60)), nil)}, want: 13, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"up by a percentage, rounded up":           {desired: 50, limits: limits{min: 1, max: 100, current: 1, behavior: behavior(rules(0, most, percent(10, 60)), nil)}, want: 2, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"up by the lesser of two":                  {desired: 50, limits: limits{min: 1, max: 100, current: 10, behavior: behavior(rules(0, least, pods(3, 60), percent(100, 60)), nil)}, want: 13, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"up counts what was added in the period":   {history: history{ups: []change{{2, ago(30 * time.Second)}, {5, ago(2 * time.Minute)}}}, desired: 50, limits: limits{min: 1, max: 100, current: 12, behavior: behavior(rules(0, most, pods(3, 60)), nil)}, want: 13, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"up never means down":                      {history: history{ups: []change{{8, ago(30 * time.Second)}}}, desired: 50, limits: limits{min: 1, max: 100, current: 12, behavior: behavior(rules(0, most, pods(3, 60)), nil)}, want: 12, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"up is switched off":                       {desired: 50, limits: limits{min: 1, max: 100, current: 12, behavior: behavior(rules(0, never, pods(3, 60)), nil)}, want: 12, able: "ReadyForNewScale", why: "ScaleUpLimit", limited: true},
		"up waits for its window":                  {history: history{recommendations: []recommendation{{5, ago(30 * time.Second)}}}, desired: 9, limits: limits{min: 1, max: 100, current: 4, behavior: behavior(rules(60, most, pods(100, 60)), nil)}, want: 5, able: "ScaleUpStabilized", why: "DesiredWithinRange"},
		"down by Pods":                             {desired: 1, limits: limits{min: 1, max: 100, current: 10, behavior: behavior(nil, rules(0, most, pods(3, 60)))}, want: 7, able: "ReadyForNewScale", why: "ScaleDownLimit", limited: true},
		"down by a percentage":                     {desired: 1, limits: limits{min: 1, max: 100, current: 10, behavior: behavior(nil, rules(0, most, percent(25, 60)))}, want: 7, able: "ReadyForNewScale", why: "ScaleDownLimit", limited: true},
		"down by the lesser of two":                {desired: 1, limits: limits{min: 1, max: 100, current: 10, behavior: behavior(nil, rules(0, least, pods(3, 60), percent(50, 60)))}, want: 7, able: "ReadyForNewScale", why: "ScaleDownLimit", limited: true},
		"down counts what was taken in the period": {history: history{downs: []change{{2, ago(30 * time.Second)}}}, desired: 1, limits: limits{min: 1, max: 100, current: 8, behavior: behavior(nil, rules(0, most, pods(3, 60)))}, want: 7, able: "ReadyForNewScale", why: "ScaleDownLimit", limited: true},
		"down is switched off":                     {desired: 1, limits: limits{min: 1, max: 100, current: 8, behavior: behavior(nil, rules(0, never))}, want: 8, able: "ReadyForNewScale", why: "ScaleDownLimit", limited: true},
	} {
		t.Run(what, func(t *testing.T) {
			tc.limits.window = window
			n := tc.history.normalize(tc.desired, tc.limits, noon)
			if n.replicas != tc.want || n.able.reason != tc.able || n.why.reason != tc.why || n.limited != tc.limited {
				t.Errorf("%d, %s, %s, limited %t; want %d, %s, %s, limited %t", n.replicas, n.able.reason, n.why.reason, n.limited, tc.want, tc.able, tc.why, tc.limited)
			}
		})
	}
}

func anyRules(t *rapid.T, name string) *upstreamautoscalingv2.HPAScalingRules {
	if rapid.Bool().Draw(t, name+" unset") {
		return nil
	}
	choose := rapid.SampledFrom([]upstreamautoscalingv2.ScalingPolicySelect{upstreamautoscalingv2.MaxChangePolicySelect,
		upstreamautoscalingv2.MinChangePolicySelect, upstreamautoscalingv2.DisabledPolicySelect}).Draw(t, name+" select")
	var policies []upstreamautoscalingv2.HPAScalingPolicy
	for range rapid.IntRange(1, 3).Draw(t, name+" policies") {
		value, period := rapid.Int32Range(1, 200).Draw(t, name+" value"), rapid.Int32Range(1, 1800).Draw(t, name+" period")
		if rapid.Bool().Draw(t, name+" percent") {
			policies = append(policies, percent(value, period))
		} else {
			policies = append(policies, pods(value, period))
		}
	}
	return rules(rapid.Int32Range(0, 3600).Draw(t, name+" window"), choose, policies...)
}

// TestStoriesStayWithinTheLimits: whatever the metrics say, with whatever rules, the
// number stays between the least and the most once it is there, with rules never moves
// against the recommendation, and moves in no period by more than every policy allows.
func TestStoriesStayWithinTheLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := limits{window: window}
		l.min = rapid.Int32Range(0, 10).Draw(t, "min")
		l.max = l.min + rapid.Int32Range(1, 200).Draw(t, "max")
		l.current = rapid.Int32Range(max(l.min, 1), l.max).Draw(t, "current")
		if rapid.Bool().Draw(t, "rules") {
			l.behavior = &upstreamautoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: anyRules(t, "up"), ScaleDown: anyRules(t, "down")}
		}
		now, h := noon, history{recommendations: []recommendation{{l.current, noon}}}
		var ups []change
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "pause")) * time.Second)
			desired := rapid.Int32Range(0, 400).Draw(t, "desired")
			n := h.normalize(desired, l, now)
			if n.replicas < l.min || n.replicas > l.max {
				t.Fatalf("%d is outside %d-%d", n.replicas, l.min, l.max)
			}
			// Without rules the highest of the window counts, upwards too.
			if l.behavior != nil && (n.replicas > l.current && desired <= l.current || n.replicas < l.current && desired >= l.current) {
				t.Fatalf("from %d to %d, where %d was asked for", l.current, n.replicas, desired)
			}
			if n.replicas != l.current {
				h.scaled(l.current, n.replicas, l.behavior, now)
			}
			if n.replicas > l.current {
				ups = append(ups, change{n.replicas - l.current, now})
				checkRate(t, l.behavior, ups, n.replicas, now)
			}
			l.current = n.replicas
		}
		if len(h.recommendations) > 45 {
			t.Fatalf("%d recommendations are kept", len(h.recommendations))
		}
	})
}

// checkRate: where policies count Pods alone, no more are added in a period than the
// most generous one allows, and what was taken away before.
func checkRate(t *rapid.T, behavior *upstreamautoscalingv2.HorizontalPodAutoscalerBehavior, ups []change, current int32, now time.Time) {
	if behavior == nil || behavior.ScaleUp == nil || len(behavior.ScaleUp.Policies) != 1 || behavior.ScaleDown == nil ||
		*behavior.ScaleDown.SelectPolicy != upstreamautoscalingv2.DisabledPolicySelect {
		return
	}
	policy := behavior.ScaleUp.Policies[0]
	if policy.Type != upstreamautoscalingv2.PodsScalingPolicy {
		return
	}
	if *behavior.ScaleUp.SelectPolicy == upstreamautoscalingv2.DisabledPolicySelect {
		t.Fatalf("scaled up to %d although that is switched off", current)
	}
	if added := changed(ups, now.Add(-seconds(policy.PeriodSeconds))); added > float64(policy.Value) {
		t.Fatalf("%v added within %d s, allowed are %d", added, policy.PeriodSeconds, policy.Value)
	}
}
