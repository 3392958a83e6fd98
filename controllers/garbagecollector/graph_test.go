package garbagecollector

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

var (
	things = resources.New(schema.GroupVersionResource{Version: "v1", Resource: "things"}, "Thing", true)
	racks  = resources.New(schema.GroupVersionResource{Version: "v1", Resource: "racks"}, "Rack", false)
)

// objectMaker builds a graph object in one line. Its UID is its name.
type objectMaker struct{ object }

func thing(name string) *objectMaker {
	return &objectMaker{object{resource: &things, namespace: "ns", name: name, uid: types.UID(name)}}
}

// rack belongs to no namespace.
func rack(name string) *objectMaker {
	return &objectMaker{object{resource: &racks, name: name, uid: types.UID(name)}}
}

func (m *objectMaker) renamed(name string) *objectMaker { m.name = name; return m }

func (m *objectMaker) in(namespace string) *objectMaker { m.namespace = namespace; return m }

func (m *objectMaker) ownedBy(names ...string) *objectMaker {
	for _, name := range names {
		m.owners = append(m.owners, refTo(name))
	}
	return m
}

func (m *objectMaker) blocking() *objectMaker {
	for i := range m.owners {
		m.owners[i].BlockOwnerDeletion = new(true)
	}
	return m
}

func (m *objectMaker) deletingForeground() *objectMaker {
	m.deleting, m.foreground = true, true
	return m
}

func (m *objectMaker) deletingOrphan() *objectMaker { m.deleting, m.orphan = true, true; return m }

func (m *objectMaker) obj() *object { return new(m.object) }

func refTo(name string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Thing", Name: name, UID: types.UID(name)}
}

