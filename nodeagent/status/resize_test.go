package status

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func amounts(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func requirements(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: amounts(cpu, memory), Limits: amounts(cpu, memory)}
}

// sizedInput is a running Pod that was given one CPU, and whose container has has.
func sizedInput(has runtime.Resources) Input {
	in := Input{Pod: makePod("a"), RuntimeName: "fake", Now: now, State: runtime.PodState{
		Sandboxes: sandbox(), Containers: []runtime.Container{{ID: "1", Name: "a", State: runtime.Running, Resources: has}}}}
	in.Pod.Generation = 3
	in.Pod.Spec.Containers[0].Resources = requirements("1", "64Mi")
	return in
}

func TestResizeShows(t *testing.T) {
	before := corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: "Deferred", LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))},
		{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))},
	}}
	tests := map[string]struct {
		resize   Resize
		previous corev1.PodStatus
		phase    corev1.PodPhase
		want     []corev1.PodCondition
	}{
		"nothing to do": {previous: before},
		"one that waits keeps the time since when it does": {
			resize: Resize{PendingReason: "Deferred", PendingMessage: "no room"}, previous: before,
			want: []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: "Deferred", Message: "no room",
				ObservedGeneration: 3, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}}},
		"another reason has another time": {
			resize: Resize{PendingReason: "Infeasible", PendingMessage: "never"}, previous: before,
			want: []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: "Infeasible", Message: "never",
				ObservedGeneration: 3, LastTransitionTime: now}}},
		"one in progress, while a newer one waits": {
			resize: Resize{PendingReason: "Deferred", InProgress: true, Generation: 2},
			want: []corev1.PodCondition{
				{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: "Deferred", ObservedGeneration: 3, LastTransitionTime: now},
				{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, ObservedGeneration: 2, LastTransitionTime: now}}},
		"one that fails": {
			resize: Resize{InProgress: true, Error: "boom"}, previous: before,
			want: []corev1.PodCondition{{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, Reason: "Error", Message: "boom",
				ObservedGeneration: 3, LastTransitionTime: now}}},
		"a Pod that has ended": {resize: Resize{InProgress: true, PendingReason: "Deferred"}, previous: corev1.PodStatus{Phase: corev1.PodFailed}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := sizedInput(runtime.Resources{CPUShares: 1024, Asked: requirements("1", "64Mi")})
			in.Resize, in.Previous = tt.resize, tt.previous
			var got []corev1.PodCondition
			for _, c := range Compute(in).Conditions {
				if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
					got = append(got, c)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResourcesOfContainersShow(t *testing.T) {
	given := requirements("1", "64Mi")
	given.Limits[corev1.ResourceEphemeralStorage] = resource.MustParse("1Gi")
	tests := map[string]struct {
		spec      corev1.ResourceRequirements
		container runtime.Container
		want      *corev1.ResourceRequirements
	}{
		"nothing is something of a container that is there": {container: runtime.Container{State: runtime.Running, Resources: runtime.Resources{CPUShares: 2}},
			want: &corev1.ResourceRequirements{}},
		"what it was given": {spec: given, container: runtime.Container{State: runtime.Running, Resources: runtime.Resources{CPUShares: 1024, Asked: given}}, want: &given},
		"what it has, until it has what it was given": {spec: given,
			container: runtime.Container{State: runtime.Running, Resources: runtime.Resources{CPUShares: 512, Asked: requirements("500m", "32Mi")}},
			want: &corev1.ResourceRequirements{Requests: amounts("500m", "32Mi"), Limits: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("32Mi"), corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}}},
		"one that has ended was given what it would get": {spec: given,
			container: runtime.Container{State: runtime.Exited, Resources: runtime.Resources{CPUShares: 512, Asked: requirements("500m", "32Mi")}}, want: &given},
		"one of an older version": {spec: given, container: runtime.Container{State: runtime.Running}, want: &given},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := sizedInput(runtime.Resources{})
			in.Pod.Spec.Containers[0].Resources = tt.spec
			tt.container.Name = "a"
			in.State.Containers = []runtime.Container{tt.container}
			got := Compute(in).ContainerStatuses[0]
			if diff := cmp.Diff(tt.want, got.Resources, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.spec.Requests, got.AllocatedResources, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("allocated resources (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResourcesOfThePodShow(t *testing.T) {
	in := sizedInput(runtime.Resources{CPUShares: 1024, Asked: requirements("1", "64Mi")})
	got := Compute(in)
	if diff := cmp.Diff(new(requirements("1", "64Mi")), got.Resources); diff != "" {
		t.Errorf("the sum of the containers (-want +got):\n%s", diff)
	}
	in.Previous = got
	in.Pod.Spec.Resources = new(requirements("2", "128Mi"))
	in.Resize.InProgress = true
	got = Compute(in)
	if diff := cmp.Diff(amounts("2", "128Mi"), got.AllocatedResources); diff != "" {
		t.Errorf("what it was given (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(new(requirements("1", "64Mi")), got.Resources); diff != "" {
		t.Errorf("what it has until then (-want +got):\n%s", diff)
	}
}
