// Package replicaset makes ReplicaSets real: it keeps exactly spec.replicas Pods that
// match the selector, adopting and releasing Pods as their labels change, and reports
// on them in status.
//
// It must never know what a Deployment is, but for choosing whom to delete: the Pods of
// ReplicaSets with the same owner count as one crowd. It keeps no memory; after a crash
// the next reconciliation finds in the API what was done and does what is missing. All
// of that is controllers/internal/replicas, shared with ReplicationController; this
// package says how a ReplicaSet is read and written.
package replicaset

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/replicas"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "replicaset"

var kind = appsv1.GroupVersion.WithKind("ReplicaSet")

// Options configure the controller. The zero value is good.
type Options = replicas.Options

// Add registers the controller with mgr.
//
// mgr's client must read its own writes (docs/adr/0002-consistency.md), else Pods
// are created twice.
func Add(mgr ctrl.Manager, o Options) error {
	if err := indexSiblings(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	return replicas.Add(mgr, Kind(), o)
}

// Kind is what the replica engine must know about ReplicaSets.
func Kind() replicas.Kind[*appsv1.ReplicaSet] {
	return replicas.Kind[*appsv1.ReplicaSet]{
		Name:             Name,
		GroupVersionKind: kind,
		New:              func() *appsv1.ReplicaSet { return &appsv1.ReplicaSet{} },
		NewList:          func() client.ObjectList { return &appsv1.ReplicaSetList{} },
		Owner:            ownerOf,
		Status:           statusOf,
		SetStatus:        setStatus,
		SameStatus:       sameStatus,
		CountTerminating: true,
		Related:          podsOfSiblings,
	}
}

// ownerOf reads rs with the defaults that admission would have written.
func ownerOf(rs *appsv1.ReplicaSet) replicas.Owner {
	owner := replicas.Owner{
		Owner:           podcontrol.Owner{Object: rs, Kind: kind},
		Replicas:        1,
		Template:        &rs.Spec.Template,
		MinReadySeconds: rs.Spec.MinReadySeconds,
	}
	if rs.Spec.Replicas != nil {
		owner.Replicas = *rs.Spec.Replicas
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	switch {
	case err != nil:
		owner.Invalid = fmt.Errorf("spec.selector cannot be used: %w", err)
	case rs.Spec.Selector == nil:
		owner.Invalid = errors.New("spec.selector is missing: say by which labels the Pods are found")
	}
	owner.Selector = selector
	return owner
}
