package stats

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Resource gathers /metrics/resource: names and labels are the kubelet's.
func (s *Sampler) Resource(ctx context.Context) prometheus.Gatherer {
	return gatherer(func(out *metrics) {
		summary, err := s.Summary(ctx, true)
		if err != nil {
			out.gauge("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", 1, nil)
			return
		}
		collectResource(out, summary)
	})
}

func collectResource(out *metrics, summary *statsv1alpha1.Summary) {
	out.gauge("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", 0, nil)
	out.cpu("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", summary.Node.CPU, nil)
	out.workingSet("node_memory_working_set_bytes", "Current working set of the node in bytes", summary.Node.Memory, nil)
	for _, pod := range summary.Pods {
		labels := prometheus.Labels{"pod": pod.PodRef.Name, "namespace": pod.PodRef.Namespace}
		out.cpu("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", pod.CPU, labels)
		out.workingSet("pod_memory_working_set_bytes", "Current working set of the pod in bytes", pod.Memory, labels)
		for _, c := range pod.Containers {
			labels := prometheus.Labels{"container": c.Name, "pod": pod.PodRef.Name, "namespace": pod.PodRef.Namespace}
			out.gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds",
				seconds(c.StartTime.Time), labels)
			out.cpu("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", c.CPU, labels)
			out.workingSet("container_memory_working_set_bytes", "Current working set of the container in bytes", c.Memory, labels)
		}
	}
}

// Container gathers /metrics/cadvisor: of cAdvisor's metrics those that dashboards and
// alerts use, with its names and labels.
func (s *Sampler) Container(ctx context.Context) prometheus.Gatherer {
	return gatherer(func(out *metrics) {
		pods, err := s.Runtime.List(ctx)
		if err != nil {
			out.gauge("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", 1, nil)
			return
		}
		out.gauge("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", 0, nil)
		if m, err := readMachineMemory(s.ProcMount); err == nil {
			out.gauge("machine_memory_bytes", "Amount of memory installed on the machine.", float64(m.limit), nil)
		}
		s.collectCgroup(out, rootCgroup, s.started, cgroupLabels{id: rootCgroup})
		for _, pod := range pods {
			if !runs(pod) {
				continue
			}
			s.collectPod(out, pod)
		}
	})
}

func (s *Sampler) collectPod(out *metrics, pod runtime.PodState) {
	box := sandbox(pod)
	cgroup := box.CgroupParent
	labels := cgroupLabels{id: cgroup, pod: pod.Name, namespace: pod.Namespace}
	s.collectCgroup(out, cgroup, box.CreatedAt, labels)
	for _, c := range pod.Containers {
		if c.State != runtime.Running {
			continue
		}
		cgroup := c.CgroupPath
		s.collectCgroup(out, cgroup, c.StartedAt, cgroupLabels{
			id: cgroup, name: c.ID, image: c.Image, container: c.Name, pod: pod.Name, namespace: pod.Namespace,
		})
	}
	stats, err := s.podStats(runtime.PodState{PodIdentity: pod.PodIdentity, Sandboxes: pod.Sandboxes}, false)
	if err != nil || stats.Network == nil {
		return // it has just gone, or shares the machine's network
	}
	for _, i := range stats.Network.Interfaces {
		all := labels.all()
		all["interface"] = i.Name
		out.counter("container_network_receive_bytes_total", "Cumulative count of bytes received", float64(*i.RxBytes), all)
		out.counter("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", float64(*i.RxErrors), all)
		out.counter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", float64(*i.TxBytes), all)
		out.counter("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", float64(*i.TxErrors), all)
	}
}

// cgroupLabels are the labels that cAdvisor gives each of its metrics.
type cgroupLabels struct{ id, name, image, container, pod, namespace string }

func (l cgroupLabels) all() prometheus.Labels {
	return prometheus.Labels{
		"id": l.id, "name": l.name, "image": l.image, "container": l.container, "pod": l.pod, "namespace": l.namespace,
	}
}

// collectCgroup leaves out what a cgroup that has just gone, or the root, does not have.
func (s *Sampler) collectCgroup(out *metrics, cgroup string, started time.Time, l cgroupLabels) {
	labels := l.all()
	if nanos, err := s.cgroups.cpu(cgroup); err == nil {
		withCPU := l.all()
		withCPU["cpu"] = "total"
		out.counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", inSeconds(nanos), withCPU)
		out.gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", seconds(started), labels)
		out.gauge("container_last_seen", "Last time a container was seen by the exporter", seconds(s.Clock.Now()), labels)
	}
	if t, err := s.cgroups.throttling(cgroup); err == nil && t.periods > 0 {
		out.counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", float64(t.periods), labels)
		out.counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", float64(t.throttled), labels)
		out.counter("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", inSeconds(t.nanos), labels)
	}
	m, err := s.cgroups.memory(cgroup)
	if err != nil {
		return
	}
	out.gauge("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", float64(m.usage), labels)
	out.gauge("container_memory_working_set_bytes", "Current working set in bytes.", float64(m.workingSet), labels)
	out.gauge("container_memory_rss", "Size of RSS in bytes.", float64(m.rss), labels)
	out.gauge("container_memory_cache", "Number of bytes of page cache memory.", float64(m.cache), labels)
	out.gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", float64(m.limit), labels)
}

// metrics are values with their names, types and labels.
type metrics struct{ to chan<- prometheus.Metric }

// gatherer asks collect for the metrics each time.
func gatherer(collect func(*metrics)) prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(unchecked(collect))
	return registry
}

type unchecked func(*metrics)

// Describe implements prometheus.Collector: what there is follows from the Pods.
func (unchecked) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (u unchecked) Collect(to chan<- prometheus.Metric) { u(&metrics{to}) }

func metric(kind prometheus.ValueType, name, help string, value float64, labels prometheus.Labels) prometheus.Metric {
	return prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, labels), kind, value)
}

func (m *metrics) gauge(name, help string, value float64, labels prometheus.Labels) {
	m.to <- metric(prometheus.GaugeValue, name, help, value, labels)
}

func (m *metrics) counter(name, help string, value float64, labels prometheus.Labels) {
	m.to <- metric(prometheus.CounterValue, name, help, value, labels)
}

func (m *metrics) cpu(name, help string, cpu *statsv1alpha1.CPUStats, labels prometheus.Labels) {
	m.to <- prometheus.NewMetricWithTimestamp(cpu.Time.Time,
		metric(prometheus.CounterValue, name, help, inSeconds(*cpu.UsageCoreNanoSeconds), labels))
}

func (m *metrics) workingSet(name, help string, memory *statsv1alpha1.MemoryStats, labels prometheus.Labels) {
	m.to <- prometheus.NewMetricWithTimestamp(memory.Time.Time,
		metric(prometheus.GaugeValue, name, help, float64(*memory.WorkingSetBytes), labels))
}

func inSeconds(nanos uint64) float64 { return float64(nanos) / float64(time.Second) }

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / float64(time.Second) }
