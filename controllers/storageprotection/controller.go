// Package storageprotection lets storage objects go once nobody uses them, as a stock
// controller manager does: the API server puts a finalizer on every
// PersistentVolumeClaim, PersistentVolume and VolumeAttributesClass, and this package
// takes it away from those that are deleted and no longer used. One that was made without
// gets it.
//
// It binds, provisions and attaches nothing, and never removes another finalizer. It
// keeps no state; after a crash every object is looked at again. Before a claim loses its
// protection the API server is asked for Pods, because a cache may not know the newest.
package storageprotection

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "storageprotection"

// The finalizers are upstream's: the API server's admission sets them.
const (
	claimFinalizer  = "kubernetes.io/pvc-protection"
	volumeFinalizer = "kubernetes.io/pv-protection"
	classFinalizer  = "kubernetes.io/vac-protection"
)

// Reconciler looks after one object of one of the three kinds.
type Reconciler struct {
	client    client.Client
	finalizer string
	// empty returns an object to read into.
	empty func() client.Object
	// used says who uses an object that is to go, "" for nobody.
	used func(ctx context.Context, o client.Object) (by string, err error)
}

// Add registers the controllers of the three kinds with mgr.
func Add(mgr ctrl.Manager) error {
	if err := addIndexes(mgr); err != nil {
		return err
	}
	users := users{client: mgr.GetClient(), live: mgr.GetAPIReader()}
	concerned := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
		return todo(o, finalizerOf(o)) != nothing
	}))
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name+"-claim").
		For(&corev1.PersistentVolumeClaim{}, concerned).
		Watches(&keelsonv1.Pod{}, handler.EnqueueRequestsFromMapFunc(claimsOf)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(NewClaims(mgr.GetClient(), users))
	if err != nil {
		return fmt.Errorf("failed to add controller %s of claims: %w", Name, err)
	}
	err = ctrl.NewControllerManagedBy(mgr).
		Named(Name+"-volume").
		For(&corev1.PersistentVolume{}, concerned).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&Reconciler{client: mgr.GetClient(), finalizer: volumeFinalizer, empty: func() client.Object { return &corev1.PersistentVolume{} }, used: volumeUsed})
	if err != nil {
		return fmt.Errorf("failed to add controller %s of volumes: %w", Name, err)
	}
	err = ctrl.NewControllerManagedBy(mgr).
		Named(Name+"-class").
		For(&storagev1.VolumeAttributesClass{}, concerned).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(classesOf)).
		Watches(&corev1.PersistentVolume{}, handler.EnqueueRequestsFromMapFunc(classesOf)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&Reconciler{client: mgr.GetClient(), finalizer: classFinalizer, empty: func() client.Object { return &storagev1.VolumeAttributesClass{} }, used: users.ofClass})
	if err != nil {
		return fmt.Errorf("failed to add controller %s of classes: %w", Name, err)
	}
	return nil
}

// NewClaims returns the Reconciler of PersistentVolumeClaims.
func NewClaims(c client.Client, u users) *Reconciler {
	return &Reconciler{
		client: c, finalizer: claimFinalizer, used: u.ofClaim,
		empty: func() client.Object { return &corev1.PersistentVolumeClaim{} },
	}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	object := r.empty()
	if err := r.client.Get(ctx, req.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	switch todo(object, r.finalizer) {
	case protect:
		return ctrl.Result{}, r.patch(ctx, object, controllerutil.AddFinalizer)
	case release:
		by, err := r.used(ctx, object)
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("find who uses %s: %w", req.NamespacedName, err)
		}
		if by != "" {
			klog.FromContext(ctx).V(2).Info("Keeping a deleted object that is in use", "usedBy", by)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, r.patch(ctx, object, controllerutil.RemoveFinalizer)
	}
	return ctrl.Result{}, nil
}

// patch changes the list of finalizers only if it is still the one that was read.
func (r *Reconciler) patch(ctx context.Context, object client.Object, change func(client.Object, string) bool) error {
	before, isObject := object.DeepCopyObject().(client.Object)
	if !isObject {
		return fmt.Errorf("%T is no object", object)
	}
	change(object, r.finalizer)
	err := r.client.Patch(ctx, object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write finalizers of %s: %w", client.ObjectKeyFromObject(object), err)
	}
	return nil
}

// step is what an object needs.
type step int

const (
	nothing step = iota
	protect
	// release asks to take the finalizer away if nobody uses the object.
	release
)

func todo(o client.Object, finalizer string) step {
	protected := controllerutil.ContainsFinalizer(o, finalizer)
	deleted := o.GetDeletionTimestamp() != nil
	switch {
	case deleted && protected:
		return release
	case !deleted && !protected:
		return protect
	}
	return nothing
}

func finalizerOf(o client.Object) string {
	switch o.(type) {
	case *corev1.PersistentVolumeClaim:
		return claimFinalizer
	case *corev1.PersistentVolume:
		return volumeFinalizer
	}
	return classFinalizer
}
