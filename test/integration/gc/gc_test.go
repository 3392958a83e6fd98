// Package gc_test runs the garbage collector against a real API server.
package gc_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/garbagecollector"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

// settle is how long something must stay true that a wrong collector would undo.
const settle = 2 * time.Second

func startCollector(t *testing.T) {
	t.Helper()
	testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		return garbagecollector.Add(mgr, garbagecollector.Options{})
	})
}

func create[T client.Object](t *testing.T, o T) T {
	t.Helper()
	if err := testEnv.Client.Create(t.Context(), o); err != nil {
		t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
	return o
}

func remove(t *testing.T, o client.Object, policy metav1.DeletionPropagation) {
	t.Helper()
	if err := testEnv.Client.Delete(t.Context(), o, client.PropagationPolicy(policy)); err != nil {
		t.Fatalf("delete %T %s: %v", o, o.GetName(), err)
	}
}

// state is "gone", "deleting" or "there".
func state(t *testing.T, o client.Object) string {
	t.Helper()
	fresh := o.DeepCopyObject().(client.Object)
	err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(o), fresh)
	switch {
	case apierrors.IsNotFound(err), err == nil && fresh.GetUID() != o.GetUID():
		return "gone"
	case err != nil:
		t.Fatalf("read %s: %v", o.GetName(), err)
	case fresh.GetDeletionTimestamp() != nil:
		return "deleting"
	}
	return "there"
}

func becomes(t *testing.T, want string, objects ...client.Object) {
	t.Helper()
	env.Eventually(t, func() string {
		for _, o := range objects {
			if got := state(t, o); got != want {
				return fmt.Sprintf("%T %s is %s, want %s", o, o.GetName(), got, want)
			}
		}
		return ""
	})
}

func stays(t *testing.T, want string, objects ...client.Object) {
	t.Helper()
	env.Always(t, settle, func() string {
		for _, o := range objects {
			if got := state(t, o); got != want {
				return fmt.Sprintf("%T %s is %s, want it to stay %s", o, o.GetName(), got, want)
			}
		}
		return ""
	})
}

func ownedBy(owner client.Object, apiVersion, kind string, block bool) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: apiVersion, Kind: kind, Name: owner.GetName(), UID: owner.GetUID(), BlockOwnerDeletion: &block,
	}
}

func configMap(ns, name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, OwnerReferences: owners}}
}

func secret(ns, name string, owners ...metav1.OwnerReference) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, OwnerReferences: owners}}
}

func byConfigMap(owner *corev1.ConfigMap, block bool) metav1.OwnerReference {
	return ownedBy(owner, "v1", "ConfigMap", block)
}

func controllerOf(ns string) *keelsonv1.ReplicationController {
	labels := map[string]string{"app": "web"}
	return &keelsonv1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec: corev1.ReplicationControllerSpec{
			Selector: labels,
			Template: &corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       builders.MakePod("x").Obj().Spec,
			},
		},
	}
}

func ownedPod(ns, name string, owner *keelsonv1.ReplicationController) *keelsonv1.Pod {
	return builders.MakePod(name).Namespace(ns).Label("app", "web").
		Owner("core.keelson.dev/v1", "ReplicationController", owner.Name, string(owner.UID)).Obj()
}

func TestBackgroundDeletionTakesDependentsAlong(t *testing.T) {
	startCollector(t)
	ns := testEnv.Namespace(t)
	rc := create(t, controllerOf(ns))
	owned := []client.Object{create(t, ownedPod(ns, "a", rc)), create(t, ownedPod(ns, "b", rc))}
	free := create(t, builders.MakePod("free").Namespace(ns).Label("app", "web").Obj())

	stays(t, "there", owned...)
	remove(t, rc, metav1.DeletePropagationBackground)

	becomes(t, "gone", owned...)
	stays(t, "there", free)
}

func TestChainOfThreeAcrossGroupsIsCollected(t *testing.T) {
	startCollector(t)
	ns := testEnv.Namespace(t)
	first := create(t, configMap(ns, "first"))
	second := create(t, secret(ns, "second", byConfigMap(first, false)))
	third := create(t, builders.MakePod("third").Namespace(ns).Owner("v1", "Secret", second.Name, string(second.UID)).Obj())

	remove(t, first, metav1.DeletePropagationBackground)

	becomes(t, "gone", first, second, third)
}

func TestDependentsOfOwnersThatWentUnseenAreCollected(t *testing.T) {
	ns := testEnv.Namespace(t)
	owner := create(t, configMap(ns, "owner"))
	dependent := create(t, secret(ns, "dependent", byConfigMap(owner, false)))
	remove(t, owner, metav1.DeletePropagationBackground)
	stays(t, "there", dependent) // nobody collects in this environment by itself

	startCollector(t)

	becomes(t, "gone", dependent)
}

func TestForegroundDeletionWaitsForBlockingDependents(t *testing.T) {
	startCollector(t)
	ns := testEnv.Namespace(t)
	owner := create(t, configMap(ns, "owner"))
	held := secret(ns, "held", byConfigMap(owner, true))
	held.Finalizers = []string{"test.keelson.dev/hold"}
	create(t, held)
	plain := create(t, secret(ns, "plain", byConfigMap(owner, true)))

	remove(t, owner, metav1.DeletePropagationForeground)

	becomes(t, "gone", plain)
	becomes(t, "deleting", held)
	stays(t, "deleting", owner, held)

	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	if err := testEnv.Client.Patch(t.Context(), held, patch); err != nil {
		t.Fatal(err)
	}
	becomes(t, "gone", owner, held)
}