func TestGraphKnowsWhatToLookAt(t *testing.T) {
	tests := map[string]struct {
		before []*object
		do     func(*graph) []types.UID
		want   []types.UID
	}{
		"an object without owners": {
			do: func(g *graph) []types.UID { return g.set(thing("a").obj()) },
		},
		"a dependent of a known owner": {
			before: []*object{thing("a").obj()},
			do:     func(g *graph) []types.UID { return g.set(thing("b").ownedBy("a").obj()) },
		},
		"a dependent of an unknown owner": {
			do:   func(g *graph) []types.UID { return g.set(thing("b").ownedBy("a").obj()) },
			want: []types.UID{"b"},
		},
		"a dependent of an owner in another namespace": {
			before: []*object{thing("a").in("elsewhere").obj()},
			do:     func(g *graph) []types.UID { return g.set(thing("b").ownedBy("a").obj()) },
			want:   []types.UID{"b"},
		},
		"an owner that goes": {
			before: []*object{thing("a").obj(), thing("b").ownedBy("a").obj(), thing("c").ownedBy("a").obj(), thing("d").obj()},
			do:     func(g *graph) []types.UID { return g.remove("a") },
			want:   []types.UID{"b", "c"},
		},
		"an owner that is no longer listed": {
			before: []*object{thing("a").obj(), thing("b").ownedBy("a").obj()},
			do: func(g *graph) []types.UID {
				return g.removeAbsent(things.GroupVersionResource, map[types.UID]struct{}{"b": {}})
			},
			want: []types.UID{"b"},
		},
		"an owner that starts to wait": {
			before: []*object{thing("a").obj(), thing("b").ownedBy("a").obj()},
			do:     func(g *graph) []types.UID { return g.set(thing("a").deletingForeground().obj()) },
			want:   []types.UID{"a", "b"},
		},
		"a dependent that goes from under a waiting owner": {
			before: []*object{thing("a").deletingForeground().obj(), thing("b").ownedBy("a").obj()},
			do:     func(g *graph) []types.UID { return g.remove("b") },
			want:   []types.UID{"a"},
		},
		"a dependent that lets a waiting owner go": {
			before: []*object{thing("a").deletingForeground().obj(), thing("b").ownedBy("a").obj()},
			do:     func(g *graph) []types.UID { return g.set(thing("b").obj()) },
			want:   []types.UID{"a"},
		},
		"an owner to be orphaned": {
			before: []*object{thing("a").obj(), thing("b").ownedBy("a").obj()},
			do:     func(g *graph) []types.UID { return g.set(thing("a").deletingOrphan().obj()) },
			want:   []types.UID{"a"},
		},
		"everything at the start": {
			before: []*object{thing("b").ownedBy("a").obj(), thing("a").obj(), thing("c").ownedBy("gone").obj(), thing("d").deletingOrphan().obj()},
			do:     func(g *graph) []types.UID { return g.toLookAt() },
			want:   []types.UID{"c", "d"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			g := newGraph()
			for _, o := range tc.before {
				g.set(o)
			}
			got := tc.do(g)
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, slices.Compact(got), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("to look at (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGraphForgetsEverythingOfAnObject(t *testing.T) {
	g := newGraph()
	g.set(thing("a").obj())
	g.set(thing("b").ownedBy("a", "x").obj())
	g.set(thing("b").ownedBy("y").obj())
	g.remove("b")
	g.remove("a")
	if len(g.objects)+len(g.dependents)+len(g.byResource) > 0 {
		t.Errorf("left over: %v %v %v", g.objects, g.dependents, g.byResource)
	}
}

func TestReferenceMeansObject(t *testing.T) {
	owner := thing("a").obj()
	dependent := thing("b").obj()
	tests := map[string]struct {
		change func(*metav1.OwnerReference)
		want   bool
	}{
		"all agrees":                    {func(*metav1.OwnerReference) {}, true},
		"another version of the kind":   {func(r *metav1.OwnerReference) { r.APIVersion = "v2" }, true},
		"another group":                 {func(r *metav1.OwnerReference) { r.APIVersion = "example.com/v1" }, false},
		"another kind":                  {func(r *metav1.OwnerReference) { r.Kind = "Rack" }, false},
		"another name":                  {func(r *metav1.OwnerReference) { r.Name = "x" }, false},
		"another UID":                   {func(r *metav1.OwnerReference) { r.UID = "x" }, false},
		"an apiVersion nobody can read": {func(r *metav1.OwnerReference) { r.APIVersion = "a/b/c" }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ref := refTo("a")
			tc.change(&ref)
			if got := owner.is(ref, dependent); got != tc.want {
				t.Errorf("is %t, want %t", got, tc.want)
			}
		})
	}
	t.Run("a cluster-scoped owner of a namespaced object", func(t *testing.T) {
		rack := &object{resource: &racks, name: "r", uid: "r"}
		if !rack.is(metav1.OwnerReference{APIVersion: "v1", Kind: "Rack", Name: "r", UID: "r"}, dependent) {
			t.Error("the rack is not found")
		}
	})
}

func TestPlanForDependents(t *testing.T) {
	tests := map[string]struct {
		owners     []ownerState
		finalizers []string
		dependents []*object
		want       action
	}{
		"no owners":              {nil, nil, nil, action{}},
		"one that exists":        {[]ownerState{solid}, nil, nil, action{}},
		"one that is gone":       {[]ownerState{absent}, nil, nil, action{delete: metav1.DeletePropagationBackground}},
		"all gone":               {[]ownerState{absent, absent}, nil, nil, action{delete: metav1.DeletePropagationBackground}},
		"one gone, one there":    {[]ownerState{absent, solid}, nil, nil, action{dropOwners: []types.UID{"o0"}}},
		"one waiting, one there": {[]ownerState{solid, awaiting}, nil, nil, action{dropOwners: []types.UID{"o1"}}},
		"one waiting":            {[]ownerState{awaiting}, nil, nil, action{delete: metav1.DeletePropagationBackground}},
		"one waiting, and dependents of its own": {
			[]ownerState{awaiting}, nil, []*object{thing("x").obj()},
			action{delete: metav1.DeletePropagationForeground},
		},
		"one waiting, and a dependent that waits too": {
			[]ownerState{awaiting}, nil, []*object{thing("x").deletingForeground().obj()},
			action{unblock: true, delete: metav1.DeletePropagationForeground},
		},
		"gone, with a finalizer for orphaning": {
			[]ownerState{absent}, []string{metav1.FinalizerOrphanDependents}, nil,
			action{delete: metav1.DeletePropagationOrphan},
		},
		"gone, with a finalizer for foreground deletion": {
			[]ownerState{absent}, []string{metav1.FinalizerDeleteDependents}, nil,
			action{delete: metav1.DeletePropagationForeground},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			live := &metav1.PartialObjectMetadata{}
			live.Finalizers = tc.finalizers
			for i := range tc.owners {
				live.OwnerReferences = append(live.OwnerReferences, refTo([]string{"o0", "o1"}[i]))
			}
			got := planDependent(live, tc.owners, tc.dependents)
			got.reason = "" // words for people
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(action{})); diff != "" {
				t.Errorf("action (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnlyBlockingDependentsHoldAnOwner(t *testing.T) {
	blocks := thing("blocks").ownedBy("a").blocking().obj()
	got := blocking("a", []*object{thing("free").ownedBy("a").obj(), blocks, thing("other").ownedBy("b").blocking().obj()})
	if len(got) != 1 || got[0] != blocks {
		t.Errorf("held by %v", got)
	}
}

func TestUnblockedLeavesTheOriginalAlone(t *testing.T) {
	o := thing("x").ownedBy("a").blocking().obj()
	if changed := unblocked(o.owners); *changed[0].BlockOwnerDeletion || !*o.owners[0].BlockOwnerDeletion {
		t.Errorf("changed %v, original %v", *changed[0].BlockOwnerDeletion, *o.owners[0].BlockOwnerDeletion)
	}
}

func TestAbsentOwnersAreBounded(t *testing.T) {
	known := newRecent[ownerKey](2)
	key := func(uid types.UID) ownerKey { return ownerKey{uid: uid} }
	for _, uid := range []types.UID{"a", "b", "b", "c"} {
		known.add(key(uid))
	}
	if known.has(key("a")) || !known.has(key("b")) || !known.has(key("c")) || len(known.known) != 2 {
		t.Errorf("known: %v", known.known)
	}
}

func TestCollectable(t *testing.T) {
	kind := func(group, name string, verbs ...string) resources.Resource {
		return resources.New(schema.GroupVersionResource{Group: group, Version: "v1", Resource: name}, "Kind", true, verbs...)
	}
	all := []string{"get", "list", "watch", "delete"}
	var got []string
	for _, r := range collectable([]resources.Resource{
		kind("", "pods", all...), kind("", "events", all...), kind("events.k8s.io", "events", all...),
		kind("coordination.k8s.io", "leases", all...), kind("authentication.k8s.io", "tokenreviews", "create"),
		kind("core.keelson.dev", "pods", all...),
	}) {
		got = append(got, r.GroupResource().String())
	}
	if diff := cmp.Diff([]string{"pods", "leases.coordination.k8s.io", "pods.core.keelson.dev"}, got); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}
