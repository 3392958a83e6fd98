package tokens

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// bootstrapReconciler deletes one bootstrap token when it expires.
type bootstrapReconciler struct {
	client  client.Client
	secrets client.Reader
	clock   clock.PassiveClock
}

// Reconcile implements reconcile.Reconciler.
func (r *bootstrapReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	secret := &corev1.Secret{}
	if err := r.secrets.Get(ctx, req.NamespacedName, secret); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if secret.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	left, expires := bootstrapLeft(secret, r.clock.Now())
	if !expires || left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	klog.FromContext(ctx).Info("Deleting a bootstrap token that has expired")
	// The version too: its life may have been prolonged.
	err := r.client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion}, client.DisableReadYourWritesConsistency)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("delete Secret %s: %w", req.NamespacedName, err)
	}
	return ctrl.Result{}, nil
}

// bootstrapLeft is how long a bootstrap token is good. One whose end cannot be read is
// over, as for the API server and upstream: it would never end otherwise.
func bootstrapLeft(secret *corev1.Secret, now time.Time) (left time.Duration, expires bool) {
	text := secret.Data[bootstrapExpiration]
	if len(text) == 0 {
		return 0, false
	}
	end, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return 0, true
	}
	return max(end.Sub(now), 0), true
}
