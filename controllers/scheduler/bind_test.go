package scheduler

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
)

func TestBindingIsOnePatch(t *testing.T) {
	pod := schedulertest.MakePod("p")
	pod.Generation(3).Change(func(p *keelsonv1.Pod) {
		p.ResourceVersion = "42"
		p.Finalizers = []string{"example.com/x"}
	})
	patch, err := renderBinding(pod.Obj(), "n")
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(patch, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"metadata": map[string]any{
			"uid": "uid-p", "resourceVersion": "42",
			"finalizers":    []any{"example.com/x", keelsonv1.PodFinalizer},
			"managedFields": []any{map[string]any{}},
			"annotations":   map[string]any{keelsonv1.GenerationBeforeBindingAnnotation: "3"},
		},
		"spec": map[string]any{"nodeName": "n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
}

func TestBindingEndsTheTrackingOfFieldsThatNobodyApplies(t *testing.T) {
	update := metav1.ManagedFieldsEntry{Manager: "keelson-manager", Operation: metav1.ManagedFieldsOperationUpdate}
	apply := metav1.ManagedFieldsEntry{Manager: "mesh", Operation: metav1.ManagedFieldsOperationApply}
	tests := map[string]struct {
		fields      []metav1.ManagedFieldsEntry
		annotations map[string]string
		want        bool
	}{
		"nobody is known":                  {nil, nil, true},
		"made by a controller":             {[]metav1.ManagedFieldsEntry{update}, nil, true},
		"somebody has applied to it":       {[]metav1.ManagedFieldsEntry{update, apply}, nil, false},
		"kubectl has applied it":           {nil, map[string]string{corev1.LastAppliedConfigAnnotation: "{}"}, false},
		"an annotation of somebody else's": {nil, map[string]string{"a": "b"}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := schedulertest.MakePod("p").Change(func(p *keelsonv1.Pod) { p.ManagedFields, p.Annotations = tc.fields, tc.annotations })
			patch, err := renderBinding(pod.Obj(), "n")
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Metadata struct {
					ManagedFields []map[string]any `json:"managedFields"`
				} `json:"metadata"`
			}
			if err := json.Unmarshal(patch, &got); err != nil {
				t.Fatal(err)
			}
			var want []map[string]any
			if tc.want {
				want = []map[string]any{{}}
			}
			if diff := cmp.Diff(want, got.Metadata.ManagedFields); diff != "" {
				t.Errorf("managedFields in the patch (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnschedulableCondition(t *testing.T) {
	then, now := metav1.NewTime(time.Unix(100, 0)), metav1.NewTime(time.Unix(200, 0))
	condition := func(message string, since metav1.Time) corev1.PodCondition {
		return corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message: message, LastTransitionTime: since,
		}
	}
	other := corev1.PodCondition{Type: "example.com/gate", Status: corev1.ConditionTrue}
	tests := map[string]struct {
		present []corev1.PodCondition
		want    []corev1.PodCondition // nil: nothing to write
	}{
		"the first refusal":     {nil, []corev1.PodCondition{condition("full", now)}},
		"the same again":        {[]corev1.PodCondition{condition("full", then)}, nil},
		"another reason":        {[]corev1.PodCondition{condition("cordoned", then)}, []corev1.PodCondition{condition("full", then)}},
		"other conditions stay": {[]corev1.PodCondition{other}, []corev1.PodCondition{other, condition("full", now)}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := schedulertest.MakePod("p")
			pod.Change(func(p *keelsonv1.Pod) { p.Status.Conditions = tc.present })
			updated := computeWaiting(pod.Obj(), waiting{reason: corev1.PodReasonUnschedulable, message: "full"}, now)
			if updated == nil {
				if tc.want != nil {
					t.Fatal("nothing to write")
				}
				return
			}
			if diff := cmp.Diff(tc.want, updated.Status.Conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNodeChanges(t *testing.T) {
	tests := map[string]struct {
		change func(*keelsonv1.Node)
		want   plugins.EventKind
	}{
		"a heartbeat": {func(n *keelsonv1.Node) {
			n.ResourceVersion = "2"
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
		}, 0},
		"a cordon": {func(n *keelsonv1.Node) { n.Spec.Unschedulable = true }, plugins.NodeTaints},
		"a taint":  {func(n *keelsonv1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k"}} }, plugins.NodeTaints},
		"a label":  {func(n *keelsonv1.Node) { n.Labels = map[string]string{"a": "b"} }, plugins.NodeLabels},
		"more capacity": {func(n *keelsonv1.Node) {
			n.Status.Allocatable[corev1.ResourcePods] = n.Status.Allocatable[corev1.ResourceCPU]
		}, plugins.NodeAllocatable},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			before, after := schedulertest.MakeNode("n").Obj(), schedulertest.MakeNode("n").Obj()
			tc.change(after)
			if got := nodeChanges(before, after); got != tc.want {
				t.Errorf("changes are %b, want %b", got, tc.want)
			}
		})
	}
}
