package podautoscaler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// decision is how many replicas there are to be, and why.
type decision struct {
	replicas int32
	reason   string
}

// decide says how many replicas there are to be. Without a decision the error says why;
// with one it tells of metrics that were left out.
func (r *Reconciler) decide(ctx context.Context, s *scope, target *found) (*decision, error) {
	current, least := s.status.CurrentReplicas, *s.spec.MinReplicas
	s.status.CurrentMetrics = nil
	switch {
	case current == 0 && !scalesFromZero(s.spec, s.status):
		s.set(upstreamautoscalingv2.ScalingActive, corev1.ConditionFalse, finding{"ScalingDisabled", "scaling is disabled since the replica count of the target is zero"})
		return &decision{replicas: 0}, nil
	case current > s.spec.MaxReplicas:
		return &decision{s.spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas"}, nil
	case current != 0 && current < least:
		return &decision{least, "Current number of replicas below Spec.MinReplicas"}, nil
	}
	wanted, err := r.fromMetrics(ctx, s, target)
	if wanted == nil {
		return nil, err
	}
	d := &decision{replicas: wanted.replicas}
	switch {
	case wanted.replicas > current:
		d.reason = wanted.metric + " above target"
	case wanted.replicas < current:
		d.reason = "All metrics below target"
	}
	n := s.remembered.history.normalize(wanted.replicas, limits{
		min: least, max: s.spec.MaxReplicas, current: current,
		behavior: s.spec.Behavior, window: r.options.DownscaleStabilization,
	}, s.now)
	s.set(upstreamautoscalingv2.AbleToScale, corev1.ConditionTrue, n.able)
	s.set(upstreamautoscalingv2.ScalingLimited, status(n.limited), n.why)
	d.replicas = n.replicas
	if current == 0 && d.replicas < least {
		d.replicas = least // it was scaled to zero when that was the least
		if d.reason == "" {
			d.reason = "Current number of replicas below Spec.MinReplicas"
		}
	}
	return d, err
}

// scalesFromZero: the target runs nothing, because its autoscaler once scaled it so;
// whoever else did wants it to stay.
func scalesFromZero(spec *upstreamautoscalingv2.HorizontalPodAutoscalerSpec, status *upstreamautoscalingv2.HorizontalPodAutoscalerStatus) bool {
	condition := conditionOf(status.Conditions, upstreamautoscalingv2.ScaledToZero)
	if condition == nil || condition.Status != corev1.ConditionTrue {
		return false
	}
	return *spec.MinReplicas != 0 || knowsWithoutPods(spec)
}

// knowsWithoutPods: one of the metrics has a value where no Pod runs.
func knowsWithoutPods(spec *upstreamautoscalingv2.HorizontalPodAutoscalerSpec) bool {
	for i := range spec.Metrics {
		switch spec.Metrics[i].Type {
		case upstreamautoscalingv2.ObjectMetricSourceType, upstreamautoscalingv2.ExternalMetricSourceType:
			return true
		}
	}
	return false
}

// fromMetrics is the highest of what the metrics ask for. A metric that cannot be read
// keeps the others from scaling down.
func (r *Reconciler) fromMetrics(ctx context.Context, s *scope, of *found) (*proposal, error) {
	t, err := r.measured(ctx, s, of)
	if err != nil {
		return nil, err
	}
	var highest *proposal
	var first *metricError
	failures := 0
	s.status.CurrentMetrics = make([]upstreamautoscalingv2.MetricStatus, len(s.spec.Metrics))
	for i := range s.spec.Metrics {
		p, failed := r.propose(ctx, &s.spec.Metrics[i], t)
		if failed != nil {
			recordFailed(r.recorder, s.hpa, failed.reason, failed.told.Error())
			if failures++; first == nil {
				first = failed
			}
			continue
		}
		s.status.CurrentMetrics[i] = p.status
		if highest == nil || p.replicas > highest.replicas {
			highest = &p
		}
	}
	if first != nil {
		err = fmt.Errorf("invalid metrics (%v invalid out of %v), first error is: %w", failures, len(s.spec.Metrics), first.wrapped)
		if highest == nil || highest.replicas < t.specReplicas {
			s.set(upstreamautoscalingv2.ScalingActive, corev1.ConditionFalse, finding{first.reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", first.told)})
			return nil, err
		}
	}
	s.set(upstreamautoscalingv2.ScalingActive, corev1.ConditionTrue, finding{"ValidMetricFound", "the HPA was able to successfully calculate a replica count from " + highest.metric})
	return highest, err
}

// measured finds the Pods that the scale selects, if no other autoscaler scales them.
func (r *Reconciler) measured(ctx context.Context, s *scope, of *found) (target, error) {
	invalid := func(event string, f finding, err error) (target, error) {
		recordFailed(r.recorder, s.hpa, event, err.Error())
		s.set(upstreamautoscalingv2.ScalingActive, corev1.ConditionFalse, f)
		return target{}, err
	}
	text := of.scale.Status.Selector
	if text == "" {
		return invalid("SelectorRequired", finding{"InvalidSelector", "the HPA target's scale is missing a selector"}, errors.New("selector is required"))
	}
	selector, err := labels.Parse(text)
	if err != nil {
		err = fmt.Errorf("couldn't convert selector into a corresponding internal selector object: %w", err)
		return invalid("InvalidSelector", finding{"InvalidSelector", err.Error()}, err)
	}
	var list keelsonv1.PodList
	err = r.client.List(ctx, &list, client.InNamespace(s.hpa.Namespace), client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return target{}, fmt.Errorf("unable to get pods while calculating replica count: %w", err)
	}
	t := target{
		namespace:    s.hpa.Namespace,
		specReplicas: of.scale.Spec.Replicas, statusReplicas: of.scale.Status.Replicas,
		tolerances: tolerancesOf(s.spec.Behavior, r.options.Tolerance),
		calc:       calculator{cpuInitialization: r.options.CPUInitialization, readinessDelay: r.options.InitialReadinessDelay, now: s.now},
	}
	for i := range list.Items {
		t.pods = append(t.pods, &list.Items[i])
	}
	// What is wrong with several Pods is told of the same one each time.
	slices.SortFunc(t.pods, func(a, b *keelsonv1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	key := client.ObjectKeyFromObject(s.hpa)
	if other, ambiguous := r.memory.selects(key, selector, t.pods); ambiguous {
		err := fmt.Errorf("pods by selector %v are controlled by more than one HPA (e.g. %v)", text, []types.NamespacedName{key, other})
		return invalid("AmbiguousSelector", finding{"AmbiguousSelector", err.Error()}, err)
	}
	return t, nil
}

func tolerancesOf(behavior *upstreamautoscalingv2.HorizontalPodAutoscalerBehavior, tolerance float64) tolerances {
	t := tolerances{down: tolerance, up: tolerance}
	if behavior == nil {
		return t
	}
	if behavior.ScaleDown != nil && behavior.ScaleDown.Tolerance != nil {
		t.down = behavior.ScaleDown.Tolerance.AsApproximateFloat64()
	}
	if behavior.ScaleUp != nil && behavior.ScaleUp.Tolerance != nil {
		t.up = behavior.ScaleUp.Tolerance.AsApproximateFloat64()
	}
	return t
}
