package replicas

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

func admitAll(context.Context, *keelsonv1.Pod) error { return nil }

// rig is an engine over an API that can fail.
type rig struct {
	engine Engine
	store  client.Client
	events *events.FakeRecorder
	// creates and deletes count requests, failed ones included.
	creates, deletes atomic.Int32
	// failCreate and failDelete, when set, answer in place of the API.
	failCreate func(n int32) error
	failDelete func(name string) error
}

func newRig(t *testing.T, objects ...client.Object) *rig {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	r := &rig{events: events.NewFakeRecorder(1000)}
	r.store = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if n := r.creates.Add(1); r.failCreate != nil {
				if err := r.failCreate(n); err != nil {
					return err
				}
			}
			return c.Create(ctx, obj, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			r.deletes.Add(1)
			if r.failDelete != nil {
				if err := r.failDelete(obj.GetName()); err != nil {
					return err
				}
			}
			return c.Delete(ctx, obj, opts...)
		},
	}).Build()
	r.engine = Engine{Control: podcontrol.Control{Client: r.store, Live: r.store, Recorder: r.events, Admit: admitAll}}
	return r
}

func (r *rig) eventsWith(text string) int {
	n := 0
	for {
		select {
		case e := <-r.events.Events:
			if strings.Contains(e, text) {
				n++
			}
		default:
			return n
		}
	}
}

func (r *rig) stored(t *testing.T) []*keelsonv1.Pod {
	t.Helper()
	var list keelsonv1.PodList
	if err := r.store.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var out []*keelsonv1.Pod
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	return out
}

func plan(o Owner, pods []*keelsonv1.Pod) *Plan {
	p := MakePlan(Input{Owner: o, Pods: pods, Now: now})
	return &p
}

func TestScaleCreatesAndTells(t *testing.T) {
	r, o := newRig(t), owner(5)
	if err := r.engine.Scale(t.Context(), &o, plan(o, nil)); err != nil {
		t.Fatal(err)
	}
	if got := len(r.stored(t)); got != 5 {
		t.Errorf("%d Pods exist, want 5", got)
	}
	if got := r.eventsWith("Normal SuccessfulCreate Created pod: web-"); got != 5 {
		t.Errorf("%d events, want 5", got)
	}
}

func TestScaleStopsEarlyWhenPodsAreRefused(t *testing.T) {
	r, o := newRig(t), owner(400)
	r.failCreate = func(int32) error { return errors.New("exceeded quota: " + strings.Repeat("x", 2000)) }
	err := r.engine.Scale(t.Context(), &o, plan(o, nil))
	if err == nil || !strings.Contains(err.Error(), "exceeded quota") || strings.Contains(err.Error(), "create a Pod") {
		t.Errorf("error = %.80v, want the API's message", err)
	}
	if got := r.creates.Load(); got != 1 {
		t.Errorf("%d requests for Pods that are all refused, want 1", got)
	}
	select {
	case e := <-r.events.Events:
		if !strings.HasPrefix(e, "Warning FailedCreate Error creating: exceeded quota") || len(e) > 1024+len("Warning FailedCreate ") {
			t.Errorf("event of %d bytes: %.80s", len(e), e)
		}
	default:
		t.Error("no event")
	}
}

func TestScaleIsQuietInATerminatingNamespace(t *testing.T) {
	r, o := newRig(t), owner(400)
	r.failCreate = func(int32) error {
		err := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("namespace is being terminated"))
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
		return err
	}
	if err := r.engine.Scale(t.Context(), &o, plan(o, nil)); err != nil {
		t.Errorf("error = %v, want none", err)
	}
	if r.creates.Load() != 1 || r.eventsWith("") != 0 {
		t.Errorf("%d requests, want one and no event", r.creates.Load())
	}
}

