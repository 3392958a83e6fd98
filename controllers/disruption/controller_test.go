package disruption

import (
	"strings"
	"testing"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
)

func store(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(kinds); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(kinds).WithObjects(objects...).
		WithStatusSubresource(&policyv1.PodDisruptionBudget{}, &keelsonv1.Pod{}).Build()
}

func owned(pod *keelsonv1.Pod, by client.Object, kind schema.GroupVersionKind) *keelsonv1.Pod {
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(by, kind)}
	return pod
}

func meta1(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name + "-uid")}
}

func TestScaleOfOwners(t *testing.T) {
	deployment := &appsv1.Deployment{ObjectMeta: meta1("web"), Spec: upstreamappsv1.DeploymentSpec{Replicas: new(int32(4))}}
	deploymentKind, setKind := appsv1.GroupVersion.WithKind("Deployment"), appsv1.GroupVersion.WithKind("ReplicaSet")
	old := &appsv1.ReplicaSet{ObjectMeta: meta1("web-1"), Spec: upstreamappsv1.ReplicaSetSpec{Replicas: new(int32(1))}}
	fresh := &appsv1.ReplicaSet{ObjectMeta: meta1("web-2"), Spec: upstreamappsv1.ReplicaSetSpec{Replicas: new(int32(3))}}
	for _, set := range []*appsv1.ReplicaSet{old, fresh} {
		set.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(deployment, deploymentKind)}
	}
	alone := &appsv1.ReplicaSet{ObjectMeta: meta1("alone")}
	rc := &keelsonv1.ReplicationController{ObjectMeta: meta1("rc"), Spec: corev1.ReplicationControllerSpec{Replicas: new(int32(2))}}
	stateful := &appsv1.StatefulSet{ObjectMeta: meta1("db"), Spec: upstreamappsv1.StatefulSetSpec{Replicas: new(int32(5))}}
	all := pods(7, 0)
	owned(all[0], old, setKind)
	owned(all[1], fresh, setKind)
	owned(all[2], fresh, setKind)
	owned(all[3], alone, setKind)
	owned(all[4], rc, keelsonv1.GroupVersion.WithKind("ReplicationController"))
	owned(all[5], stateful, appsv1.GroupVersion.WithKind("StatefulSet"))
	r := NewReconciler(store(t, deployment, old, fresh, alone, rc, stateful), events.NewFakeRecorder(10), Options{})
	total, unmanaged, err := r.scaleOfOwners(t.Context(), all)
	if err != nil || total != 4+1+2+5 || len(unmanaged) != 1 || unmanaged[0] != "p6" {
		t.Errorf("total %d, without owners %v, %v", total, unmanaged, err)
	}

	gone := pods(1, 0)
	owned(gone[0], &appsv1.ReplicaSet{ObjectMeta: meta1("gone")}, setKind)
	if _, _, err := r.scaleOfOwners(t.Context(), gone); err == nil || err.Error() != `found no controllers for pod "p0"` {
		t.Errorf("an owner that is gone: %v", err)
	}
	owned(gone[0], &appsv1.DaemonSet{ObjectMeta: meta1("agent")}, appsv1.GroupVersion.WithKind("DaemonSet"))
	if _, _, err := r.scaleOfOwners(t.Context(), gone); err == nil || err.Error() != "daemonsets.apps does not implement the scale subresource" {
		t.Errorf("a DaemonSet: %v", err)
	}
	owned(gone[0], &batchv1.Job{ObjectMeta: meta1("once")}, batchv1.GroupVersion.WithKind("Job"))
	if _, _, err := r.scaleOfOwners(t.Context(), gone); err == nil || err.Error() != "jobs.batch does not implement the scale subresource" {
		t.Errorf("a Job: %v", err)
	}
	namesake := &appsv1.ReplicaSet{ObjectMeta: meta1("alone")}
	namesake.UID = "another"
	owned(gone[0], namesake, setKind)
	if _, _, err := r.scaleOfOwners(t.Context(), gone); err == nil {
		t.Error("another owner of the same name was taken")
	}
}

