package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/service"
)

func TestStatus(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a", onNode))
	pods := f.json.CoreV1().Pods(f.namespace)
	patch := `{"metadata":{"annotations":{"seen":"true"}},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"main","ready":true,"restartCount":3,"image":"i","imageID":"i","state":{"running":{}}}]}}`
	patched, err := pods.Patch(t.Context(), "a", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	if patched.Status.Phase != corev1.PodRunning || patched.Annotations["seen"] != "true" {
		t.Errorf("patched is %+v", patched)
	}
	want := keelsonv1.PodSummary{Ready: "1/1", Status: "Running", Restarts: 3}
	if diff := cmp.Diff(want, f.stored(t, "a").Status.Summary); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	patched.Status.Phase = corev1.PodFailed
	patched.Status.Reason = "Evicted"
	patched.Spec.Containers[0].Image = "another" // no status: it stays
	updated, err := pods.UpdateStatus(t.Context(), patched, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if updated.Spec.Containers[0].Image != "image:1" || f.stored(t, "a").Status.Summary.Status != "Evicted" {
		t.Errorf("updated is %+v, columns %+v", updated.Spec.Containers, f.stored(t, "a").Status.Summary)
	}
	merged, err := pods.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"status":{"reason":"Other"}}`), metav1.PatchOptions{}, "status")
	if err != nil || merged.Status.Reason != "Other" || f.stored(t, "a").Status.Summary.Status != "Other" {
		t.Errorf("merged: %v, columns %+v", err, f.stored(t, "a").Status.Summary)
	}
}

func TestBindings(t *testing.T) {
	f := start(t)
	pods := f.protobuf.CoreV1().Pods(f.namespace)
	created := f.create(t, makePod("a"))
	binding := func(node string) *corev1.Binding {
		return &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: created.UID, Labels: map[string]string{"zone": "z"}, Annotations: map[string]string{"by": "me"}},
			Target: corev1.ObjectReference{Kind: "Node", Name: node}}
	}
	wrong := binding("n1")
	wrong.UID = "another"
	if err := pods.Bind(t.Context(), wrong, metav1.CreateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("a binding of another Pod: %v", err)
	}
	if err := pods.Bind(t.Context(), binding("n1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stored := f.stored(t, "a")
	if stored.Spec.NodeName != "n1" || stored.Labels["zone"] != "z" || stored.Annotations["by"] != "me" || !strings.Contains(strings.Join(stored.Finalizers, " "), keelsonv1.PodFinalizer) {
		t.Errorf("stored is %+v on %s", stored.ObjectMeta, stored.Spec.NodeName)
	}
	err := pods.Bind(t.Context(), binding("n2"), metav1.CreateOptions{})
	if want := `Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n1"`; err == nil || err.Error() != want {
		t.Errorf("a second binding: %v, want %s", err, want)
	}
	f.create(t, makePod("b"))
	legacy := `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"b"},"target":{"name":"n3"}}`
	if got := f.do(t, "POST", "/api/v1/namespaces/"+f.namespace+"/bindings", legacy); got.code != 201 || f.stored(t, "b").Spec.NodeName != "n3" {
		t.Errorf("legacy: %d %s", got.code, got.body)
	}
	if got := f.do(t, "POST", f.pods("b", "binding"), strings.ReplaceAll(legacy, `"n3"`, `""`)); got.code != 422 {
		t.Errorf("no target: %d %s", got.code, got.body)
	}
}

