package gateway

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestGracefulDeletion(t *testing.T) {
	f := start(t)
	pods := f.json.CoreV1().Pods(f.namespace)
	f.create(t, makePod("a", onNode))
	grace := func() (seen int64, annotation string) {
		t.Helper()
		pod, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil {
			t.Fatalf("the client sees no deletion: %v", pod.ObjectMeta)
		}
		stored := f.stored(t, "a")
		if want := stored.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second); !pod.DeletionTimestamp.Time.Equal(want) {
			t.Errorf("deletionTimestamp is %v, want %v", pod.DeletionTimestamp, want)
		}
		return *pod.DeletionGracePeriodSeconds, stored.Annotations[keelsonv1.DeletionGracePeriodAnnotation]
	}
	steps := []struct {
		name       string
		period     *int64
		seen       int64
		annotation string
	}{
		{"the first deletion", new(int64(20)), 20, "20"},
		{"one without a period", nil, 20, "20"},
		{"a longer one", new(int64(25)), 20, "20"},
		{"a shorter one", new(int64(5)), 5, "5"},
		{"a negative one is a second", new(int64(-7)), 1, "1"},
	}
	for _, step := range steps {
		if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: step.period}); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if seen, annotation := grace(); seen != step.seen || annotation != step.annotation {
			t.Errorf("%s: %d s, annotation %q, want %d and %q", step.name, seen, annotation, step.seen, step.annotation)
		}
	}
	if err := pods.Delete(t.Context(), "a", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after a forced deletion: %v", err)
	}
}

func TestDeletionAtOnce(t *testing.T) {
	f := start(t)
	tests := map[string]struct {
		name    string
		pod     func(*corev1.Pod)
		phase   corev1.PodPhase
		options metav1.DeleteOptions
	}{
		"a Pod without a node":   {"unbound", func(*corev1.Pod) {}, "", metav1.DeleteOptions{GracePeriodSeconds: new(int64(20))}},
		"one that has ended":     {"ended", onNode, corev1.PodSucceeded, metav1.DeleteOptions{}},
		"one that is forced off": {"forced", onNode, corev1.PodRunning, *metav1.NewDeleteOptions(0)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f.create(t, makePod(test.name, test.pod))
			if test.phase != "" {
				f.setStatus(t, test.name, func(s *corev1.PodStatus) { s.Phase = test.phase })
			}
			var deleted corev1.Pod
			err := f.json.CoreV1().RESTClient().Delete().Namespace(f.namespace).Resource("pods").Name(test.name).Body(&test.options).Do(t.Context()).Into(&deleted)
			if err != nil {
				t.Fatal(err)
			}
			if deleted.Name != test.name || deleted.DeletionGracePeriodSeconds == nil || *deleted.DeletionGracePeriodSeconds != 0 {
				t.Errorf("the answer is %+v", deleted.ObjectMeta)
			}
			if _, err := f.json.CoreV1().Pods(f.namespace).Get(t.Context(), test.name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
}

// setStatus writes a status as a node does.
func (f *front) setStatus(t testing.TB, name string, change func(*corev1.PodStatus)) {
	t.Helper()
	pod := f.stored(t, name)
	change(&pod.Status.PodStatus)
	if err := f.crs.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

func TestDeletionKeepsOtherFinalizers(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a", onNode, func(p *corev1.Pod) { p.Finalizers = append(p.Finalizers, "example.com/mine") }))
	if err := f.json.CoreV1().Pods(f.namespace).Delete(t.Context(), "a", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	stored := f.stored(t, "a")
	if len(stored.Finalizers) != 1 || stored.Finalizers[0] != "example.com/mine" || stored.DeletionTimestamp == nil {
		t.Errorf("stored is %+v", stored.ObjectMeta)
	}
}

func TestDeletionHonoursPreconditions(t *testing.T) {
	f := start(t)
	created := f.create(t, makePod("a", onNode))
	pods := f.json.CoreV1().Pods(f.namespace)
	wrong := map[string]metav1.Preconditions{
		"another UID":     {UID: new(types.UID("0"))},
		"another version": {ResourceVersion: new("1")},
	}
	for name, preconditions := range wrong {
		if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{Preconditions: &preconditions, GracePeriodSeconds: new(int64(5))}); !apierrors.IsConflict(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if stored := f.stored(t, "a"); stored.ResourceVersion != created.ResourceVersion {
		t.Error("a deletion that failed changed the Pod")
	}
	right := metav1.Preconditions{UID: &created.UID, ResourceVersion: &created.ResourceVersion}
	if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{Preconditions: &right, GracePeriodSeconds: new(int64(5))}); err != nil {
		t.Error(err)
	}
}

func TestDeleteCollection(t *testing.T) {
	f := start(t)
	for _, name := range []string{"a", "b", "c"} {
		f.create(t, makePod(name, onNode, func(p *corev1.Pod) { p.Labels["group"] = "x" }))
	}
	f.create(t, makePod("other"))
	got := f.do(t, "DELETE", f.pods()+"?labelSelector=group%3Dx&gracePeriodSeconds=7", "")
	if got.code != 200 || got.tree(t)["kind"] != "PodList" || len(got.tree(t)["items"].([]any)) != 3 {
		t.Fatalf("answer %d %s", got.code, got.body)
	}
	for _, name := range []string{"a", "b", "c"} {
		if stored := f.stored(t, name); stored.DeletionTimestamp == nil || stored.Annotations[keelsonv1.DeletionGracePeriodAnnotation] != "7" {
			t.Errorf("%s is %+v", name, stored.ObjectMeta)
		}
	}
	if stored := f.stored(t, "other"); stored.DeletionTimestamp != nil {
		t.Error("the other one is being deleted")
	}
	if err := f.protobuf.CoreV1().Pods(f.namespace).DeleteCollection(t.Context(), *metav1.NewDeleteOptions(0), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	left, err := f.json.CoreV1().Pods(f.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("%d are left, %v", len(left.Items), err)
	}
}

func TestReplicationControllersOrphanByDefault(t *testing.T) {
	f := start(t)
	rcs := f.json.CoreV1().ReplicationControllers(f.namespace)
	create := func(name string) {
		rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{"example.com/stay"}},
			Spec: corev1.ReplicationControllerSpec{Replicas: new(int32(0)), Selector: map[string]string{"a": "b"},
				Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: makePod("x").Spec}}}
		if _, err := rcs.Create(t.Context(), rc, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	finalizers := func(ctx context.Context, name string) int {
		rc, err := rcs.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, finalizer := range rc.Finalizers {
			if finalizer == metav1.FinalizerOrphanDependents {
				n++
			}
		}
		return n
	}
	create("default")
	create("background")
	if err := rcs.Delete(t.Context(), "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := rcs.Delete(t.Context(), "background", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}); err != nil {
		t.Fatal(err)
	}
	if got := finalizers(t.Context(), "default"); got != 1 {
		t.Error("a deletion without a policy does not orphan")
	}
	if got := finalizers(t.Context(), "background"); got != 0 {
		t.Error("a deletion in the background orphans")
	}
}
