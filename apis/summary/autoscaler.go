package summary

import (
	"fmt"
	"strconv"
	"strings"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"

	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
)

// shownMetrics is how many metrics the TARGETS column names.
const shownMetrics = 2

// HorizontalPodAutoscaler returns the REFERENCE, TARGETS, MINPODS and REPLICAS columns.
func HorizontalPodAutoscaler(hpa *autoscalingv2.HorizontalPodAutoscaler) autoscalingv2.HorizontalPodAutoscalerSummary {
	minPods := "<unset>"
	if hpa.Spec.MinReplicas != nil {
		minPods = strconv.Itoa(int(*hpa.Spec.MinReplicas))
	}
	return autoscalingv2.HorizontalPodAutoscalerSummary{
		Reference: hpa.Spec.ScaleTargetRef.Kind + "/" + hpa.Spec.ScaleTargetRef.Name,
		Targets:   targets(hpa.Spec.Metrics, hpa.Status.CurrentMetrics),
		MinPods:   minPods,
		Replicas:  hpa.Status.CurrentReplicas,
	}
}

func targets(specs []upstreamautoscalingv2.MetricSpec, statuses []upstreamautoscalingv2.MetricStatus) string {
	if len(specs) == 0 {
		return "<none>"
	}
	var shown []string
	for i := range min(len(specs), shownMetrics) {
		status := upstreamautoscalingv2.MetricStatus{}
		if i < len(statuses) {
			status = statuses[i]
		}
		shown = append(shown, targetOf(&specs[i], &status))
	}
	text := strings.Join(shown, ", ")
	if more := len(specs) - shownMetrics; more > 0 {
		return fmt.Sprintf("%s + %d more...", text, more)
	}
	return text
}

func targetOf(spec *upstreamautoscalingv2.MetricSpec, status *upstreamautoscalingv2.MetricStatus) string {
	var current upstreamautoscalingv2.MetricValueStatus
	switch {
	case spec.External != nil:
		if status.External != nil {
			current = status.External.Current
		}
		return valueTarget(spec.External.Target, current)
	case spec.Object != nil:
		if status.Object != nil {
			current = status.Object.Current
		}
		return valueTarget(spec.Object.Target, current)
	case spec.Pods != nil:
		if status.Pods != nil {
			current = status.Pods.Current
		}
		return quantity(current.AverageValue) + "/" + quantity(spec.Pods.Target.AverageValue)
	case spec.Resource != nil:
		if status.Resource != nil {
			current = status.Resource.Current
		}
		return fmt.Sprintf("%s: %s", spec.Resource.Name, resourceTarget(spec.Resource.Target, current))
	case spec.ContainerResource != nil:
		if status.ContainerResource != nil {
			current = status.ContainerResource.Current
		}
		return fmt.Sprintf("%s: %s", spec.ContainerResource.Name, resourceTarget(spec.ContainerResource.Target, current))
	}
	return "<unknown type>"
}

func valueTarget(target upstreamautoscalingv2.MetricTarget, current upstreamautoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return fmt.Sprintf("%s/%s (avg)", quantity(current.AverageValue), quantity(target.AverageValue))
	}
	return quantity(current.Value) + "/" + quantity(target.Value)
}

func resourceTarget(target upstreamautoscalingv2.MetricTarget, current upstreamautoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return quantity(current.AverageValue) + "/" + quantity(target.AverageValue)
	}
	used, wanted := "<unknown>", "<auto>"
	if current.AverageUtilization != nil {
		used = fmt.Sprintf("%d%%", *current.AverageUtilization)
	}
	if target.AverageUtilization != nil {
		wanted = fmt.Sprintf("%d%%", *target.AverageUtilization)
	}
	return used + "/" + wanted
}

func quantity(q *resource.Quantity) string {
	if q == nil {
		return "<unknown>"
	}
	return q.String()
}
