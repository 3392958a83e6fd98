package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"math"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// ResourceMetrics says what Pods use of CPU and memory.
type ResourceMetrics interface {
	// PodMetrics returns what is measured of the Pods; those that are not are left out.
	// The error says why nothing can be measured at all.
	PodMetrics(ctx context.Context, pods []*keelsonv1.Pod) ([]metricsv1beta1.PodMetrics, error)
}

// CustomMetrics reads metrics that agents do not measure. Values are in thousandths.
type CustomMetrics interface {
	// Pods returns the values of a metric of Pods, by the name of the Pod.
	Pods(ctx context.Context, namespace, metric string, selector labels.Selector) (map[string]int64, error)
	// Object returns the value of a metric of one object in the namespace, or of the
	// Namespace itself.
	Object(ctx context.Context, namespace, metric string, of upstreamautoscalingv2.CrossVersionObjectReference, selector labels.Selector) (int64, error)
	// External returns the values of a metric that is of no object.
	External(ctx context.Context, namespace, metric string, selector labels.Selector) ([]int64, error)
}

// target is what is scaled, as its scale says.
type target struct {
	namespace                    string
	specReplicas, statusReplicas int32
	pods                         []*keelsonv1.Pod
	tolerances                   tolerances
	calc                         calculator
}

// proposal is what one metric asks for.
type proposal struct {
	replicas int32
	// metric is how events and conditions call it.
	metric string
	status upstreamautoscalingv2.MetricStatus
}

// metricError is why a metric proposes nothing: the reason of the condition, and the
// error as the condition tells it.
type metricError struct {
	reason string
	told   error
	// wrapped is told with the kind of metric before it.
	wrapped error
}

// contextError is one that a condition tells without its context, and an event with it.
type contextError struct {
	context string
	err     error
}

func (e *contextError) Error() string { return e.context + ": " + e.err.Error() }
func (e *contextError) Unwrap() error { return e.err }

// failed is the answer where a metric, what, proposes nothing.
func failed(reason, what string, err error) (proposal, *metricError) {
	told := err
	if in, ok := errors.AsType[*contextError](err); ok {
		told = in.err
	}
	return proposal{}, &metricError{reason: reason, told: told, wrapped: fmt.Errorf("%s: %w", what, err)}
}

// propose reads one metric and says what it asks for.
func (r *Reconciler) propose(ctx context.Context, spec *upstreamautoscalingv2.MetricSpec, t target) (proposal, *metricError) {
	switch {
	case spec.Type == upstreamautoscalingv2.ObjectMetricSourceType && spec.Object != nil:
		p, err := r.proposeByObject(ctx, spec.Object, t)
		if err != nil {
			return failed("FailedGetObjectMetric", "failed to get object metric value", err)
		}
		return p, nil
	case spec.Type == upstreamautoscalingv2.PodsMetricSourceType && spec.Pods != nil:
		p, err := r.proposeByPods(ctx, spec.Pods, t)
		if err != nil {
			return failed("FailedGetPodsMetric", "failed to get pods metric value", err)
		}
		return p, nil
	case spec.Type == upstreamautoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		p, current, err := r.proposeByResource(ctx, spec.Resource.Name, "", spec.Resource.Target, t)
		if err != nil {
			return failed("FailedGetResourceMetric", fmt.Sprintf("failed to get %s resource metric value", spec.Resource.Name), err)
		}
		p.status = upstreamautoscalingv2.MetricStatus{
			Type:     spec.Type,
			Resource: &upstreamautoscalingv2.ResourceMetricStatus{Name: spec.Resource.Name, Current: current},
		}
		return p, nil
	case spec.Type == upstreamautoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		source := spec.ContainerResource
		p, current, err := r.proposeByResource(ctx, source.Name, source.Container, source.Target, t)
		if err != nil {
			return failed("FailedGetContainerResourceMetric", fmt.Sprintf("failed to get %s container metric value", source.Container), err)
		}
		p.status = upstreamautoscalingv2.MetricStatus{
			Type:              spec.Type,
			ContainerResource: &upstreamautoscalingv2.ContainerResourceMetricStatus{Name: source.Name, Container: source.Container, Current: current},
		}
		return p, nil
	case spec.Type == upstreamautoscalingv2.ExternalMetricSourceType && spec.External != nil:
		p, err := r.proposeByExternal(ctx, spec.External, t)
		if err != nil {
			return failed("FailedGetExternalMetric", fmt.Sprintf("failed to get %s external metric value", spec.External.Metric.Name), err)
		}
		return p, nil
	}
	err := fmt.Errorf("unknown metric source type %q", string(spec.Type))
	return proposal{}, &metricError{reason: "InvalidMetricSourceType", told: err, wrapped: err}
}

