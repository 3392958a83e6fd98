package qos_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/keelson-dev/keelson/internal/qos"
)

func TestClass(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	tests := map[string]struct {
		requests, limits corev1.ResourceList
		want             corev1.PodQOSClass
	}{
		"nothing":                     {nil, nil, corev1.PodQOSBestEffort},
		"zeroes":                      {list("0", "0"), nil, corev1.PodQOSBestEffort},
		"a request":                   {list("1", ""), nil, corev1.PodQOSBurstable},
		"limits of one kind":          {nil, list("1", ""), corev1.PodQOSBurstable},
		"limits alone":                {nil, list("1", "1Gi"), corev1.PodQOSGuaranteed},
		"limits equal to requests":    {list("1", "1Gi"), list("1000m", "1024Mi"), corev1.PodQOSGuaranteed},
		"requests smaller than limit": {list("1", "1Gi"), list("2", "1Gi"), corev1.PodQOSBurstable},
		"another resource only":       {corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}, nil, corev1.PodQOSBestEffort},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.PodSpec{Containers: []corev1.Container{{}}}
			spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: tt.requests, Limits: tt.limits}
			if got := qos.Class(spec); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
