package garbagecollector

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ownerState is what was found out about one owner.
type ownerState int

const (
	// solid: it exists and stays, or goes in the background, which its end will tell.
	solid ownerState = iota
	// absent: there is no such object, or another one with its name.
	absent
	// awaiting: it is being deleted in the foreground and waits for its dependents.
	awaiting
)

// action is what to do with one object.
type action struct {
	// reason is for logs.
	reason string

	// dropOwners are references to take off; nothing else happens then.
	dropOwners []types.UID
	// unblock: first make the object's references non-blocking, to break a cycle.
	unblock bool
	// delete with this propagation; empty means no deletion.
	delete metav1.DeletionPropagation
}

// planDependent decides about an object that is not being deleted, from its live
// metadata and the state of each of its owners (same order as its references).
func planDependent(live *metav1.PartialObjectMetadata, owners []ownerState, dependents []*object) action {
	if len(live.OwnerReferences) == 0 {
		return action{}
	}
	refs := func(want ...ownerState) []types.UID {
		var uids []types.UID
		for i, ref := range live.OwnerReferences {
			if slices.Contains(want, owners[i]) {
				uids = append(uids, ref.UID)
			}
		}
		return uids
	}
	if slices.Contains(owners, solid) {
		// An awaiting owner must lose the reference too, or it would wait for ever.
		if leaving := refs(absent, awaiting); len(leaving) > 0 {
			return action{reason: "some owners remain, others are gone or going", dropOwners: leaving}
		}
		return action{}
	}
	if slices.Contains(owners, awaiting) && len(dependents) > 0 {
		cycle := slices.ContainsFunc(dependents, (*object).deletingDependents)
		return action{
			reason:  "its owner is deleted in the foreground, and it has dependents itself",
			unblock: cycle,
			delete:  metav1.DeletePropagationForeground,
		}
	}
	return action{reason: "no owner remains", delete: propagationOf(live)}
}

// propagationOf honours a finalizer that somebody has put on already.
func propagationOf(live *metav1.PartialObjectMetadata) metav1.DeletionPropagation {
	switch {
	case slices.Contains(live.Finalizers, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(live.Finalizers, metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	default:
		return metav1.DeletePropagationBackground
	}
}

// blocking returns the dependents that a foreground deletion waits for.
func blocking(owner types.UID, dependents []*object) []*object {
	var found []*object
	for _, dependent := range dependents {
		if dependent.blocks(owner) {
			found = append(found, dependent)
		}
	}
	return found
}

// withoutOwners returns the references except those to the given UIDs.
func withoutOwners(refs []metav1.OwnerReference, leaving []types.UID) []metav1.OwnerReference {
	kept := []metav1.OwnerReference{}
	for _, ref := range refs {
		if !slices.Contains(leaving, ref.UID) {
			kept = append(kept, ref)
		}
	}
	return kept
}

// unblocked returns the references with blockOwnerDeletion off.
func unblocked(refs []metav1.OwnerReference) []metav1.OwnerReference {
	changed := slices.Clone(refs)
	for i := range changed {
		if changed[i].BlockOwnerDeletion != nil {
			changed[i].BlockOwnerDeletion = new(false)
		}
	}
	return changed
}
