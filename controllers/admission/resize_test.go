package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func quantities(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

// resizablePod is burstable: an init container, a sidecar and a container.
func resizablePod() *keelsonv1.Pod {
	asks := func() corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: quantities("cpu", "100m", "memory", "64Mi"), Limits: quantities("cpu", "1", "memory", "128Mi")}
	}
	return &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{
		NodeName: "n",
		InitContainers: []corev1.Container{
			{Name: "init", Resources: asks()},
			{Name: "sidecar", Resources: asks(), RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
		},
		Containers: []corev1.Container{{Name: "main", Resources: asks()}, {Name: "plain"}},
	}}
}

func TestCheckResize(t *testing.T) {
	const fixed = ": Forbidden: may not change after creation: " + mutablePodFields
	tests := map[string]struct {
		prepare, change func(*keelsonv1.Pod)
		want            []string
	}{
		"nothing": {change: func(*keelsonv1.Pod) {}},
		"cpu and memory of all containers, and some where there were none": {change: func(p *keelsonv1.Pod) {
			for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
				for i := range list {
					list[i].Resources = corev1.ResourceRequirements{Requests: quantities("cpu", "200m", "memory", "64Mi"), Limits: quantities("cpu", "3", "memory", "256Mi")}
				}
			}
		}},
		"the same amounts in other words": {change: func(p *keelsonv1.Pod) {
			p.Spec.Containers[0].Resources.Requests = quantities("cpu", "0.1", "memory", "65536Ki")
		}},
		"requests and limits taken away": {change: func(p *keelsonv1.Pod) {
			delete(p.Spec.Containers[0].Resources.Requests, corev1.ResourceMemory)
			p.Spec.InitContainers[1].Resources.Limits = nil
		}, want: []string{
			"spec.initContainers[1].resources.limits: Forbidden: resource limits cannot be removed",
			"spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
		}},
		"another class": {
			prepare: func(p *keelsonv1.Pod) { p.Status.QOSClass = corev1.PodQOSBurstable },
			change: func(p *keelsonv1.Pod) {
				p.Spec.InitContainers = nil
				p.Spec.Containers = p.Spec.Containers[:1]
				p.Spec.Containers[0].Resources.Requests = p.Spec.Containers[0].Resources.Limits
			},
			want: []string{"spec.containers" + fixed, "spec.initContainers" + fixed}},
		"a guaranteed Pod that would be burstable": {
			prepare: func(p *keelsonv1.Pod) {
				p.Status.QOSClass = corev1.PodQOSGuaranteed
				p.Spec.InitContainers, p.Spec.Containers = nil, p.Spec.Containers[:1]
				p.Spec.Containers[0].Resources.Requests = quantities("cpu", "1", "memory", "128Mi")
			},
			change: func(p *keelsonv1.Pod) { p.Spec.Containers[0].Resources.Limits["cpu"] = resource.MustParse("2") },
			want:   []string{`spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing`}},
		"a static Pod": {
			prepare: func(p *keelsonv1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} },
			change:  func(p *keelsonv1.Pod) { p.Spec.Containers[0].Resources.Limits["cpu"] = resource.MustParse("2") },
			want:    []string{"[]: Forbidden: static pods cannot be resized"}},
		"other resources, and the policy": {change: func(p *keelsonv1.Pod) {
			p.Spec.Containers[0].Resources.Limits["cpu"] = resource.MustParse("2")
			p.Spec.Containers[0].Resources.Limits["ephemeral-storage"] = resource.MustParse("1Gi")
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: corev1.RestartContainer}}
		}, want: []string{"spec.containers[0].resizePolicy" + fixed, "spec.containers[0].resources.limits.ephemeral-storage" + fixed}},
		"an init container that would have to restart": {
			prepare: func(p *keelsonv1.Pod) {
				p.Spec.InitContainers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: corev1.RestartContainer}}
			},
			change: func(p *keelsonv1.Pod) { p.Spec.InitContainers[0].Resources.Limits["cpu"] = resource.MustParse("2") },
			want:   []string{"spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized"}},
		"resources of the Pod as a whole": {
			prepare: func(p *keelsonv1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Requests: quantities("cpu", "1", "memory", "1Gi"), Limits: quantities("cpu", "2", "memory", "2Gi")}
			},
			change: func(p *keelsonv1.Pod) {
				p.Spec.Resources.Limits["cpu"] = resource.MustParse("3")
				delete(p.Spec.Resources.Requests, corev1.ResourceMemory)
			},
			want: []string{"spec.resources.requests: Forbidden: pod-level resource requests cannot be removed"}},
		"none for the Pod as a whole any more": {
			prepare: func(p *keelsonv1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Requests: quantities("cpu", "1")}
			},
			change: func(p *keelsonv1.Pod) {
				p.Spec.Resources = nil
				p.Spec.Containers[0].Resources.Limits["cpu"] = resource.MustParse("2")
			},
			want: []string{"spec.resources" + fixed, "spec.resources: Forbidden: pod-level resources cannot be removed"}},
		"resources of the Pod as a whole where there were none": {change: func(p *keelsonv1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: quantities("cpu", "1")}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			old := resizablePod()
			if tt.prepare != nil {
				tt.prepare(old)
			}
			pod := &keelsonv1.Pod{ObjectMeta: old.ObjectMeta, Spec: *old.Spec.DeepCopy(), Status: old.Status}
			tt.change(pod)
			changed, err := checkPodUpdate(&pod.Spec, &old.Spec)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range append(changed, checkResize(pod, old)...) {
				got = append(got, e.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResizeBeyondTheNode(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	node.Status.Allocatable = quantities("cpu", "4", "memory", "8Gi")
	nodes := fake.NewClientBuilder().WithScheme(scheme).WithObjects(node).WithStatusSubresource(node).Build()
	if err := nodes.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	ask := func(cpu, memory string) func(*keelsonv1.Pod) {
		return func(p *keelsonv1.Pod) {
			p.Spec.Containers[0].Resources.Requests = quantities("cpu", cpu, "memory", memory)
		}
	}
	tests := map[string]struct {
		nodes           client.Reader
		prepare, change func(*keelsonv1.Pod)
		want            string
	}{
		"as much as there is":        {nodes: nodes, change: ask("3.9", "7Gi")},
		"more than there is":         {nodes: nodes, change: ask("5", "9Gi"), want: `pods.core.keelson.dev "p" is forbidden: node didn't have enough allocatable resources: cpu, requested: 5100, allocatable: 4000; memory, requested: 9730785280, allocatable: 8589934592`},
		"a Pod of no node":           {nodes: nodes, prepare: func(p *keelsonv1.Pod) { p.Spec.NodeName = "" }, change: ask("5", "9Gi")},
		"a node that is gone":        {nodes: nodes, prepare: func(p *keelsonv1.Pod) { p.Spec.NodeName = "gone" }, change: ask("1", "1Gi"), want: `pods.core.keelson.dev "p" is forbidden: node "gone" not found`},
		"another change of such one": {nodes: nodes, prepare: func(p *keelsonv1.Pod) { p.Spec.NodeName = "gone" }, change: func(p *keelsonv1.Pod) { p.Spec.Containers[0].Image = "x" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			old := resizablePod()
			if tt.prepare != nil {
				tt.prepare(old)
			}
			pod := &keelsonv1.Pod{ObjectMeta: old.ObjectMeta, Spec: *old.Spec.DeepCopy()}
			tt.change(pod)
			refusal, err := checkRoom(t.Context(), tt.nodes, pod, old)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if refusal != nil {
				got = refusal.Message
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if strings.Contains(got, "allocatable") && refusal.Details.Causes[0].Type != "NodeCapacity" {
				t.Errorf("causes %+v", refusal.Details.Causes)
			}
		})
	}
}
