// Package autoscalingv1 converts HorizontalPodAutoscalers between autoscaling/v2, the
// version that Keelson stores, and autoscaling/v1, as upstream's API server does: what v1
// has no field for is in annotations of upstream's names.
//
// It works on trees, so that a part of an object, such as what a client applies, stays a
// part. It does no IO and keeps no state.
package autoscalingv1

import (
	"encoding/json"
	"fmt"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// Kind is the one kind of the version.
const Kind = "HorizontalPodAutoscaler"

// Version is the version.
const Version = "v1"

// The annotations in which v1 has what it has no field for.
const (
	metricsAnnotation        = "autoscaling.alpha.kubernetes.io/metrics"
	currentMetricsAnnotation = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation     = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation       = "autoscaling.alpha.kubernetes.io/behavior"
	scaleDownAnnotation      = "autoscaling.alpha.kubernetes.io/scale-down-tolerance"
	scaleUpAnnotation        = "autoscaling.alpha.kubernetes.io/scale-up-tolerance"
)

// defaultCPUUtilization is the target of an autoscaler of v1 that names none, in percent.
const defaultCPUUtilization = 80

// FromV2 turns an autoscaler of v2 into one of v1. An object that names no version, such
// as an item of a list, names none after it.
func FromV2(object map[string]any) (map[string]any, error) {
	out := maps.Clone(object)
	if _, ok := out["apiVersion"]; ok {
		out["apiVersion"] = autoscalingv1.SchemeGroupVersion.String()
	}
	annotations := map[string]any{}
	if spec, ok := object["spec"].(map[string]any); ok {
		converted, err := specFromV2(spec, annotations)
		if err != nil {
			return nil, err
		}
		out["spec"] = converted
	}
	if status, ok := object["status"].(map[string]any); ok {
		converted, err := statusFromV2(status, annotations)
		if err != nil {
			return nil, err
		}
		out["status"] = converted
	}
	annotate(out, annotations)
	return out, nil
}

// annotate replaces the annotations that stand for fields.
func annotate(object, with map[string]any) {
	metadata, _ := object["metadata"].(map[string]any)
	had, _ := metadata["annotations"].(map[string]any)
	if len(had) == 0 && len(with) == 0 {
		return
	}
	annotations := maps.Clone(had)
	if annotations == nil {
		annotations = map[string]any{}
	}
	for _, name := range []string{metricsAnnotation, currentMetricsAnnotation, conditionsAnnotation, behaviorAnnotation, scaleDownAnnotation, scaleUpAnnotation} {
		delete(annotations, name)
	}
	maps.Copy(annotations, with)
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["annotations"] = annotations
	if len(annotations) == 0 {
		delete(metadata, "annotations")
	}
	object["metadata"] = metadata
}

func specFromV2(spec, annotations map[string]any) (map[string]any, error) {
	out := take(spec, "scaleTargetRef", "minReplicas", "maxReplicas")
	var metrics []autoscalingv2.MetricSpec
	if err := reshape(spec["metrics"], &metrics); err != nil {
		return nil, err
	}
	var others []autoscalingv1.MetricSpec
	for i := range metrics {
		if utilization := cpuTarget(&metrics[i]); utilization == nil {
			others = append(others, metricFromV2(&metrics[i]))
		} else if _, ok := out["targetCPUUtilizationPercentage"]; !ok {
			out["targetCPUUtilizationPercentage"] = int64(*utilization)
		}
	}
	if len(others) > 0 {
		if err := write(annotations, metricsAnnotation, others); err != nil {
			return nil, err
		}
	}
	if spec["behavior"] == nil {
		return out, nil
	}
	var rules behavior
	if err := reshape(spec["behavior"], &rules); err != nil {
		return nil, err
	}
	return out, write(annotations, behaviorAnnotation, rules)
}

// cpuTarget is the share of cpu that a metric aims at, nil for another kind of metric.
func cpuTarget(metric *autoscalingv2.MetricSpec) *int32 {
	if metric.Type != autoscalingv2.ResourceMetricSourceType || metric.Resource == nil || metric.Resource.Name != corev1.ResourceCPU {
		return nil
	}
	return metric.Resource.Target.AverageUtilization
}

func statusFromV2(status, annotations map[string]any) (map[string]any, error) {
	out := take(status, "observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")
	var metrics []autoscalingv2.MetricStatus
	if err := reshape(status["currentMetrics"], &metrics); err != nil {
		return nil, err
	}
	var all []autoscalingv1.MetricStatus
	for i := range metrics {
		m := &metrics[i]
		if m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Current.AverageUtilization != nil {
			out["currentCPUUtilizationPercentage"] = int64(*m.Resource.Current.AverageUtilization)
		}
		all = append(all, metricStatusFromV2(m))
	}
	if len(all) > 0 {
		if err := write(annotations, currentMetricsAnnotation, all); err != nil {
			return nil, err
		}
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition // of the same shape
	if err := reshape(status["conditions"], &conditions); err != nil || len(conditions) == 0 {
		return out, err
	}
	return out, write(annotations, conditionsAnnotation, conditions)
}

// ToV2 turns an autoscaler of v1 into one of v2. An annotation that cannot be read is
// dropped, as upstream drops it. A whole object without any metric aims at 80 % of cpu,
// a part of one does not.
func ToV2(object map[string]any, whole bool) (map[string]any, error) {
	out := maps.Clone(object)
	out["apiVersion"] = autoscalingv2.SchemeGroupVersion.String()
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	spec, hasSpec := object["spec"].(map[string]any)
	if hasSpec || whole || annotations[metricsAnnotation] != nil || annotations[behaviorAnnotation] != nil {
		converted, err := specToV2(spec, annotations, whole)
		if err != nil {
			return nil, err
		}
		out["spec"] = converted
	}
	status, hasStatus := object["status"].(map[string]any)
	if hasStatus {
		converted, err := statusToV2(status, annotations)
		if err != nil {
			return nil, err
		}
		out["status"] = converted
	}
	annotate(out, nil)
	return out, nil
}

func specToV2(spec, annotations map[string]any, whole bool) (map[string]any, error) {
	out := take(spec, "scaleTargetRef", "minReplicas", "maxReplicas")
	var others []autoscalingv1.MetricSpec
	var metrics []autoscalingv2.MetricSpec
	if read(annotations, metricsAnnotation, &others) {
		for i := range others {
			metrics = append(metrics, metricToV2(&others[i]))
		}
	}
	if target := spec["targetCPUUtilizationPercentage"]; target != nil {
		var percent int32
		if err := reshape(target, &percent); err != nil {
			return nil, err
		}
		metrics = append(metrics, cpuMetric(percent))
	}
	if len(metrics) == 0 && whole {
		metrics = append(metrics, cpuMetric(defaultCPUUtilization))
	}
	if len(metrics) > 0 {
		if err := put(out, "metrics", metrics); err != nil {
			return nil, err
		}
	}
	var rules behavior
	if read(annotations, behaviorAnnotation, &rules) && rules != (behavior{}) {
		if err := put(out, "behavior", rules.v2()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func cpuMetric(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
	}}
}

func statusToV2(status, annotations map[string]any) (map[string]any, error) {
	out := take(status, "observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")
	var all []autoscalingv1.MetricStatus
	var metrics []autoscalingv2.MetricStatus
	if read(annotations, currentMetricsAnnotation, &all) {
		for i := range all {
			metrics = append(metrics, metricStatusToV2(&all[i]))
		}
	} else if current := status["currentCPUUtilizationPercentage"]; current != nil {
		var percent int32
		if err := reshape(current, &percent); err != nil {
			return nil, err
		}
		metrics = append(metrics, autoscalingv2.MetricStatus{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{
			Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: &percent},
		}})
	}
	if len(metrics) > 0 {
		if err := put(out, "currentMetrics", metrics); err != nil {
			return nil, err
		}
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	if read(annotations, conditionsAnnotation, &conditions) {
		return out, put(out, "conditions", conditions)
	}
	return out, nil
}

// take returns the members of these names that are there.
func take(from map[string]any, names ...string) map[string]any {
	out := map[string]any{}
	for _, name := range names {
		if value, ok := from[name]; ok {
			out[name] = value
		}
	}
	return out
}

// reshape reads a part of a tree into a Go value.
func reshape(value, into any) error {
	if value == nil {
		return nil
	}
	encoded, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(encoded, into)
	}
	if err != nil {
		return fmt.Errorf("convert an autoscaler: %w", err)
	}
	return nil
}

// put writes a Go value into a tree.
func put(into map[string]any, name string, value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("convert an autoscaler: %w", err)
	}
	var tree any
	if err := utiljson.Unmarshal(encoded, &tree); err != nil {
		return fmt.Errorf("convert an autoscaler: %w", err)
	}
	into[name] = tree
	return nil
}

// write puts a value into an annotation.
func write(annotations map[string]any, name string, value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("convert an autoscaler: %w", err)
	}
	annotations[name] = string(encoded)
	return nil
}

// read reads an annotation that is there and fits.
func read(annotations map[string]any, name string, into any) bool {
	text, ok := annotations[name].(string)
	return ok && json.Unmarshal([]byte(text), into) == nil
}
