package podautoscaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	resourcehelpers "k8s.io/component-helpers/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// sample is what one Pod was measured at, in thousandths of the metric's unit.
type sample struct {
	at     time.Time
	window time.Duration
	value  int64
}

// samples are by the name of the Pod.
type samples map[string]sample

// tolerances are how far the use may be from the target, as a share of it, before
// anything is scaled.
type tolerances struct{ down, up float64 }

func (t tolerances) within(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// calculator holds what decides which samples count.
type calculator struct {
	// cpuInitialization is how long after its start a Pod's use of CPU counts only while
	// the Pod is ready, readinessDelay how long a Pod may take to its first readiness.
	cpuInitialization, readinessDelay time.Duration
	now                               time.Time
}

var (
	errNoPods    = errors.New("no pods returned by selector while calculating replica count")
	errNoSamples = errors.New("did not receive metrics for targeted pods (pods might be unready)")
)

// utilization is how many replicas keep the use of a resource at target percent of what
// the Pods request. used is the present percentage, raw the average use of one Pod.
func (c calculator) utilization(current, target int32, resource corev1.ResourceName, t tolerances, metrics samples, pods []*keelsonv1.Pod, container string) (replicas, used int32, raw int64, err error) {
	if len(pods) == 0 {
		return 0, 0, 0, errNoPods
	}
	counted := c.group(pods, metrics, resource)
	if len(counted.metrics) == 0 {
		return 0, 0, 0, errNoSamples
	}
	requests, err := requestsOf(pods, container, resource)
	if err != nil {
		return 0, 0, 0, err
	}
	ratio, used, raw, err := utilizationRatio(counted.metrics, requests, target)
	if err != nil {
		return 0, 0, 0, err
	}
	replicas, err = c.propose(current, ratio, t, counted,
		func(pod string) int64 { return requests[pod] * int64(max(100, target)) / 100 },
		func(all samples) (float64, error) {
			again, _, _, err := utilizationRatio(all, requests, target)
			return again, err
		})
	return replicas, used, raw, err
}

// average is how many replicas keep the average of a metric at target; used is the
// present average. resource is empty for what is no resource.
func (c calculator) average(current int32, target int64, resource corev1.ResourceName, t tolerances, metrics samples, pods []*keelsonv1.Pod) (replicas int32, used int64, err error) {
	if len(pods) == 0 {
		return 0, 0, errNoPods
	}
	counted := c.group(pods, metrics, resource)
	if len(counted.metrics) == 0 {
		return 0, 0, errNoSamples
	}
	ratio, used := usageRatio(counted.metrics, target)
	replicas, err = c.propose(current, ratio, t, counted,
		func(string) int64 { return target },
		func(all samples) (float64, error) {
			again, _ := usageRatio(all, target)
			return again, nil
		})
	return replicas, used, err
}

// propose turns a ratio into a number of replicas. Pods without a sample count as using
// fallback when fewer are to run, and nothing when more are; Pods that are not ready
// count as using nothing when more are to run. Whatever would turn the direction round,
// or is within the tolerance, changes nothing.
func (c calculator) propose(current int32, ratio float64, t tolerances, counted groups, fallback func(pod string) int64, ratioOf func(samples) (float64, error)) (int32, error) {
	upWithUnready := len(counted.unready) > 0 && ratio > 1
	if !upWithUnready && len(counted.missing) == 0 {
		if t.within(ratio) {
			return current, nil
		}
		return ceil(ratio * float64(counted.ready)), nil
	}
	counted.fill(ratio, upWithUnready, fallback)
	again, err := ratioOf(counted.metrics)
	if err != nil {
		return 0, err
	}
	if t.within(again) || (ratio-1)*(again-1) < 0 {
		return current, nil
	}
	replicas := ceil(again * float64(len(counted.metrics)))
	if again < 1 && replicas > current || again > 1 && replicas < current {
		return current, nil
	}
	return replicas, nil
}

// fill gives the Pods that have no sample that counts one.
func (g groups) fill(ratio float64, upWithUnready bool, fallback func(pod string) int64) {
	switch {
	case ratio < 1:
		for pod := range g.missing {
			g.metrics[pod] = sample{value: fallback(pod)}
		}
	case ratio > 1:
		for pod := range g.missing {
			g.metrics[pod] = sample{}
		}
	}
	if upWithUnready {
		for pod := range g.unready {
			g.metrics[pod] = sample{}
		}
	}
}

// whole is how many replicas a metric of all Pods together asks for, by the ratio of
// its value to the target. Without replicas there is nothing that the ratio is about:
// it is the number itself.
func whole(current int32, ratio float64, t tolerances, pods []*keelsonv1.Pod) (int32, error) {
	if current == 0 {
		return ceil(ratio), nil
	}
	if t.within(ratio) {
		return current, nil
	}
	if len(pods) == 0 {
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
	}
	ready := 0
	for _, pod := range pods {
		if condition := readyCondition(pod); pod.Status.Phase == corev1.PodRunning && condition != nil && condition.Status == corev1.ConditionTrue {
			ready++
		}
	}
	return ceil(ratio * float64(ready)), nil
}

// perPod is how many replicas bring the share of each in a metric of all Pods together
// to target; used is the present share.
func perPod(statusReplicas int32, value, target int64, t tolerances) (replicas int32, used int64) {
	replicas = statusReplicas
	if !t.within(float64(value) / (float64(target) * float64(statusReplicas))) {
		replicas = ceil(float64(value) / float64(target))
	}
	if statusReplicas == 0 || value == math.MaxInt64 {
		return replicas, value
	}
	return replicas, int64(math.Ceil(float64(value) / float64(statusReplicas)))
}

// ceil rounds up, within what a number of replicas can be.
func ceil(replicas float64) int32 {
	if !(replicas < math.MaxInt32) {
		return math.MaxInt32
	}
	return int32(math.Ceil(replicas))
}

// groups are the Pods by what their samples are worth.
type groups struct {
	// ready is the number of Pods whose samples count.
	ready            int
	unready, missing sets.Set[string]
	// metrics are the samples that count.
	metrics samples
}

// group leaves out Pods that end or have failed, sets those aside that do not work yet,
// and notes those without a sample.
func (c calculator) group(pods []*keelsonv1.Pod, metrics samples, resource corev1.ResourceName) groups {
	g := groups{unready: sets.New[string](), missing: sets.New[string](), metrics: make(samples, len(metrics))}
	for pod, measured := range metrics {
		g.metrics[pod] = measured
	}
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed {
			delete(g.metrics, pod.Name)
			continue
		}
		measured, found := metrics[pod.Name]
		switch {
		case pod.Status.Phase == corev1.PodPending:
			g.unready.Insert(pod.Name)
			delete(g.metrics, pod.Name)
		case !found:
			g.missing.Insert(pod.Name)
		case resource == corev1.ResourceCPU && c.warmingUp(pod, measured):
			g.unready.Insert(pod.Name)
			delete(g.metrics, pod.Name)
		default:
			g.ready++
		}
	}
	return g
}

