package tainteviction

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

var now = time.Unix(1_000_000, 0)

func taint(key string) corev1.Taint {
	return corev1.Taint{Key: key, Value: "v", Effect: corev1.TaintEffectNoExecute}
}

func toleration(key string, seconds *int64) corev1.Toleration {
	return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}
}

func TestDecide(t *testing.T) {
	a, b := taint("a"), taint("b")
	for what, tc := range map[string]struct {
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		want        decision
	}{
		"no taint":                           {nil, nil, decision{}},
		"a taint that is not tolerated":      {[]corev1.Taint{a}, nil, decision{evict: true}},
		"one of two is not tolerated":        {[]corev1.Taint{a, b}, []corev1.Toleration{toleration("a", nil)}, decision{evict: true}},
		"tolerated for ever":                 {[]corev1.Taint{a}, []corev1.Toleration{toleration("a", nil)}, decision{}},
		"everything is tolerated":            {[]corev1.Taint{a, b}, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, decision{}},
		"tolerated for some time":            {[]corev1.Taint{a}, []corev1.Toleration{toleration("a", new(int64(30)))}, decision{wait: 20 * time.Second}},
		"the shortest time counts":           {[]corev1.Taint{a, b}, []corev1.Toleration{toleration("a", new(int64(300))), toleration("b", new(int64(15)))}, decision{wait: 5 * time.Second}},
		"the time is over":                   {[]corev1.Taint{a}, []corev1.Toleration{toleration("a", new(int64(10)))}, decision{evict: true}},
		"no time at all":                     {[]corev1.Taint{a}, []corev1.Toleration{toleration("a", new(int64(0)))}, decision{evict: true}},
		"another value":                      {[]corev1.Taint{a}, []corev1.Toleration{{Key: "a", Value: "w", Effect: corev1.TaintEffectNoExecute}}, decision{evict: true}},
		"the same value":                     {[]corev1.Taint{a}, []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpEqual, Value: "v"}}, decision{}},
		"a toleration of another effect":     {[]corev1.Taint{a}, []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, decision{evict: true}},
		"taints of other effects are others": {noExecute([]corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}), nil, decision{}},
	} {
		if got := decide(tc.taints, tc.tolerations, now.Add(-10*time.Second), now); got != tc.want {
			t.Errorf("%s: %+v, want %+v", what, got, tc.want)
		}
	}
}

type fixture struct {
	client.Client
	*Reconciler
	clock    *clocktesting.FakePassiveClock
	recorder *events.FakeRecorder
	t        *testing.T
}

func newFixture(t *testing.T, taints []corev1.Taint, tolerations ...corev1.Toleration) *fixture {
	t.Helper()
	kinds := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(kinds); err != nil {
		t.Fatal(err)
	}
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: taints}}
	pod := &keelsonv1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid", Finalizers: []string{keelsonv1.PodFinalizer}, CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
		Spec:       corev1.PodSpec{NodeName: "n", Tolerations: tolerations},
	}
	c := fake.NewClientBuilder().WithScheme(kinds).WithObjects(node, pod).WithStatusSubresource(pod).Build()
	f := &fixture{Client: c, clock: clocktesting.NewFakePassiveClock(now), recorder: events.NewFakeRecorder(10), t: t}
	f.Reconciler = NewReconciler(c, f.recorder, Options{Clock: f.clock})
	return f
}

func (f *fixture) look() (wait time.Duration, pod *keelsonv1.Pod) {
	f.t.Helper()
	key := client.ObjectKey{Namespace: "ns", Name: "p"}
	result, err := f.Reconcile(f.t.Context(), ctrl.Request{NamespacedName: key})
	if err != nil {
		f.t.Fatal(err)
	}
	pod = &keelsonv1.Pod{}
	if err := f.Get(f.t.Context(), key, pod); err != nil && !apierrors.IsNotFound(err) {
		f.t.Fatal(err)
	}
	return result.RequeueAfter, pod
}

func (f *fixture) setTaints(taints ...corev1.Taint) {
	f.t.Helper()
	node := &keelsonv1.Node{}
	if err := f.Get(f.t.Context(), client.ObjectKey{Name: "n"}, node); err != nil {
		f.t.Fatal(err)
	}
	node.Spec.Taints = taints
	if err := f.Update(f.t.Context(), node); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) said(want string) {
	f.t.Helper()
	select {
	case event := <-f.recorder.Events:
		if !strings.Contains(event, want) {
			f.t.Errorf("event %q, want one with %q", event, want)
		}
	default:
		f.t.Errorf("no event with %q", want)
	}
}

func TestPodLeavesWhenItsTimeIsOver(t *testing.T) {
	f := newFixture(t, []corev1.Taint{taint("a")}, toleration("a", new(int64(60))))
	if wait, pod := f.look(); wait != time.Minute || pod.DeletionTimestamp != nil {
		t.Errorf("wait %v, deleted %v", wait, pod.DeletionTimestamp)
	}
	f.clock.SetTime(now.Add(40 * time.Second))
	if wait, _ := f.look(); wait != 20*time.Second {
		t.Errorf("wait %v, want the rest of its time", wait)
	}
	f.clock.SetTime(now.Add(time.Minute))
	_, pod := f.look()
	if pod.DeletionTimestamp == nil {
		t.Fatal("it is still there")
	}
	if len(pod.Status.Conditions) != 1 || pod.Status.Conditions[0].Reason != "DeletionByTaintManager" {
		t.Errorf("conditions %+v", pod.Status.Conditions)
	}
	f.said("TaintManagerEviction Marking for deletion Pod ns/p")
}

func TestPodStaysWhenTheTaintGoes(t *testing.T) {
	f := newFixture(t, []corev1.Taint{taint("a")}, toleration("a", new(int64(60))))
	f.look()
	f.setTaints()
	if wait, pod := f.look(); wait != 0 || pod.DeletionTimestamp != nil {
		t.Errorf("wait %v, deleted %v", wait, pod.DeletionTimestamp)
	}
	f.said("TaintManagerEviction Cancelling deletion of Pod ns/p")
	f.setTaints(taint("a"))
	f.clock.SetTime(now.Add(time.Hour))
	if wait, _ := f.look(); wait != time.Minute {
		t.Errorf("wait %v, want its whole time again", wait)
	}
}

func TestTimeGoesOnAfterARestart(t *testing.T) {
	since := taint("a")
	since.TimeAdded = new(metav1.NewTime(now.Add(-50 * time.Second)))
	f := newFixture(t, []corev1.Taint{since}, toleration("a", new(int64(60))))
	if wait, _ := f.look(); wait != 10*time.Second {
		t.Errorf("wait %v, want what is left since the taint was added", wait)
	}
}

func TestPodWithoutATolerationLeavesAtOnce(t *testing.T) {
	f := newFixture(t, []corev1.Taint{taint("a")})
	if _, pod := f.look(); pod.DeletionTimestamp == nil {
		t.Error("it is still there")
	}
}
