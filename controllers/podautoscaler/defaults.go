package podautoscaler

import (
	"time"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// defaultUtilization is the target in percent of an autoscaler that names no metric.
const defaultUtilization = 80

// specOf is the spec with the defaults that admission would have written: objects may
// have come past it.
func specOf(spec *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) *upstreamautoscalingv2.HorizontalPodAutoscalerSpec {
	complete := spec.DeepCopy()
	if complete.MinReplicas == nil {
		complete.MinReplicas = new(int32(1))
	}
	if len(complete.Metrics) == 0 {
		complete.Metrics = []upstreamautoscalingv2.MetricSpec{{
			Type: upstreamautoscalingv2.ResourceMetricSourceType,
			Resource: &upstreamautoscalingv2.ResourceMetricSource{
				Name:   corev1.ResourceCPU,
				Target: upstreamautoscalingv2.MetricTarget{Type: upstreamautoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(defaultUtilization))},
			},
		}}
	}
	return complete
}

// completeBehavior fills in upstream's defaults (its pkg/apis/autoscaling/v2): up at once
// by four Pods or double in 15 seconds, whatever is more; down after window, by any number.
func completeBehavior(behavior *upstreamautoscalingv2.HorizontalPodAutoscalerBehavior, window time.Duration) upstreamautoscalingv2.HorizontalPodAutoscalerBehavior {
	return upstreamautoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp: completeRules(behavior.ScaleUp, 0, []upstreamautoscalingv2.HPAScalingPolicy{
			{Type: upstreamautoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
			{Type: upstreamautoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		}),
		ScaleDown: completeRules(behavior.ScaleDown, window, []upstreamautoscalingv2.HPAScalingPolicy{
			{Type: upstreamautoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		}),
	}
}

func completeRules(given *upstreamautoscalingv2.HPAScalingRules, window time.Duration, policies []upstreamautoscalingv2.HPAScalingPolicy) *upstreamautoscalingv2.HPAScalingRules {
	rules := upstreamautoscalingv2.HPAScalingRules{}
	if given != nil {
		rules = *given
	}
	if rules.StabilizationWindowSeconds == nil {
		rules.StabilizationWindowSeconds = new(int32(window / time.Second))
	}
	if rules.SelectPolicy == nil {
		rules.SelectPolicy = new(upstreamautoscalingv2.MaxChangePolicySelect)
	}
	if len(rules.Policies) == 0 {
		rules.Policies = policies
	}
	return &rules
}