func TestScale(t *testing.T) {
	f := start(t)
	rcs := f.protobuf.CoreV1().ReplicationControllers(f.namespace)
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ReplicationControllerSpec{Replicas: new(int32(1)), Selector: map[string]string{"a": "b"},
		Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: makePod("x").Spec}}}
	if _, err := rcs.Create(t.Context(), rc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scale, err := rcs.GetScale(t.Context(), "a", metav1.GetOptions{})
	if err != nil || scale.Spec.Replicas != 1 {
		t.Fatalf("scale %+v, %v", scale, err)
	}
	scale.Spec.Replicas = 3
	if scale, err = rcs.UpdateScale(t.Context(), "a", scale, metav1.UpdateOptions{}); err != nil || scale.Spec.Replicas != 3 {
		t.Fatalf("updated scale %+v, %v", scale, err)
	}
	for i, kind := range []types.PatchType{types.StrategicMergePatchType, types.MergePatchType} {
		body := `{"spec":{"replicas":` + string(rune('4'+i)) + `}}`
		if _, err := rcs.Patch(t.Context(), "a", kind, []byte(body), metav1.PatchOptions{}, "scale"); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		got, err := rcs.Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil || *got.Spec.Replicas != int32(4+i) {
			t.Errorf("%s: %v, %v", kind, got.Spec.Replicas, err)
		}
	}
}

func TestEviction(t *testing.T) {
	f := start(t)
	running := func(name string, ready corev1.ConditionStatus) {
		f.create(t, makePod(name, onNode, func(p *corev1.Pod) { p.Labels["app"] = "guarded" }))
		f.setStatus(t, name, func(s *corev1.PodStatus) {
			s.Phase = corev1.PodRunning
			s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
		})
	}
	running("a", corev1.ConditionTrue)
	running("b", corev1.ConditionTrue)
	running("sick", corev1.ConditionFalse)
	budgets := f.json.PolicyV1().PodDisruptionBudgets(f.namespace)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "one"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "guarded"}}}}
	budget, err := budgets.Create(t.Context(), budget, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	evict := func(name string, dryRun ...string) error {
		return f.protobuf.PolicyV1().Evictions(f.namespace).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: f.namespace},
			DeleteOptions: &metav1.DeleteOptions{DryRun: dryRun, GracePeriodSeconds: new(int64(9))}})
	}
	// By a plain request: client-go would come again for as long as Retry-After says.
	plain := `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"a"}}`
	if got := f.do(t, "POST", f.pods("a", "eviction"), plain); got.code != 429 || got.header.Get("Retry-After") != "10" {
		t.Errorf("before the budget is looked at: %d %s, Retry-After %q", got.code, got.body, got.header.Get("Retry-After"))
	}
	budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, DisruptionsAllowed: 1, CurrentHealthy: 2, DesiredHealthy: 1, ExpectedPods: 3}
	if _, err = budgets.UpdateStatus(t.Context(), budget, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := evict("a", metav1.DryRunAll); err != nil {
		t.Errorf("dry run: %v", err)
	}
	if err := evict("a"); err != nil {
		t.Fatalf("the first: %v", err)
	}
	stored := f.stored(t, "a")
	if stored.DeletionTimestamp == nil || stored.Annotations[keelsonv1.DeletionGracePeriodAnnotation] != "9" || !hasDisruptionTarget(stored) {
		t.Errorf("evicted is %+v %+v", stored.ObjectMeta, stored.Status.Conditions)
	}
	if budget, err = budgets.Get(t.Context(), "one", metav1.GetOptions{}); err != nil || budget.Status.DisruptionsAllowed != 0 || len(budget.Status.DisruptedPods) != 1 {
		t.Errorf("the budget is %+v, %v", budget.Status, err)
	}
	if err := evict("b"); !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "Cannot evict pod as it would violate the pod's disruption budget.") {
		t.Errorf("the second: %v", err)
	}
	if stored := f.stored(t, "b"); stored.DeletionTimestamp != nil || hasDisruptionTarget(stored) {
		t.Errorf("the second was changed: %+v", stored)
	}
	if err := evict("sick"); err != nil {
		t.Errorf("one that is not ready, while enough others are: %v", err)
	}
	budget.ObjectMeta = metav1.ObjectMeta{Name: "two"}
	if _, err := budgets.Create(t.Context(), budget, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := evict("b"); err == nil || !strings.Contains(err.Error(), "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.") {
		t.Errorf("with two budgets: %v", err)
	}
	beta := `{"apiVersion":"policy/v1beta1","kind":"Eviction","metadata":{"name":"pending"}}`
	f.create(t, makePod("pending"))
	if got := f.do(t, "POST", f.pods("pending", "eviction"), beta); got.code != 201 {
		t.Errorf("one that has not started: %d %s", got.code, got.body)
	}
	if err := evict("none"); !apierrors.IsNotFound(err) {
		t.Errorf("one that is not there: %v", err)
	}
}