// proposeByResource is for CPU and memory, of whole Pods or of one container of each.
func (r *Reconciler) proposeByResource(ctx context.Context, name corev1.ResourceName, container string, wanted upstreamautoscalingv2.MetricTarget, t target) (proposal, upstreamautoscalingv2.MetricValueStatus, error) {
	var current upstreamautoscalingv2.MetricValueStatus
	if wanted.AverageValue == nil && wanted.AverageUtilization == nil {
		return proposal{}, current, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	what := "utilization"
	if wanted.AverageValue != nil {
		what = "usage"
	}
	measured, err := r.resources.PodMetrics(ctx, t.pods)
	if err == nil && len(measured) == 0 {
		err = errors.New("no metrics returned from resource metrics API")
	}
	if err != nil {
		return proposal{}, current, fmt.Errorf("failed to get %s %s: unable to get metrics for resource %s: %w", name, what, name, err)
	}
	metrics := samplesOf(measured, name, container)
	p := proposal{metric: fmt.Sprintf("%s resource", name)}
	var raw int64
	if wanted.AverageValue != nil {
		p.replicas, raw, err = t.calc.average(t.specReplicas, wanted.AverageValue.MilliValue(), name, t.tolerances, metrics, t.pods)
	} else {
		var used int32
		p.replicas, used, raw, err = t.calc.utilization(t.specReplicas, *wanted.AverageUtilization, name, t.tolerances, metrics, t.pods, container)
		current.AverageUtilization = &used
		p.metric = fmt.Sprintf("%s resource utilization (percentage of request)", name)
		if container != "" {
			p.metric = fmt.Sprintf("%s container resource utilization (percentage of request)", name)
		}
	}
	if err != nil {
		return proposal{}, current, fmt.Errorf("failed to get %s %s: %w", name, what, err)
	}
	format := resource.DecimalSI
	if name == corev1.ResourceMemory {
		format = resource.BinarySI
	}
	current.AverageValue = resource.NewMilliQuantity(raw, format)
	return p, current, nil
}

// samplesOf sums what the containers of each Pod use; a Pod of which one is not
// measured has no sample.
func samplesOf(measured []metricsv1beta1.PodMetrics, name corev1.ResourceName, container string) samples {
	all := make(samples, len(measured))
	for i := range measured {
		pod := &measured[i]
		total, complete := int64(0), false
		for j := range pod.Containers {
			c := &pod.Containers[j]
			if container != "" && container != c.Name {
				continue
			}
			quantity, ok := c.Usage[name]
			if complete = ok; !ok {
				break
			}
			total += quantity.MilliValue()
		}
		if complete {
			all[pod.Name] = sample{at: pod.Timestamp.Time, window: pod.Window.Duration, value: total}
		}
	}
	return all
}

func (r *Reconciler) proposeByPods(ctx context.Context, source *upstreamautoscalingv2.PodsMetricSource, t target) (proposal, error) {
	selector, err := metav1.LabelSelectorAsSelector(source.Metric.Selector)
	if err != nil {
		return proposal{}, err
	}
	if source.Target.AverageValue == nil {
		return proposal{}, errors.New("invalid pods metric source: no average value target was set")
	}
	values, err := r.custom.Pods(ctx, t.namespace, source.Metric.Name, allOf(selector, source.Metric.Selector))
	if err == nil && len(values) == 0 {
		err = errors.New("no metrics returned from custom metrics API")
	}
	if err != nil {
		return proposal{}, fmt.Errorf("unable to get metric %s: %w", source.Metric.Name, err)
	}
	metrics := samples{}
	for _, pod := range t.pods {
		if value, ok := values[pod.Name]; ok {
			metrics[pod.Name] = sample{value: value}
		}
	}
	replicas, used, err := t.calc.average(t.specReplicas, source.Target.AverageValue.MilliValue(), "", t.tolerances, metrics, t.pods)
	if err != nil {
		return proposal{}, err
	}
	return proposal{
		replicas: replicas, metric: "pods metric " + source.Metric.Name,
		status: upstreamautoscalingv2.MetricStatus{Type: upstreamautoscalingv2.PodsMetricSourceType, Pods: &upstreamautoscalingv2.PodsMetricStatus{
			Metric: source.Metric, Current: upstreamautoscalingv2.MetricValueStatus{AverageValue: milli(used)},
		}},
	}, nil
}

func (r *Reconciler) proposeByObject(ctx context.Context, source *upstreamautoscalingv2.ObjectMetricSource, t target) (proposal, error) {
	selector, err := metav1.LabelSelectorAsSelector(source.Metric.Selector)
	if err != nil {
		return proposal{}, err
	}
	wanted := source.Target
	if wanted.Value == nil && wanted.AverageValue == nil {
		return proposal{}, errors.New("invalid object metric source: neither a value target nor an average value target was set")
	}
	of := source.DescribedObject
	value, err := r.custom.Object(ctx, t.namespace, source.Metric.Name, of, allOf(selector, source.Metric.Selector))
	if err != nil {
		err = fmt.Errorf("unable to get metric %s on %s %s/%s: %w", source.Metric.Name, of.Kind, t.namespace, of.Name, err)
		if wanted.AverageValue != nil {
			err = &contextError{fmt.Sprintf("failed to get %s object metric", source.Metric.Name), err}
		}
		return proposal{}, err
	}
	p, current, err := proposeByValue(value, wanted, t)
	if err != nil {
		return proposal{}, err
	}
	p.metric = fmt.Sprintf("%s metric %s", of.Kind, source.Metric.Name)
	p.status = upstreamautoscalingv2.MetricStatus{Type: upstreamautoscalingv2.ObjectMetricSourceType, Object: &upstreamautoscalingv2.ObjectMetricStatus{
		DescribedObject: of, Metric: source.Metric, Current: current,
	}}
	return p, nil
}

func (r *Reconciler) proposeByExternal(ctx context.Context, source *upstreamautoscalingv2.ExternalMetricSource, t target) (p proposal, err error) {
	if source.Target.Value == nil && source.Target.AverageValue == nil {
		return proposal{}, errors.New("invalid external metric source: neither a value target nor an average value target was set")
	}
	defer func() {
		switch {
		case err == nil:
		case source.Target.AverageValue != nil:
			err = &contextError{fmt.Sprintf("failed to get %s external metric", source.Metric.Name), err}
		default:
			err = &contextError{"failed to get external metric " + source.Metric.Name, err}
		}
	}()
	selector, err := metav1.LabelSelectorAsSelector(source.Metric.Selector)
	if err != nil {
		return proposal{}, err
	}
	values, err := r.custom.External(ctx, t.namespace, source.Metric.Name, allOf(selector, source.Metric.Selector))
	if err == nil && len(values) == 0 {
		err = errors.New("no metrics returned from external metrics API")
	}
	if err != nil {
		return proposal{}, fmt.Errorf("unable to get external metric %s/%s/%+v: %w", t.namespace, source.Metric.Name, source.Metric.Selector, err)
	}
	p, current, err := proposeByValue(sumOf(values), source.Target, t)
	if err != nil {
		return proposal{}, err
	}
	p.metric = fmt.Sprintf("external metric %s(%+v)", source.Metric.Name, source.Metric.Selector)
	p.status = upstreamautoscalingv2.MetricStatus{Type: upstreamautoscalingv2.ExternalMetricSourceType, External: &upstreamautoscalingv2.ExternalMetricStatus{
		Metric: source.Metric, Current: current,
	}}
	return p, nil
}

// proposeByValue is for a value of all Pods together, with a target for all or for each.
func proposeByValue(value int64, wanted upstreamautoscalingv2.MetricTarget, t target) (proposal, upstreamautoscalingv2.MetricValueStatus, error) {
	if wanted.AverageValue != nil {
		replicas, used := perPod(t.statusReplicas, value, wanted.AverageValue.MilliValue(), t.tolerances)
		return proposal{replicas: replicas}, upstreamautoscalingv2.MetricValueStatus{AverageValue: milli(used)}, nil
	}
	replicas, err := whole(t.specReplicas, float64(value)/float64(wanted.Value.MilliValue()), t.tolerances, t.pods)
	return proposal{replicas: replicas}, upstreamautoscalingv2.MetricValueStatus{Value: milli(value)}, err
}

// allOf: a metric without a selector means all of its series, where a selector that is
// nil selects none.
func allOf(selector labels.Selector, given *metav1.LabelSelector) labels.Selector {
	if given == nil {
		return labels.Everything()
	}
	return selector
}

func milli(value int64) *resource.Quantity {
	return resource.NewMilliQuantity(value, resource.DecimalSI)
}

// sumOf stays at the largest number instead of running over.
func sumOf(values []int64) int64 {
	total := int64(0)
	for _, value := range values {
		if value > 0 && total > math.MaxInt64-value {
			return math.MaxInt64
		}
		total += value
	}
	return total
}
