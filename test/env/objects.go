package env

import (
	"cmp"
	"slices"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// Create stores the objects, which the API server completes.
func (e *Environment) Create(t testing.TB, objects ...client.Object) {
	t.Helper()
	for _, obj := range objects {
		if err := e.Client.Create(t.Context(), obj); err != nil {
			t.Fatalf("failed to create %T %s: %v", obj, obj.GetName(), err)
		}
	}
}

// Get reads obj again.
func (e *Environment) Get(t testing.TB, obj client.Object) {
	t.Helper()
	if err := e.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatalf("failed to get %T %s: %v", obj, obj.GetName(), err)
	}
}

// Patch stores how obj differs from before.
func (e *Environment) Patch(t testing.TB, obj, before client.Object) {
	t.Helper()
	if err := e.Client.Patch(t.Context(), obj, client.MergeFrom(before)); err != nil {
		t.Fatalf("failed to patch %T %s: %v", obj, obj.GetName(), err)
	}
}

// Delete deletes obj, which has to be there.
func (e *Environment) Delete(t testing.TB, obj client.Object, options ...client.DeleteOption) {
	t.Helper()
	if err := e.Client.Delete(t.Context(), obj, options...); err != nil {
		t.Fatalf("failed to delete %T %s: %v", obj, obj.GetName(), err)
	}
}

// Change reads obj, changes it and stores the difference.
func Change[T client.Object](t testing.TB, e *Environment, obj T, change func(T)) {
	t.Helper()
	e.Get(t, obj)
	before, _ := obj.DeepCopyObject().(client.Object)
	change(obj)
	e.Patch(t, obj, before)
}

// Orphan takes the owners away, as the garbage collector does for --cascade=orphan.
func Orphan[T client.Object](t testing.TB, e *Environment, obj T) {
	t.Helper()
	Change(t, e, obj, func(o T) { o.SetOwnerReferences(nil) })
}

// Revisions returns the ControllerRevisions of a namespace, the oldest first.
func (e *Environment) Revisions(t testing.TB, namespace string) []appsv1.ControllerRevision {
	t.Helper()
	var list appsv1.ControllerRevisionList
	if err := e.Client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatalf("failed to list ControllerRevisions: %v", err)
	}
	slices.SortFunc(list.Items, func(a, b appsv1.ControllerRevision) int { return cmp.Compare(a.Revision, b.Revision) })
	return list.Items
}
