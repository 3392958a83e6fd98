// Package replication makes ReplicationControllers real: it keeps exactly
// spec.replicas Pods that match the selector, adopting and releasing Pods as their
// labels change, and reports on them in status.
//
// It must never start or stop anything on a node: it creates and deletes Pod
// objects, and whoever watches those does the rest. It keeps no memory; after a
// crash the next reconciliation finds in the API what was done and does what is
// missing. All of that is controllers/internal/replicas, shared with ReplicaSet; this
// package says how a ReplicationController is read and written.
package replication

import (
	"k8s.io/apimachinery/pkg/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/replicas"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "replication"

var kind = keelsonv1.GroupVersion.WithKind("ReplicationController")

// Options configure the controller. The zero value is good.
type Options = replicas.Options

// Add registers the controller with mgr.
//
// mgr's client must read its own writes (docs/adr/0002-consistency.md), else Pods
// are created twice.
func Add(mgr ctrl.Manager, o Options) error { return replicas.Add(mgr, Kind(), o) }

// Kind is what the replica engine must know about ReplicationControllers.
func Kind() replicas.Kind[*keelsonv1.ReplicationController] {
	return replicas.Kind[*keelsonv1.ReplicationController]{
		Name:             Name,
		GroupVersionKind: kind,
		New:              func() *keelsonv1.ReplicationController { return &keelsonv1.ReplicationController{} },
		NewList:          func() client.ObjectList { return &keelsonv1.ReplicationControllerList{} },
		Owner:            ownerOf,
		Status:           statusOf,
		SetStatus:        setStatus,
		SameStatus:       sameStatus,
	}
}

// ownerOf reads rc with the defaults that admission would have written.
func ownerOf(rc *keelsonv1.ReplicationController) replicas.Owner {
	owner := replicas.Owner{
		Owner:           podcontrol.Owner{Object: rc, Kind: kind},
		Selector:        labels.SelectorFromSet(replicas.ReplicationControllerSelector(rc)),
		Replicas:        1,
		Template:        rc.Spec.Template,
		MinReadySeconds: rc.Spec.MinReadySeconds,
	}
	if rc.Spec.Replicas != nil {
		owner.Replicas = *rc.Spec.Replicas
	}
	return owner
}
