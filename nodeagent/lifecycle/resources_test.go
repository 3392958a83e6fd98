package lifecycle

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func list(cpu, memory string) corev1.ResourceList {
	l := corev1.ResourceList{}
	if cpu != "" {
		l[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		l[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return l
}

func TestComputeResources(t *testing.T) {
	const capacity = 8 << 30
	tests := map[string]struct {
		requests, limits corev1.ResourceList
		want             runtime.Resources
	}{
		"best effort": {want: runtime.Resources{CPUShares: 2, OOMScoreAdj: 1000}},
		"guaranteed": {requests: list("500m", "1Gi"), limits: list("500m", "1Gi"), want: runtime.Resources{
			CPUShares: 512, CPUPeriod: 100000, CPUQuota: 50000, MemoryLimit: 1 << 30, OOMScoreAdj: -997}},
		"burstable, a quarter of the memory": {requests: list("250m", "2Gi"), want: runtime.Resources{CPUShares: 256, OOMScoreAdj: 750}},
		"burstable, hardly any memory":       {requests: list("1", "1"), want: runtime.Resources{CPUShares: 1024, OOMScoreAdj: 999}},
		"burstable, all the memory":          {requests: list("1", "8Gi"), want: runtime.Resources{CPUShares: 1024, OOMScoreAdj: 3}},
		"shares follow the limit where there is no request": {limits: list("2", ""), want: runtime.Resources{
			CPUShares: 2048, CPUPeriod: 100000, CPUQuota: 200000, OOMScoreAdj: 999}},
		"a limit below what the kernel takes": {limits: list("1m", ""), want: runtime.Resources{
			CPUShares: 2, CPUPeriod: 100000, CPUQuota: 1000, OOMScoreAdj: 999}},
		"more than the kernel counts": {requests: list("1000", ""), want: runtime.Resources{CPUShares: 262144, OOMScoreAdj: 999}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := makePod("p", "a")
			pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: tt.requests, Limits: tt.limits}
			got := computeResources(pod, &pod.Spec.Containers[0], Capacity{Memory: capacity})
			got.Asked = corev1.ResourceRequirements{}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodSettings(t *testing.T) {
	const gi = 1 << 30
	settings := func(shares uint64, quota, memory int64) cgroups.Settings {
		return cgroups.Settings{CPUShares: &shares, CPUQuota: &quota, CPUPeriod: 100000, Memory: &memory, PIDs: new(int64(cgroups.Unlimited))}
	}
	requirements := func(requests, limits corev1.ResourceList) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: requests, Limits: limits}
	}
	tests := map[string]struct {
		containers []corev1.ResourceRequirements
		change     func(*corev1.PodSpec)
		want       cgroups.Settings
	}{
		"best effort": {containers: []corev1.ResourceRequirements{{}}, want: settings(2, -1, -1)},
		"requests of all containers add up": {
			containers: []corev1.ResourceRequirements{requirements(list("500m", ""), nil), requirements(list("250m", "1Gi"), nil)},
			want:       settings(768, -1, -1)},
		"limits count where every container has one": {
			containers: []corev1.ResourceRequirements{requirements(list("100m", ""), list("1", "1Gi")), requirements(list("100m", "1Gi"), list("500m", "2Gi"))},
			want:       settings(204, 150000, 3*gi)},
		"one container without a memory limit frees the Pod": {
			containers: []corev1.ResourceRequirements{requirements(list("100m", ""), list("1", "1Gi")), requirements(list("100m", ""), list("500m", ""))},
			want:       settings(204, 150000, -1)},
		"guaranteed": {
			containers: []corev1.ResourceRequirements{requirements(list("1", "1Gi"), list("1", "1Gi"))},
			want:       settings(1024, 100000, gi)},
		"the overhead comes on top": {
			containers: []corev1.ResourceRequirements{requirements(list("1", "1Gi"), list("1", "1Gi"))},
			change:     func(s *corev1.PodSpec) { s.Overhead = list("250m", "1Gi") },
			want:       settings(1280, 125000, 2*gi)},
		"the Pod as a whole decides": {
			containers: []corev1.ResourceRequirements{{}, requirements(list("100m", ""), nil)},
			change: func(s *corev1.PodSpec) {
				s.Resources = new(requirements(list("1", "1Gi"), list("2", "3Gi")))
			},
			want: settings(1024, 200000, 3*gi)},
		"an init container without a limit frees the Pod": {
			containers: []corev1.ResourceRequirements{requirements(list("100m", ""), list("1", "1Gi"))},
			change:     func(s *corev1.PodSpec) { s.InitContainers = []corev1.Container{{Name: "init"}} },
			want:       settings(102, -1, -1)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := makePod("p", slices.Repeat([]string{"c"}, len(tt.containers))...)
			for i, r := range tt.containers {
				pod.Spec.Containers[i].Resources = r
			}
			if tt.change != nil {
				tt.change(&pod.Spec)
			}
			if diff := cmp.Diff(tt.want, podSettings(pod, Capacity{})); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLimitsOfTheNode(t *testing.T) {
	pod := makePod("p", "a", "b")
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"hugepages-2Mi": resource.MustParse("4Mi")}
	pod.Spec.Containers[0].Resources.Requests = pod.Spec.Containers[0].Resources.Limits
	node := Capacity{PodPIDs: 512, HugePages: []int64{2 << 20, 1 << 30}}
	got := podSettings(pod, node)
	if diff := cmp.Diff(map[string]int64{"2MB": 4 << 20, "1GB": 0}, got.HugePages); diff != "" || *got.PIDs != 512 {
		t.Errorf("at most %d processes, large pages (-want +got):\n%s", *got.PIDs, diff)
	}
	if diff := cmp.Diff(map[string]int64{"2MB": 0, "1GB": 0}, computeResources(pod, &pod.Spec.Containers[1], node).HugePages); diff != "" {
		t.Errorf("large pages of the other container (-want +got):\n%s", diff)
	}
}

func TestResourcesOfThePodAsAWhole(t *testing.T) {
	pod := makePod("p", "a", "b")
	pod.Spec.Resources = &corev1.ResourceRequirements{Requests: list("1", "2Gi"), Limits: list("2", "4Gi")}
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list("100m", "1Gi"), Limits: list("500m", "")}
	got := computeResources(pod, &pod.Spec.Containers[0], Capacity{Memory: 8 << 30})
	got.Asked = corev1.ResourceRequirements{}
	want := runtime.Resources{CPUShares: 102, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 4 << 30,
		OOMScoreAdj: 1000 - 1000*(1536<<20)/(8<<30)} // its own GiB, and half of the other
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	pod.Spec.Priority = new(int32(nodeCritical))
	if got := computeResources(pod, &pod.Spec.Containers[0], Capacity{Memory: 8 << 30}).OOMScoreAdj; got != oomGuaranteed {
		t.Errorf("a node-critical Pod has %d", got)
	}
}