// warmingUp tells whether a Pod's use of CPU is that of its start.
func (c calculator) warmingUp(pod *keelsonv1.Pod, measured sample) bool {
	condition := readyCondition(pod)
	if condition == nil || pod.Status.StartTime == nil {
		return true
	}
	started := pod.Status.StartTime.Time
	if started.Add(c.cpuInitialization).After(c.now) {
		// A whole window must have been measured since it became ready.
		return condition.Status == corev1.ConditionFalse || measured.at.Before(condition.LastTransitionTime.Add(measured.window))
	}
	// Not ready, and never was.
	return condition.Status == corev1.ConditionFalse && started.Add(c.readinessDelay).After(condition.LastTransitionTime.Time)
}

func readyCondition(pod *keelsonv1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodReady {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// requestsOf is what each Pod, or one container of each, requests. Requests of the whole
// Pod go before the sum of its containers.
func requestsOf(pods []*keelsonv1.Pod, container string, resource corev1.ResourceName) (map[string]int64, error) {
	requests := make(map[string]int64, len(pods))
	for _, pod := range pods {
		upstream := &corev1.Pod{Spec: pod.Spec}
		if container == "" && resourcehelpers.IsPodLevelRequestsSet(upstream) {
			request, ok := resourcehelpers.PodRequests(upstream, resourcehelpers.PodResourcesOptions{})[resource]
			if !ok {
				return nil, fmt.Errorf("missing pod-level request for %s in Pod %s", resource, pod.Name)
			}
			requests[pod.Name] = request.MilliValue()
			continue
		}
		request, err := requestOfContainers(pod, container, resource)
		if err != nil {
			return nil, err
		}
		requests[pod.Name] = request
	}
	return requests, nil
}

func requestOfContainers(pod *keelsonv1.Pod, container string, resource corev1.ResourceName) (int64, error) {
	total, found := int64(0), false
	add := func(c *corev1.Container) error {
		if container != "" && container != c.Name {
			return nil
		}
		request, ok := c.Resources.Requests[resource]
		if !ok {
			return fmt.Errorf("missing request for %s in container %s of Pod %s", resource, c.Name, pod.Name)
		}
		total, found = total+request.MilliValue(), true
		return nil
	}
	for i := range pod.Spec.Containers {
		if err := add(&pod.Spec.Containers[i]); err != nil {
			return 0, err
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if err := add(c); err != nil {
			return 0, err
		}
	}
	if container != "" && !found {
		return 0, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
	}
	return total, nil
}

// utilizationRatio is the share of the target that is used, the percentage of the
// requests that is used, and the average use.
func utilizationRatio(metrics samples, requests map[string]int64, target int32) (ratio float64, used int32, raw int64, err error) {
	var total, requested, count int64
	for pod, measured := range metrics {
		if request, ok := requests[pod]; ok {
			total, requested, count = total+measured.value, requested+request, count+1
		}
	}
	if requested == 0 {
		return 0, 0, 0, errors.New("no metrics returned matched known pods")
	}
	used = int32(total * 100 / requested)
	return float64(used) / float64(target), used, total / count, nil
}

func usageRatio(metrics samples, target int64) (ratio float64, used int64) {
	total := int64(0)
	for _, measured := range metrics {
		total += measured.value
	}
	used = total / int64(len(metrics))
	return float64(used) / float64(target), used
}