func TestForegroundDeletionGoesDownAChain(t *testing.T) {
	startCollector(t)
	ns := testEnv.Namespace(t)
	top := create(t, configMap(ns, "top"))
	middle := create(t, configMap(ns, "middle", byConfigMap(top, true)))
	bottom := secret(ns, "bottom", byConfigMap(middle, true))
	bottom.Finalizers = []string{"test.keelson.dev/hold"}
	create(t, bottom)

	remove(t, top, metav1.DeletePropagationForeground)

	becomes(t, "deleting", bottom)
	stays(t, "deleting", top, middle)
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	if err := testEnv.Client.Patch(t.Context(), bottom, patch); err != nil {
		t.Fatal(err)
	}
	becomes(t, "gone", top, middle, bottom)
}

func TestOrphaningKeepsDependentsWithoutTheirOwner(t *testing.T) {
	startCollector(t)
	ns := testEnv.Namespace(t)
	rc := create(t, controllerOf(ns))
	pod := create(t, ownedPod(ns, "kept", rc))

	remove(t, rc, metav1.DeletePropagationOrphan)

	becomes(t, "gone", rc)
	env.Eventually(t, func() string {
		fresh := &keelsonv1.Pod{}
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), fresh); err != nil {
			return err.Error()
		}
		if len(fresh.OwnerReferences) > 0 {
			return fmt.Sprintf("owner references are still %v", fresh.OwnerReferences)
		}
		return ""
	})
	stays(t, "there", pod)
}

func TestCycleIsCollected(t *testing.T) {
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground} {
		t.Run(string(policy), func(t *testing.T) {
			startCollector(t)
			ns := testEnv.Namespace(t)
			a := create(t, configMap(ns, "a"))
			b := create(t, configMap(ns, "b", byConfigMap(a, true)))
			a.OwnerReferences = []metav1.OwnerReference{byConfigMap(b, true)}
			if err := testEnv.Client.Update(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			stays(t, "there", a, b)

			remove(t, a, policy)

			becomes(t, "gone", a, b)
		})
	}
}

func TestOneOfTwoOwnersGone(t *testing.T) {
	startCollector(t)
	ns := testEnv.Namespace(t)
	leaving, staying := create(t, configMap(ns, "leaving")), create(t, configMap(ns, "staying"))
	dependent := create(t, secret(ns, "dependent", byConfigMap(leaving, false), byConfigMap(staying, false)))

	remove(t, leaving, metav1.DeletePropagationBackground)

	env.Eventually(t, func() string {
		fresh := &corev1.Secret{}
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(dependent), fresh); err != nil {
			return err.Error()
		}
		left := slices.Collect(func(yield func(types.UID) bool) {
			for _, ref := range fresh.OwnerReferences {
				if !yield(ref.UID) {
					return
				}
			}
		})
		if !slices.Equal(left, []types.UID{staying.UID}) {
			return fmt.Sprintf("owners are %v, want only %s", left, staying.UID)
		}
		return ""
	})
	stays(t, "there", dependent)
}

// noEvent complains when nobody has told note about object.
func noEvent(t *testing.T, object client.Object, reason, note string) (complaint string) {
	t.Helper()
	var list eventsv1.EventList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(object.GetNamespace())); err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		if e.Regarding.Name == object.GetName() && e.Reason == reason && e.Note == note {
			return ""
		}
	}
	return fmt.Sprintf("no event %s %q about %s among %d", reason, note, object.GetName(), len(list.Items))
}

func TestOwnersThatDoNotExist(t *testing.T) {
	startCollector(t)
	ns, elsewhere := testEnv.Namespace(t), testEnv.Namespace(t)
	owner := create(t, configMap(ns, "owner"))
	wrongUID := byConfigMap(owner, false)
	wrongUID.UID = "00000000-0000-0000-0000-000000000000"
	otherNamespace := create(t, configMap(elsewhere, "far"))
	unknownKind := metav1.OwnerReference{APIVersion: "nowhere.example.com/v1", Kind: "Ghost", Name: "g", UID: "11111111-1111-1111-1111-111111111111"}

	t.Run("another UID under the name is no owner", func(t *testing.T) {
		becomes(t, "gone", create(t, secret(ns, "wrong-uid", wrongUID)))
	})
	t.Run("an owner in another namespace is no owner", func(t *testing.T) {
		becomes(t, "there", otherNamespace)
		env.Eventually(t, func() string { // until the collector has seen the owner
			far := create(t, secret(ns, "far-owner", byConfigMap(otherNamespace, false)))
			becomes(t, "gone", far)
			return noEvent(t, far, "OwnerRefInvalidNamespace", fmt.Sprintf("ownerRef [v1/ConfigMap, namespace: %s, name: far, uid: %s] does not exist in namespace %q", ns, otherNamespace.UID, ns))
		})
	})
	t.Run("an owner of a kind nobody serves is not judged", func(t *testing.T) {
		stays(t, "there", create(t, secret(ns, "ghost", unknownKind)))
	})
	t.Run("a namespaced owner of a cluster-scoped object is not judged", func(t *testing.T) {
		node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: ns, OwnerReferences: []metav1.OwnerReference{wrongUID}}}
		stays(t, "there", create(t, node))
	})
}
