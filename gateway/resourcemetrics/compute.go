package resourcemetrics

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// usage is what a summary says of one node or container; false when one of the two
// numbers is not measured yet: half of it would be read as nothing used.
func usage(cpu *statsv1alpha1.CPUStats, memory *statsv1alpha1.MemoryStats) (corev1.ResourceList, time.Time, bool) {
	if cpu == nil || cpu.UsageNanoCores == nil || memory == nil || memory.WorkingSetBytes == nil {
		return nil, time.Time{}, false
	}
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(*cpu.UsageNanoCores), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(int64(*memory.WorkingSetBytes), resource.BinarySI),
	}, cpu.Time.Time, true
}

// nodeMetrics is what a summary says of the node itself; nil when it says nothing yet.
func nodeMetrics(node metav1.ObjectMeta, summary *statsv1alpha1.Summary, now time.Time) *metricsv1beta1.NodeMetrics {
	used, at, ok := usage(summary.Node.CPU, summary.Node.Memory)
	if !ok {
		return nil
	}
	return &metricsv1beta1.NodeMetrics{
		TypeMeta:   typeMeta("NodeMetrics"),
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels, CreationTimestamp: metav1.NewTime(now)},
		Timestamp:  metav1.NewTime(at),
		Window:     metav1.Duration{Duration: defaultWindow},
		Usage:      used,
	}
}

// podMetrics is what an agent says of a Pod; nil when one of its containers is not
// measured yet.
func podMetrics(pod metav1.ObjectMeta, stats *statsv1alpha1.PodStats, now time.Time) *metricsv1beta1.PodMetrics {
	metrics := &metricsv1beta1.PodMetrics{
		TypeMeta:   typeMeta("PodMetrics"),
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, CreationTimestamp: metav1.NewTime(now)},
		Window:     metav1.Duration{Duration: defaultWindow},
		Containers: make([]metricsv1beta1.ContainerMetrics, 0, len(stats.Containers)),
	}
	for i := range stats.Containers {
		container := &stats.Containers[i]
		used, at, ok := usage(container.CPU, container.Memory)
		if !ok {
			return nil
		}
		if metrics.Timestamp.IsZero() || at.Before(metrics.Timestamp.Time) {
			metrics.Timestamp = metav1.NewTime(at)
		}
		metrics.Containers = append(metrics.Containers, metricsv1beta1.ContainerMetrics{Name: container.Name, Usage: used})
	}
	if len(metrics.Containers) == 0 {
		return nil
	}
	slices.SortFunc(metrics.Containers, func(a, b metricsv1beta1.ContainerMetrics) int { return cmp.Compare(a.Name, b.Name) })
	return metrics
}

// podsMetrics joins the wanted Pods with what the agents say. An agent may still report
// a Pod that is gone and whose name another one bears: the UID tells.
func podsMetrics(wanted []metav1.ObjectMeta, summaries []*statsv1alpha1.Summary, now time.Time) *metricsv1beta1.PodMetricsList {
	byUID := map[types.UID]*statsv1alpha1.PodStats{}
	for _, summary := range summaries {
		for i := range summary.Pods {
			byUID[types.UID(summary.Pods[i].PodRef.UID)] = &summary.Pods[i]
		}
	}
	list := &metricsv1beta1.PodMetricsList{TypeMeta: typeMeta("PodMetricsList"), Items: []metricsv1beta1.PodMetrics{}}
	for _, pod := range wanted {
		stats, ok := byUID[pod.UID]
		if !ok {
			continue
		}
		if metrics := podMetrics(pod, stats, now); metrics != nil {
			list.Items = append(list.Items, *metrics)
		}
	}
	slices.SortFunc(list.Items, func(a, b metricsv1beta1.PodMetrics) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: metricsv1beta1.SchemeGroupVersion.String()}
}
