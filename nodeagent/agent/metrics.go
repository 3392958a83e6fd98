package agent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/probes"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// scrapeTimeout bounds the look at what the runtime holds.
const scrapeTimeout = 5 * time.Second

// nodeMetrics count what the agent does, with the kubelet's names: dashboards and alerts
// know them.
type nodeMetrics struct {
	clock   clock.PassiveClock
	storage runtime.Storage

	evictions, preemptions, imagesRemoved, probes *prometheus.CounterVec
	probeTime                                     *prometheus.HistogramVec
	podStart                                      prometheus.Histogram
	runningPods, runningContainers                *prometheus.Desc

	mu sync.Mutex
	// firstSeen is when a Pod that does not run yet was seen first.
	firstSeen map[types.UID]time.Time
}

// newNodeMetrics registers the metrics; without a registry they only count.
func newNodeMetrics(registry prometheus.Registerer, storage runtime.Storage, nodeName string, c clock.PassiveClock) *nodeMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &nodeMetrics{
		clock: c, storage: storage, firstSeen: map[types.UID]time.Time{},
		evictions:   counter("kubelet_evictions", "Cumulative number of pod evictions by eviction signal", "eviction_signal"),
		preemptions: counter("kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", "preemption_signal"),
		imagesRemoved: counter("kubelet_image_garbage_collected_total",
			"Total number of images garbage collected by the kubelet, whether through disk usage or image age.", "reason"),
		probes: counter("prober_probe_total", "Cumulative number of a liveness, readiness or startup probe for a container by result.",
			"probe_type", "result", "container", "pod", "namespace", "pod_uid"),
		probeTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prober_probe_duration_seconds", Help: "Duration in seconds for a probe response.",
		}, []string{"probe_type", "container", "pod", "namespace"}),
		podStart: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_pod_start_duration_seconds", Buckets: podStartBuckets(),
			Help: "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
		}),
		runningPods: prometheus.NewDesc("kubelet_running_pods", "Number of pods that have a running pod sandbox", nil, nil),
		runningContainers: prometheus.NewDesc("kubelet_running_containers", "Number of containers currently running",
			[]string{"container_state"}, nil),
	}
	name := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_node_name", Help: "The node's name. The count is always 1."}, []string{"node"})
	name.WithLabelValues(nodeName).Set(1)
	if registry != nil {
		registry.MustRegister(m.evictions, m.preemptions, m.imagesRemoved, m.probes, m.probeTime, m.podStart, name, m)
	}
	return m
}

// podStartBuckets are upstream's, in seconds.
func podStartBuckets() []float64 {
	return []float64{
		0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
	}
}

func (m *nodeMetrics) preempted(resource corev1.ResourceName) {
	m.preemptions.WithLabelValues(string(resource)).Inc()
}

func (m *nodeMetrics) evicted(signal string) { m.evictions.WithLabelValues(signal).Inc() }

func (m *nodeMetrics) imageRemoved(why string) { m.imagesRemoved.WithLabelValues(why).Inc() }

// probed counts one probe.
func (m *nodeMetrics) probed(o probes.Observation) {
	result := "successful"
	switch {
	case o.Unknown:
		result = "unknown"
	case o.Failed:
		result = "failed"
	}
	kind := string(o.Kind)
	m.probes.WithLabelValues(kind, result, o.Container, o.Pod.Name, o.Pod.Namespace, string(o.Pod.UID)).Inc()
	if !o.Failed {
		m.probeTime.WithLabelValues(kind, o.Container, o.Pod.Name, o.Pod.Namespace).Observe(o.Took.Seconds())
	}
}

// seen notes when a Pod came that has not started.
func (m *nodeMetrics) seen(pod *keelsonv1.Pod) {
	if !pod.Status.StartTime.IsZero() {
		return // by an earlier process
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.firstSeen[pod.UID] = m.clock.Now()
}

// phaseChanged measures how long it took a Pod to run.
func (m *nodeMetrics) phaseChanged(uid types.UID, _, to corev1.PodPhase) {
	m.mu.Lock()
	first, ok := m.firstSeen[uid]
	if to != corev1.PodPending {
		delete(m.firstSeen, uid)
	}
	m.mu.Unlock()
	if ok && to == corev1.PodRunning {
		m.podStart.Observe(m.clock.Since(first).Seconds())
	}
}

// forget drops what is kept of a Pod that left the node.
func (m *nodeMetrics) forget(pod *keelsonv1.Pod) {
	m.probes.DeletePartialMatch(prometheus.Labels{"pod_uid": string(pod.UID)})
	m.probeTime.DeletePartialMatch(prometheus.Labels{"pod": pod.Name, "namespace": pod.Namespace})
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.firstSeen, pod.UID)
}

// Describe implements prometheus.Collector.
func (m *nodeMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.runningPods
	to <- m.runningContainers
}

// Collect implements prometheus.Collector.
func (m *nodeMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	pods, err := m.storage.Peek(ctx)
	if err != nil {
		klog.Background().V(2).Info("Cannot count containers", "err", err)
		return // an absent value says so
	}
	running, states := 0, map[string]int{}
	for _, pod := range pods {
		if slices.ContainsFunc(pod.Sandboxes, func(s runtime.Sandbox) bool { return s.State == runtime.Running }) {
			running++
		}
		for _, c := range pod.Containers {
			states[strings.ToLower(string(c.State))]++
		}
	}
	to <- prometheus.MustNewConstMetric(m.runningPods, prometheus.GaugeValue, float64(running))
	for _, state := range slices.Sorted(maps.Keys(states)) {
		to <- prometheus.MustNewConstMetric(m.runningContainers, prometheus.GaugeValue, float64(states[state]), state)
	}
}
