package garbagecollector

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

// object is what the graph keeps of one API object. It is replaced, never changed.
type object struct {
	resource  *resources.Resource
	namespace string
	name      string
	uid       types.UID
	owners    []metav1.OwnerReference

	deleting bool
	// foreground and orphan: the finalizers of those kinds of deletion.
	foreground, orphan bool
}

func newObject(resource *resources.Resource, meta *metav1.PartialObjectMetadata) *object {
	return &object{
		resource:   resource,
		namespace:  meta.Namespace,
		name:       meta.Name,
		uid:        meta.UID,
		owners:     meta.OwnerReferences,
		deleting:   meta.DeletionTimestamp != nil,
		foreground: slices.Contains(meta.Finalizers, metav1.FinalizerDeleteDependents),
		orphan:     slices.Contains(meta.Finalizers, metav1.FinalizerOrphanDependents),
	}
}

// deletingDependents: it goes when those that block it are gone.
func (o *object) deletingDependents() bool { return o.deleting && o.foreground }

// is tells whether o is the object that a reference of dependent means. A UID
// alone is not enough: references are written by users.
func (o *object) is(ref metav1.OwnerReference, dependent *object) bool {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return false
	}
	return o.uid == ref.UID && o.name == ref.Name &&
		o.resource.GroupKind() == gv.WithKind(ref.Kind).GroupKind() &&
		(!o.resource.Namespaced || o.namespace == dependent.namespace)
}

// blocks tells whether o holds up the foreground deletion of owner.
func (o *object) blocks(owner types.UID) bool {
	return slices.ContainsFunc(o.owners, func(ref metav1.OwnerReference) bool {
		return ref.UID == owner && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
	})
}

// graph is every object by UID, and the dependents of each UID, whether that owner
// is known or not. Each method that takes in news returns the objects to look at.
type graph struct {
	mu         sync.RWMutex
	objects    map[types.UID]*object
	dependents map[types.UID]map[types.UID]struct{}
	// byResource finds what a fresh list no longer holds.
	byResource map[schema.GroupVersionResource]map[types.UID]struct{}
}

func newGraph() *graph {
	return &graph{
		objects:    map[types.UID]*object{},
		dependents: map[types.UID]map[types.UID]struct{}{},
		byResource: map[schema.GroupVersionResource]map[types.UID]struct{}{},
	}
}

// set stores an object as it is now.
func (g *graph) set(now *object) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.objects[now.uid]
	g.unlink(before)
	g.objects[now.uid] = now
	add(g.byResource, now.resource.GroupVersionResource, now.uid)
	for _, ref := range now.owners {
		add(g.dependents, ref.UID, now.uid)
	}
	return g.affectedBySet(before, now)
}

func (g *graph) affectedBySet(before, now *object) []types.UID {
	var affected []types.UID
	if now.deleting && (now.foreground || now.orphan) {
		affected = append(affected, now.uid)
	}
	if now.deletingDependents() && (before == nil || !before.deletingDependents()) {
		for dependent := range g.dependents[now.uid] {
			affected = append(affected, dependent)
		}
	}
	if g.needsLook(now) {
		affected = append(affected, now.uid)
	}
	// An owner that waits for its dependents may have been let go.
	return append(affected, g.waitingOwners(before)...)
}

// needsLook tells whether an owner of o is absent, or is waiting for o to go.
func (g *graph) needsLook(o *object) bool {
	for _, ref := range o.owners {
		owner, known := g.objects[ref.UID]
		if !known || !owner.is(ref, o) || owner.deletingDependents() {
			return true
		}
	}
	return false
}

func (g *graph) waitingOwners(o *object) []types.UID {
	if o == nil {
		return nil
	}
	var waiting []types.UID
	for _, ref := range o.owners {
		if owner, known := g.objects[ref.UID]; known && owner.deletingDependents() {
			waiting = append(waiting, ref.UID)
		}
	}
	return waiting
}

// remove forgets an object that is gone.
func (g *graph) remove(uid types.UID) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.removeLocked(uid)
}

func (g *graph) removeLocked(uid types.UID) []types.UID {
	gone, known := g.objects[uid]
	if !known {
		return nil
	}
	g.unlink(gone)
	delete(g.objects, uid)
	var affected []types.UID
	for dependent := range g.dependents[uid] {
		affected = append(affected, dependent)
	}
	return append(affected, g.waitingOwners(gone)...)
}

func (g *graph) unlink(o *object) {
	if o == nil {
		return
	}
	discard(g.byResource, o.resource.GroupVersionResource, o.uid)
	for _, ref := range o.owners {
		discard(g.dependents, ref.UID, o.uid)
	}
}

// removeAbsent forgets the objects of a resource that are not among present.
func (g *graph) removeAbsent(gvr schema.GroupVersionResource, present map[types.UID]struct{}) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	var gone []types.UID
	for uid := range g.byResource[gvr] {
		if _, still := present[uid]; !still {
			gone = append(gone, uid)
		}
	}
	var affected []types.UID
	for _, uid := range gone {
		affected = append(affected, g.removeLocked(uid)...)
	}
	return affected
}

// toLookAt returns the objects that need a look when all lists are in.
func (g *graph) toLookAt() []types.UID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var affected []types.UID
	for uid, o := range g.objects {
		if o.deleting && (o.foreground || o.orphan) || g.needsLook(o) {
			affected = append(affected, uid)
		}
	}
	return affected
}

// view is one object and its dependents at one moment.
type view struct {
	object     *object
	dependents []*object
	// needsLook is the graph's opinion, before anything is read live.
	needsLook bool
}

func (g *graph) view(uid types.UID) (view, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	o, known := g.objects[uid]
	if !known {
		return view{}, false
	}
	v := view{object: o, needsLook: g.needsLook(o)}
	for dependent := range g.dependents[uid] {
		v.dependents = append(v.dependents, g.objects[dependent])
	}
	return v, true
}

// owner returns the known object that ref of dependent means.
func (g *graph) owner(ref metav1.OwnerReference, dependent *object) (*object, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	o, known := g.objects[ref.UID]
	if !known || !o.is(ref, dependent) {
		return nil, false
	}
	return o, true
}

// elsewhere tells whether the UID that ref of dependent names is known, of an object in
// another namespace.
func (g *graph) elsewhere(ref metav1.OwnerReference, dependent *object) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	o, known := g.objects[ref.UID]
	return known && o.resource.Namespaced && o.namespace != dependent.namespace
}

func add[K comparable](sets map[K]map[types.UID]struct{}, key K, uid types.UID) {
	set, ok := sets[key]
	if !ok {
		set = map[types.UID]struct{}{}
		sets[key] = set
	}
	set[uid] = struct{}{}
}

func discard[K comparable](sets map[K]map[types.UID]struct{}, key K, uid types.UID) {
	set := sets[key]
	delete(set, uid)
	if len(set) == 0 {
		delete(sets, key)
	}
}
