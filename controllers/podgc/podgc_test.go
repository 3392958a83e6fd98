package podgc

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2/ktesting"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

const foreign = "example.com/backup"

// fixture is an API with objects and a reconciler whose cache is that API.
type fixture struct {
	t     *testing.T
	ctx   context.Context
	clock *clocktesting.FakeClock
	api   client.Client
	// liveNode is a Node that only a live read finds.
	liveNode string
	// beforeRead runs before a Pod is read live.
	beforeRead func(ctx context.Context, c client.Client)
	reconciler *Reconciler
}

func newFixture(t *testing.T, objects ...client.Object) *fixture {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	_, ctx := ktesting.NewTestContext(t)
	f := &fixture{t: t, ctx: ctx, clock: clocktesting.NewFakeClock(time.Unix(1_000_000, 0))}
	f.api = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&keelsonv1.Pod{}).WithIndex(&keelsonv1.Pod{}, byNode, nodesOf).Build()
	watching, ok := f.api.(client.WithWatch)
	if !ok {
		t.Fatal("the fake client cannot be intercepted")
	}
	live := interceptor.NewClient(watching, interceptor.Funcs{Get: f.readLive})
	f.reconciler = &Reconciler{
		releaser: releaser{client: f.api, live: live, clock: f.clock},
		options:  Options{Quarantine: DefaultQuarantine, Clock: f.clock},
		absent:   map[string]time.Time{},
	}
	return f
}

func (f *fixture) readLive(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	switch o.(type) {
	case *keelsonv1.Node:
		if key.Name == f.liveNode {
			return nil
		}
	case *keelsonv1.Pod:
		if f.beforeRead != nil {
			f.beforeRead(ctx, c)
		}
	}
	return c.Get(ctx, key, o, options...)
}

func (f *fixture) reconcile(node string) ctrl.Result {
	f.t.Helper()
	result, err := f.reconciler.Reconcile(f.ctx, ctrl.Request{NamespacedName: types.NamespacedName{Name: node}})
	if err != nil {
		f.t.Fatalf("Reconcile: %v", err)
	}
	return result
}

// pod returns nil when the Pod is gone.
func (f *fixture) pod(name string) *keelsonv1.Pod {
	f.t.Helper()
	pod := &keelsonv1.Pod{}
	err := f.api.Get(f.ctx, types.NamespacedName{Namespace: "default", Name: name}, pod)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return pod
}

func bound(name, node string) *builders.PodBuilder {
	return builders.MakePod(name).Namespace("default").UID(name).Node(node).Finalizer(keelsonv1.PodFinalizer)
}

func TestPodsOfAnAbsentNodeGoAfterTheQuarantine(t *testing.T) {
	f := newFixture(t, bound("lost", "gone").Obj(), bound("kept", "other").Obj())

	if wait := f.reconcile("gone").RequeueAfter; wait != DefaultQuarantine {
		t.Errorf("first look comes back in %s, want %s", wait, DefaultQuarantine)
	}
	f.clock.Step(DefaultQuarantine - time.Second)
	if wait := f.reconcile("gone").RequeueAfter; wait != time.Second {
		t.Errorf("second look comes back in %s, want 1s", wait)
	}
	if f.pod("lost") == nil {
		t.Fatal("the Pod went before its time")
	}

	f.clock.Step(time.Second)
	f.reconcile("gone")

	if f.pod("lost") != nil {
		t.Error("the Pod of the absent node is still there")
	}
	if f.pod("kept") == nil {
		t.Error("the Pod of another node went too")
	}
	if len(f.reconciler.absent) != 0 {
		t.Errorf("still remembers absent nodes: %v", f.reconciler.absent)
	}
}

