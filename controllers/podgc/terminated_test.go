package podgc

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestSurplus(t *testing.T) {
	pod := func(name string, age time.Duration, reason string) keelsonv1.Pod {
		p := keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1_000_000, 0).Add(-age))}}
		p.Status.Phase, p.Status.Reason = corev1.PodFailed, reason
		return p
	}
	pods := []keelsonv1.Pod{pod("new", time.Minute, ""), pod("old", time.Hour, ""), pod("evicted", time.Second, "Evicted"), pod("older", 2*time.Hour, "")}
	for threshold, want := range map[int]string{4: "", 3: "evicted", 2: "evicted older", 1: "evicted older old"} {
		var got []string
		for _, p := range surplus(pods, threshold) {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("above %d: %v, want %s", threshold, got, want)
		}
	}
}

func TestOutOfServiceReleasesWhatWasDeleted(t *testing.T) {
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "off"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}}}
	pod := func(name string) *keelsonv1.Pod {
		return &keelsonv1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Finalizers: []string{keelsonv1.PodFinalizer}},
			Spec:       corev1.PodSpec{NodeName: "off"},
			Status:     keelsonv1.PodStatus{PodStatus: corev1.PodStatus{Phase: corev1.PodRunning}},
		}
	}
	f := newFixture(t, node, pod("deleted"), pod("stays"))
	if err := f.api.Delete(f.ctx, pod("deleted")); err != nil {
		t.Fatal(err)
	}
	r := &outOfServiceReconciler{releaser: f.reconciler.releaser}
	if _, err := r.Reconcile(f.ctx, ctrl.Request{NamespacedName: types.NamespacedName{Name: "off"}}); err != nil {
		t.Fatal(err)
	}
	if f.pod("deleted") != nil {
		t.Error("the deleted Pod is still there")
	}
	if got := f.pod("stays"); got == nil || got.DeletionTimestamp != nil || got.Status.Phase != corev1.PodRunning {
		t.Errorf("the other Pod: %+v", got)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if isOutOfService(node) {
		t.Error("a node whose agent is well counts as out of service")
	}
}

func TestTheOldestEndedPodsGo(t *testing.T) {
	at := func(name string, age time.Duration, phase corev1.PodPhase) *keelsonv1.Pod {
		return &keelsonv1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(time.Unix(1_000_000, 0).Add(-age))},
			Status:     keelsonv1.PodStatus{PodStatus: corev1.PodStatus{Phase: phase}},
		}
	}
	scheme := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithIndex(&keelsonv1.Pod{}, ended, indexEnded).WithObjects(
		at("done-long-ago", 3*time.Hour, corev1.PodSucceeded), at("failed", 2*time.Hour, corev1.PodFailed), at("done", time.Hour, corev1.PodSucceeded),
		at("runs", 4*time.Hour, corev1.PodRunning), at("waits", 4*time.Hour, corev1.PodPending)).Build()
	left := func() string {
		t.Helper()
		var list keelsonv1.PodList
		if err := api.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		names := ""
		for i := range list.Items {
			names += list.Items[i].Name + " "
		}
		return names
	}
	for _, tt := range []struct {
		threshold int
		want      string
	}{{3, "done done-long-ago failed runs waits "}, {1, "done runs waits "}} {
		if _, err := (&terminatedReconciler{client: api, threshold: tt.threshold}).Reconcile(t.Context(), ctrl.Request{}); err != nil || left() != tt.want {
			t.Errorf("above %d: left %s, want %s: %v", tt.threshold, left(), tt.want, err)
		}
	}
}
