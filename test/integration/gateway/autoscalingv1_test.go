package gateway

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applyautoscalingv1 "k8s.io/client-go/applyconfigurations/autoscaling/v1"
	"k8s.io/client-go/kubernetes"
)

func autoscaler(name string, percent int32) *autoscalingv1.HorizontalPodAutoscaler {
	return &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"},
			MaxReplicas:    4, TargetCPUUtilizationPercentage: &percent,
		},
	}
}

// TestAutoscalersOfVersion1 writes in the old version and reads in both.
func TestAutoscalersOfVersion1(t *testing.T) {
	f := start(t)
	for name, clients := range map[string]*kubernetes.Clientset{"json": f.json, "protobuf": f.protobuf} {
		t.Run(name, func(t *testing.T) {
			old, now := clients.AutoscalingV1().HorizontalPodAutoscalers(f.namespace), clients.AutoscalingV2().HorizontalPodAutoscalers(f.namespace)
			watcher, err := old.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
			if err != nil {
				t.Fatal(err)
			}
			defer watcher.Stop()
			created, err := old.Create(t.Context(), autoscaler(name, 60), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			expectCPU(t, now, name, 60)
			patched, err := old.Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec": {"targetCPUUtilizationPercentage": 70}}`), metav1.PatchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if patched.UID != created.UID || *patched.Spec.TargetCPUUtilizationPercentage != 70 {
				t.Errorf("the patched object is %+v", patched)
			}
			patched.Spec.MaxReplicas = 5
			if _, err := old.Update(t.Context(), patched, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			expectCPU(t, now, name, 70)
			list, err := old.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != 1 || list.Items[0].Spec.MaxReplicas != 5 || list.Items[0].Spec.TargetCPUUtilizationPercentage == nil {
				t.Errorf("the list is %+v", list.Items)
			}
			if err := old.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := old.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("after the deletion: %v", err)
			}
			expectEvents(t, watcher, watch.Added, watch.Modified, watch.Modified, watch.Deleted)
		})
	}
}

func expectEvents(t *testing.T, watcher watch.Interface, want ...watch.EventType) {
	t.Helper()
	var got []watch.EventType
	for range want {
		select {
		case event := <-watcher.ResultChan():
			got = append(got, event.Type)
			if _, ok := event.Object.(*autoscalingv1.HorizontalPodAutoscaler); !ok {
				t.Errorf("%s brings a %T", event.Type, event.Object)
			}
		case <-t.Context().Done():
			t.Fatalf("the watch ends after %v", got)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

type autoscalers interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (*autoscalingv2.HorizontalPodAutoscaler, error)
}

func expectCPU(t *testing.T, now autoscalers, name string, want int32) {
	t.Helper()
	got, err := now.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantMetrics := []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &want},
	}}}
	if diff := cmp.Diff(wantMetrics, got.Spec.Metrics); diff != "" {
		t.Errorf("metrics in autoscaling/v2 (-want +got):\n%s", diff)
	}
}

// TestAutoscalersOfVersion1AreApplied keeps what another applier owns.
func TestAutoscalersOfVersion1AreApplied(t *testing.T) {
	f := start(t)
	old := f.json.AutoscalingV1().HorizontalPodAutoscalers(f.namespace)
	apply := func(manager string, spec *applyautoscalingv1.HorizontalPodAutoscalerSpecApplyConfiguration) *autoscalingv1.HorizontalPodAutoscaler {
		t.Helper()
		applied, err := old.Apply(t.Context(), applyautoscalingv1.HorizontalPodAutoscaler("a", f.namespace).WithSpec(spec), metav1.ApplyOptions{FieldManager: manager})
		if err != nil {
			t.Fatal(err)
		}
		return applied
	}
	apply("one", applyautoscalingv1.HorizontalPodAutoscalerSpec().WithMaxReplicas(4).WithTargetCPUUtilizationPercentage(50).
		WithScaleTargetRef(applyautoscalingv1.CrossVersionObjectReference().WithAPIVersion("apps/v1").WithKind("Deployment").WithName("d")))
	got := apply("two", applyautoscalingv1.HorizontalPodAutoscalerSpec().WithMinReplicas(2))
	if *got.Spec.MinReplicas != 2 || got.Spec.MaxReplicas != 4 || *got.Spec.TargetCPUUtilizationPercentage != 50 {
		t.Errorf("after two applied parts: %+v", got.Spec)
	}
}