func hasDisruptionTarget(pod *keelsonv1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.DisruptionTarget && condition.Status == corev1.ConditionTrue && condition.Reason == "EvictionByEvictionAPI" {
			return true
		}
	}
	return false
}

func TestEphemeralContainers(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a", onNode))
	pods := f.json.CoreV1().Pods(f.namespace)
	patch := `{"metadata":{"labels":{"dropped":"yes"}},"spec":{"ephemeralContainers":[{"name":"debug","image":"d","targetContainerName":"main"}]}}`
	patched, err := pods.Patch(t.Context(), "a", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "ephemeralcontainers")
	if err != nil {
		t.Fatal(err)
	}
	if len(patched.Spec.EphemeralContainers) != 1 || patched.Labels["dropped"] != "" {
		t.Fatalf("patched is %+v", patched)
	}
	patched.Spec.EphemeralContainers = append(patched.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "more", Image: "m"}})
	patched.Spec.Containers[0].Image = "another"
	updated, err := pods.UpdateEphemeralContainers(t.Context(), "a", patched, metav1.UpdateOptions{})
	if err != nil || len(updated.Spec.EphemeralContainers) != 2 || updated.Spec.Containers[0].Image != "image:1" {
		t.Errorf("updated is %+v, %v", updated, err)
	}
	stored := f.stored(t, "a")
	if len(stored.Spec.EphemeralContainers) != 2 || stored.Spec.NodeName != "node-1" {
		t.Errorf("stored is %+v", stored.Spec)
	}
	if got := f.do(t, "GET", f.pods("a", "ephemeralcontainers"), ""); got.tree(t)["kind"] != "Pod" {
		t.Errorf("read: %d %s", got.code, got.body)
	}
	updated.Spec.EphemeralContainers = nil
	if _, err := pods.Update(t.Context(), updated, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a plain update of them: %v", err)
	}
}

func TestServicesHaveTheirAddressesInTheAnswer(t *testing.T) {
	f := start(t)
	testEnv.StartManager(t, func(mgr ctrl.Manager) error { return service.Add(mgr, service.Options{}) })
	services := f.protobuf.CoreV1().Services(f.namespace)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	created, err := services.Create(t.Context(), svc, metav1.CreateOptions{})
	if err != nil || created.Spec.ClusterIP == "" {
		t.Fatalf("created with %q, %v", created.Spec.ClusterIP, err)
	}
	created.Spec.Type = corev1.ServiceTypeNodePort
	updated, err := services.Update(t.Context(), created, metav1.UpdateOptions{})
	if err != nil || updated.Spec.Ports[0].NodePort == 0 {
		t.Fatalf("updated to %+v, %v", updated.Spec, err)
	}
	patch := `{"spec":{"ports":[{"port":80,"name":"a","protocol":"TCP"},{"port":81,"name":"b","protocol":"TCP"}]}}`
	patched, err := services.Patch(t.Context(), "a", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil || len(patched.Spec.Ports) != 2 || patched.Spec.Ports[1].NodePort == 0 {
		t.Errorf("patched to %+v, %v", patched.Spec.Ports, err)
	}
	if err := services.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func TestAServiceIsAnsweredWithoutAManager(t *testing.T) {
	fake := clocktesting.NewFakeClock(time.Now())
	f := startAt(t, fake)
	go func() { // whoever waits for something has waited long enough
		for t.Context().Err() == nil {
			if fake.HasWaiters() {
				fake.Step(time.Minute)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	created, err := f.json.CoreV1().Services(f.namespace).Create(t.Context(), svc, metav1.CreateOptions{})
	if err != nil || created.Name != "a" || created.Spec.ClusterIP != "" {
		t.Fatalf("answered %+v, %v", created, err)
	}
}