func TestNoPodGoesWhile(t *testing.T) {
	tests := map[string]struct {
		objects  []client.Object
		liveNode string
		before   func(*fixture)
	}{
		"the node is there": {
			objects: []client.Object{&keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}},
		},
		"only the cache has not seen the node": {liveNode: "n"},
		"the node came back within the quarantine and went again": {
			before: func(f *fixture) {
				node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
				if err := f.api.Create(f.ctx, node); err != nil {
					f.t.Fatal(err)
				}
				f.reconcile("n")
				if err := f.api.Delete(f.ctx, node); err != nil {
					f.t.Fatal(err)
				}
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, append(tc.objects, bound("web", "n").Obj())...)
			f.liveNode = tc.liveNode
			f.reconcile("n")
			f.clock.Step(DefaultQuarantine)
			if tc.before != nil {
				tc.before(f)
			}

			f.reconcile("n")

			if pod := f.pod("web"); pod == nil || pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed {
				t.Errorf("the Pod was touched: %v", pod)
			}
		})
	}
}

func TestReleaseKeepsFinalizersOfOthers(t *testing.T) {
	f := newFixture(t, bound("web", "gone").Obj())
	f.beforeRead = func(ctx context.Context, c client.Client) {
		// Somebody adds one after the cache was read.
		pod := f.pod("web")
		if pod.Finalizers[len(pod.Finalizers)-1] == foreign {
			return
		}
		pod.Finalizers = append(pod.Finalizers, foreign)
		if err := c.Update(ctx, pod); err != nil {
			t.Fatal(err)
		}
	}
	f.reconcile("gone")
	f.clock.Step(DefaultQuarantine)

	f.reconcile("gone")

	pod := f.pod("web")
	if pod == nil {
		t.Fatal("the Pod is gone, with the other finalizer")
	}
	if diff := cmp.Diff([]string{foreign}, pod.Finalizers); diff != "" {
		t.Errorf("finalizers (-want +got):\n%s", diff)
	}
}

func TestComputeFailed(t *testing.T) {
	now := metav1.NewTime(time.Unix(2_000_000, 0))
	running := bound("web", "gone").Phase(corev1.PodRunning).Ready().Obj()
	got := computeFailed(running, nodeGone, now)
	want := []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC",
		Message: "PodGC: node no longer exists", LastTransitionTime: now,
	}}
	added := got.Status.Conditions[len(running.Status.Conditions):]
	if diff := cmp.Diff(want, added, cmpopts.EquateEmpty()); diff != "" || got.Status.Phase != corev1.PodFailed {
		t.Errorf("phase %s, conditions (-want +got):\n%s", got.Status.Phase, diff)
	}
	if again := computeFailed(got, nodeGone, now); again != nil {
		t.Errorf("a Pod that ended is changed again: %v", again.Status)
	}
}

func TestDeletedUnboundPodsAreReleased(t *testing.T) {
	deleting := time.Unix(1_000_000, 0)
	unbound := func(name string) *builders.PodBuilder {
		return builders.MakePod(name).Namespace("default").UID(name).Finalizer(keelsonv1.PodFinalizer)
	}
	tests := map[string]struct {
		pod  *keelsonv1.Pod
		want []string // finalizers that stay; nil: gone
	}{
		"deleted, ours only":         {pod: unbound("p").Deleting(deleting).Obj()},
		"deleted, with another":      {pod: unbound("p").Finalizer(foreign).Deleting(deleting).Obj(), want: []string{foreign}},
		"deleted, bound":             {pod: bound("p", "n").Deleting(deleting).Obj(), want: []string{keelsonv1.PodFinalizer}},
		"waiting for the scheduler":  {pod: unbound("p").Obj(), want: []string{keelsonv1.PodFinalizer}},
		"deleted, none of ours left": {pod: builders.MakePod("p").Namespace("default").Finalizer(foreign).Deleting(deleting).Obj(), want: []string{foreign}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, tc.pod)
			r := &unboundReconciler{releaser: f.reconciler.releaser}
			if _, err := r.Reconcile(f.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tc.pod)}); err != nil {
				t.Fatal(err)
			}
			var got []string
			if pod := f.pod("p"); pod != nil {
				got = pod.Finalizers
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("finalizers (-want +got):\n%s", diff)
			}
		})
	}
}