func TestReconcile(t *testing.T) {
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta1("budget"), Spec: atLeast("1")}
	all := pods(3, 0)
	c := store(t, budget, all[0], all[1], all[2])
	recorder := events.NewFakeRecorder(10)
	r := NewReconciler(c, recorder, Options{Clock: clocktesting.NewFakePassiveClock(now)})
	key := client.ObjectKeyFromObject(budget)
	versions := map[string]bool{}
	for range 3 {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(t.Context(), key, budget); err != nil {
			t.Fatal(err)
		}
		versions[budget.ResourceVersion] = true
	}
	if budget.Status.DisruptionsAllowed != 2 || budget.Status.Summary.MinAvailable != "1" || budget.Status.Summary.MaxUnavailable != "N/A" {
		t.Errorf("status %+v", budget.Status)
	}
	if len(versions) != 1 {
		t.Errorf("written %d times, want once", len(versions))
	}

	budget.Spec = atMost("50%")
	if err := c.Update(t.Context(), budget); err != nil {
		t.Fatal(err)
	}
	owner := &appsv1.ReplicaSet{ObjectMeta: meta1("gone")}
	if err := c.Update(t.Context(), owned(all[0], owner, appsv1.GroupVersion.WithKind("ReplicaSet"))); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err == nil {
		t.Error("no error for an owner that is gone")
	}
	if err := c.Get(t.Context(), key, budget); err != nil || budget.Status.DisruptionsAllowed != 0 {
		t.Errorf("%d allowed when nobody knows, %v", budget.Status.DisruptionsAllowed, err)
	}
	select {
	case event := <-recorder.Events:
		if !strings.Contains(event, "CalculateExpectedPodCountFailed") {
			t.Errorf("event %q", event)
		}
	default:
		t.Error("no event says why")
	}
}

// What is odd is said when the status changes, not at every look.
func TestUnmanagedPodsAreToldOfOnce(t *testing.T) {
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta1("budget"), Spec: atMost("1")}
	all := pods(2, 0)
	recorder := events.NewFakeRecorder(10)
	r := NewReconciler(store(t, budget, all[0], all[1]), recorder, Options{Clock: clocktesting.NewFakePassiveClock(now)})
	for range 3 {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(budget)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(recorder.Events) != 1 {
		t.Fatalf("%d events, want 1", len(recorder.Events))
	}
	if event := <-recorder.Events; !strings.Contains(event, "UnmanagedPods") {
		t.Errorf("event %q", event)
	}
}

// A Pod that was evicted, and that nobody deleted, counts again, and is told of once.
func TestEvictedButNotDeleted(t *testing.T) {
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta1("budget"), Spec: atLeast("1")}
	all := pods(2, 0)
	budget.Status.DisruptedPods = map[string]metav1.Time{"p0": metav1.NewTime(now.Add(-3 * time.Minute)), "p1": metav1.NewTime(now.Add(-time.Minute))}
	recorder := events.NewFakeRecorder(10)
	c := store(t, budget, all[0], all[1])
	r := NewReconciler(c, recorder, Options{Clock: clocktesting.NewFakePassiveClock(now)})
	for range 3 {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(budget)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(budget), budget); err != nil || budget.Status.CurrentHealthy != 1 || len(budget.Status.DisruptedPods) != 1 {
		t.Errorf("status %+v, %v", budget.Status, err)
	}
	if len(recorder.Events) != 1 {
		t.Fatalf("%d events, want 1", len(recorder.Events))
	}
	if event := <-recorder.Events; event != "Warning NotDeleted Pod was expected by PDB ns/budget to be deleted but it wasn't" {
		t.Errorf("event %q", event)
	}
}

func TestStaleTarget(t *testing.T) {
	set := func(reason string, age time.Duration) *keelsonv1.Pod {
		pod := pods(1, 0)[0]
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.NewTime(now.Add(-age)),
		})
		return pod
	}
	for what, tc := range map[string]struct {
		pod  *keelsonv1.Pod
		wait time.Duration
		want corev1.ConditionStatus
	}{
		"one that nobody deleted":  {set("EvictionByEvictionAPI", 3*time.Minute), 0, corev1.ConditionFalse},
		"one that may yet be":      {set("EvictionByEvictionAPI", time.Minute), time.Minute, corev1.ConditionTrue},
		"one that its node evicts": {set(corev1.PodReasonTerminationByKubelet, time.Hour), 0, corev1.ConditionTrue},
	} {
		t.Run(what, func(t *testing.T) {
			c := store(t, tc.pod)
			r := &staleReconciler{client: c, clock: clocktesting.NewFakePassiveClock(now)}
			result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tc.pod)})
			if err != nil || result.RequeueAfter != tc.wait {
				t.Errorf("again in %v, %v", result.RequeueAfter, err)
			}
			got := &keelsonv1.Pod{}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(tc.pod), got); err != nil {
				t.Fatal(err)
			}
			if status := got.Status.Conditions[1].Status; status != tc.want {
				t.Errorf("condition %s, want %s", status, tc.want)
			}
		})
	}
}
