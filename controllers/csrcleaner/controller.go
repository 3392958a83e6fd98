// Package csrcleaner deletes CertificateSigningRequests that have served their time, as a
// stock controller manager does: programs that renew certificates make them for ever.
//
// It never approves, denies or signs. It keeps no state; after a crash the first look at
// each request says how long it stays. It sleeps until then rather than look every hour.
package csrcleaner

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "csrcleaner"

// Options configure the controller. The zero value is good.
type Options struct {
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Reconciler looks after one request at a time.
type Reconciler struct {
	client client.Client
	clock  clock.PassiveClock
}

// NewReconciler returns a Reconciler that reads and deletes through c.
func NewReconciler(c client.Client, o Options) *Reconciler {
	r := &Reconciler{client: c, clock: o.Clock}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	return r
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&certificatesv1.CertificateSigningRequest{}).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(NewReconciler(mgr.GetClient(), o))
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	request := &certificatesv1.CertificateSigningRequest{}
	if err := r.client.Get(ctx, req.NamespacedName, request); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if request.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	end, why := expiry(request)
	// Not the very moment: upstream deletes what is older, and times have whole seconds.
	if left := end.Sub(r.clock.Now()) + time.Second; left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	klog.FromContext(ctx).Info("Deleting a certificate signing request", "because", why)
	// What was read must still be so: an approval may have come meanwhile.
	err := r.client.Delete(ctx, request, client.Preconditions{UID: &request.UID, ResourceVersion: &request.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("delete CertificateSigningRequest %s: %w", request.Name, err)
	}
	return ctrl.Result{}, nil
}
