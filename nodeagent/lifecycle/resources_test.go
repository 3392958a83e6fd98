package lifecycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

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
			got := computeResources(&pod.Spec, &pod.Spec.Containers[0], capacity)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodSharesAddUp(t *testing.T) {
	pod := makePod("p", "a", "b")
	pod.Spec.Containers[0].Resources.Requests = list("500m", "")
	pod.Spec.Containers[1].Resources.Limits = list("250m", "")
	if got := podShares(&pod.Spec); got != 768 {
		t.Errorf("got %d shares", got)
	}
}