func TestScaleDeletesAllItCan(t *testing.T) {
	all := pods(mine("a"), mine("b"), mine("c"), mine("gone"))
	r := newRig(t, all[0], all[1], all[2])
	r.failDelete = func(name string) error {
		if name == "b" {
			return errors.New("refused by a webhook")
		}
		return nil
	}
	o := owner(0)
	err := r.engine.Scale(t.Context(), &o, plan(o, all))
	if err == nil || !strings.Contains(err.Error(), "unable to delete pods: refused by a webhook") || strings.Contains(err.Error(), "gone") {
		t.Errorf("error = %v, want that of b only", err)
	}
	if got := namesOf(r.stored(t)); len(got) != 1 || got[0] != "b" {
		t.Errorf("%v are left, want b", got)
	}
}

// A Pod that was replaced under its name (deleted and made again) is not the victim.
func TestScaleSparesAPodWithAnotherUID(t *testing.T) {
	planned := mine("a").Obj()
	r := newRig(t, mine("a").UID("newer").Obj())
	var preconditions atomic.Bool
	r.engine.Client = interceptor.NewClient(r.store.(client.WithWatch), interceptor.Funcs{
		Delete: func(_ context.Context, _ client.WithWatch, _ client.Object, opts ...client.DeleteOption) error {
			o := (&client.DeleteOptions{}).ApplyOptions(opts)
			preconditions.Store(o.Preconditions != nil && o.Preconditions.UID != nil && *o.Preconditions.UID == "uid-a")
			return nil
		},
	})
	o := owner(0)
	if err := r.engine.Scale(t.Context(), &o, plan(o, []*keelsonv1.Pod{planned})); err != nil {
		t.Fatal(err)
	}
	if !preconditions.Load() {
		t.Error("the deletion does not insist on the UID of the Pod in the plan")
	}
}

func TestClaimAdoptsAndReleases(t *testing.T) {
	o := owner(2)
	all := pods(mine("leaving").Label("app", "debug"), unowned("joining"))
	r := newRig(t, o.Object, all[0], all[1])
	if err := r.engine.Claim(t.Context(), &o, plan(o, r.stored(t))); err != nil {
		t.Fatal(err)
	}
	for _, pod := range r.stored(t) {
		if owned := metav1.IsControlledBy(pod, o.Object); owned != (pod.Name == "joining") {
			t.Errorf("Pod %s: owned %t", pod.Name, owned)
		}
	}
}

func TestClaimAdoptsNothingForAnOwnerThatChanged(t *testing.T) {
	deleted := deletingOwner(1).Object
	deleted.SetFinalizers([]string{"orphan"})
	replaced := owner(1).Object
	replaced.SetUID("newer")
	tests := map[string]struct {
		live client.Object
		want string
	}{
		"it is gone":                    {want: "not found"},
		"it is being deleted":           {live: deleted, want: "has just been deleted"},
		"its name belongs to a new one": {live: replaced, want: "its name now belongs to UID newer"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			objects := []client.Object{unowned("o").Obj()}
			if tc.live != nil {
				objects = append(objects, tc.live)
			}
			r, o := newRig(t, objects...), owner(1)
			err := r.engine.Claim(t.Context(), &o, plan(o, r.stored(t)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want one with %q", err, tc.want)
			}
			if refs := r.stored(t)[0].OwnerReferences; len(refs) != 0 {
				t.Errorf("the orphan was adopted: %v", refs)
			}
		})
	}
}

func TestClaimInsistsOnTheVersionItSaw(t *testing.T) {
	o := owner(1)
	r := newRig(t, o.Object, unowned("o").Obj())
	seen := r.stored(t)
	// Somebody else adopts it in between.
	taken := podcontrol.Adopted(otherOwner().Owner, seen[0])
	if err := r.store.Patch(t.Context(), taken, client.MergeFrom(seen[0])); err != nil {
		t.Fatal(err)
	}
	if err := r.engine.Claim(t.Context(), &o, plan(o, seen)); !apierrors.IsConflict(err) {
		t.Errorf("error = %v, want a conflict", err)
	}
	if got := metav1.GetControllerOf(r.stored(t)[0]); got.UID != "other-uid" {
		t.Errorf("the controller is %v, want the other owner", got)
	}
}

func otherOwner() Owner {
	o := owner(1)
	o.Object.SetName("other")
	o.Object.SetUID("other-uid")
	return o
}
