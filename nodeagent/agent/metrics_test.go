package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	testingclock "k8s.io/utils/clock/testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/probes"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
)

func TestMetrics(t *testing.T) {
	at := testingclock.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	engine, registry := fake.New(at), prometheus.NewRegistry()
	sandbox, err := engine.RunSandbox(t.Context(), runtime.SandboxConfig{PodIdentity: runtime.PodIdentity{UID: "uid"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		id, err := engine.CreateContainer(t.Context(), runtime.ContainerConfig{PodIdentity: runtime.PodIdentity{UID: "uid"}, Name: name, SandboxID: sandbox.ID})
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.StartContainer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := engine.Exit("uid", "b", 1, "Error"); err != nil {
		t.Fatal(err)
	}
	m := newNodeMetrics(registry, engine, "n1", at)
	pod := &keelsonv1.Pod{}
	pod.Name, pod.Namespace, pod.UID = "p", "default", "uid"
	m.seen(pod)
	at.Step(7 * time.Second)
	m.phaseChanged("uid", "", corev1.PodPending)
	m.phaseChanged("uid", corev1.PodPending, corev1.PodRunning)
	m.phaseChanged("uid", corev1.PodPending, corev1.PodRunning)
	m.evicted("memory.available")
	m.imageRemoved("space")
	for _, o := range []probes.Observation{{Took: time.Second}, {Failed: true}, {Unknown: true}, {}} {
		o.Pod, o.Container, o.Kind = pod, "a", probes.Liveness
		m.probed(o)
	}
	const head = `
# HELP kubelet_evictions Cumulative number of pod evictions by eviction signal
# TYPE kubelet_evictions counter
kubelet_evictions{eviction_signal="memory.available"} 1
# HELP kubelet_image_garbage_collected_total Total number of images garbage collected by the kubelet, whether through disk usage or image age.
# TYPE kubelet_image_garbage_collected_total counter
kubelet_image_garbage_collected_total{reason="space"} 1
# HELP kubelet_node_name The node's name. The count is always 1.
# TYPE kubelet_node_name gauge
kubelet_node_name{node="n1"} 1
# HELP kubelet_running_containers Number of containers currently running
# TYPE kubelet_running_containers gauge
kubelet_running_containers{container_state="exited"} 1
kubelet_running_containers{container_state="running"} 1
# HELP kubelet_running_pods Number of pods that have a running pod sandbox
# TYPE kubelet_running_pods gauge
kubelet_running_pods 1
`
	const probed = `# HELP prober_probe_total Cumulative number of a liveness, readiness or startup probe for a container by result.
# TYPE prober_probe_total counter
prober_probe_total{container="a",namespace="default",pod="p",pod_uid="uid",probe_type="Liveness",result="failed"} 1
prober_probe_total{container="a",namespace="default",pod="p",pod_uid="uid",probe_type="Liveness",result="successful"} 2
prober_probe_total{container="a",namespace="default",pod="p",pod_uid="uid",probe_type="Liveness",result="unknown"} 1
`
	names := []string{"kubelet_evictions", "kubelet_image_garbage_collected_total", "kubelet_node_name",
		"kubelet_running_containers", "kubelet_running_pods", "prober_probe_total"}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(head+probed), names...); err != nil {
		t.Error(err)
	}
	starts := func() (count uint64, sum float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "kubelet_pod_start_duration_seconds" {
				return f.GetMetric()[0].GetHistogram().GetSampleCount(), f.GetMetric()[0].GetHistogram().GetSampleSum()
			}
		}
		return 0, 0
	}
	if count, sum := starts(); count != 1 || sum != 7 {
		t.Errorf("%d starts that took %v s, want one of 7", count, sum)
	}
	m.forget(pod)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(head), names...); err != nil {
		t.Errorf("after the Pod has left: %v", err)
	}
}
