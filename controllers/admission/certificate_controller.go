package admission

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	ctrlhandler "sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// ConfigurationName is the MutatingWebhookConfiguration, and the
// ValidatingWebhookConfiguration, that get the CA.
const ConfigurationName = "keelson"

// certificateReconciler keeps the key pair in the Secret valid, the registration
// trusting it, and this process serving it. Replicas do not coordinate: the Secret's
// resource version decides who renews, the others take what is there.
type certificateReconciler struct {
	// client reads the API server itself, never a cache.
	client  client.Client
	clock   clock.PassiveClock
	names   []string
	serving *servingCertificate
	// hooks are what the registration has to call for besides; nil for nothing.
	hooks *hookSource
}

var _ reconcile.Reconciler = (*certificateReconciler)(nil)

var secretKey = types.NamespacedName{Namespace: systemNamespace, Name: SecretName}

func addCertificateController(mgr ctrl.Manager, serving *servingCertificate, names []string, now clock.PassiveClock, hooks *hookSource) error {
	scheme, err := certificateScheme()
	if err != nil {
		return err
	}
	direct, err := client.New(mgr.GetConfig(), client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("build the client of the webhook certificate: %w", err)
	}
	watched, err := cache.New(mgr.GetConfig(), cache.Options{Scheme: scheme, ByObject: map[client.Object]cache.ByObject{
		&corev1.Secret{}: {
			Namespaces: map[string]cache.Config{systemNamespace: {}},
			Field:      fields.OneTermEqualSelector("metadata.name", SecretName),
		},
		&admissionregistrationv1.MutatingWebhookConfiguration{}: {
			Field: fields.OneTermEqualSelector("metadata.name", ConfigurationName),
		},
		&admissionregistrationv1.ValidatingWebhookConfiguration{}: {
			Field: fields.OneTermEqualSelector("metadata.name", ConfigurationName),
		},
	}})
	if err != nil {
		return fmt.Errorf("build the cache of the webhook certificate: %w", err)
	}
	if err := mgr.Add(onEveryReplica{watched}); err != nil {
		return fmt.Errorf("add the cache of the webhook certificate: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).Named("webhook-certificate").
		WithOptions(controller.Options{NeedLeaderElection: new(false)}).
		WatchesRawSource(source.Func(startOnce)).
		WatchesRawSource(source.Func(hooks.enqueueChanges)).
		WatchesRawSource(source.Kind(watched, client.Object(&corev1.Secret{}), ctrlhandler.EnqueueRequestsFromMapFunc(toSecret))).
		WatchesRawSource(source.Kind(watched, client.Object(&admissionregistrationv1.MutatingWebhookConfiguration{}), ctrlhandler.EnqueueRequestsFromMapFunc(toSecret))).
		WatchesRawSource(source.Kind(watched, client.Object(&admissionregistrationv1.ValidatingWebhookConfiguration{}), ctrlhandler.EnqueueRequestsFromMapFunc(toSecret))).
		Complete(&certificateReconciler{client: direct, clock: now, names: names, serving: serving, hooks: hooks})
}

func certificateScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, admissionregistrationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	return scheme, nil
}

// onEveryReplica is a cache that does not wait for leader election.
type onEveryReplica struct{ cache.Cache }

func (onEveryReplica) NeedLeaderElection() bool { return false }

// startOnce asks for the first look when neither object exists yet.
func startOnce(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	queue.Add(reconcile.Request{NamespacedName: secretKey})
	return nil
}

func toSecret(context.Context, client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: secretKey}}
}

// Reconcile renews what needs it, then makes the registration trust the result, and
// only then serves it.
func (r *certificateReconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	secret, err := r.syncSecret(ctx)
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		// Another replica was faster; its write comes back as an event.
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := r.syncRegistrations(ctx, secret.Data[corev1.ServiceAccountRootCAKey]); err != nil {
		return reconcile.Result{}, err
	}
	if err := r.serving.load(secret.Data); err != nil {
		return reconcile.Result{}, err
	}
	r.serving.settled.Store(true)
	return reconcile.Result{RequeueAfter: nextLook(secret.Data, r.clock.Now())}, nil
}

// syncSecret returns the Secret with a key pair that is valid for some time.
func (r *certificateReconciler) syncSecret(ctx context.Context) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.client.Get(ctx, secretKey, secret)
	if apierrors.IsNotFound(err) {
		secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: secretKey.Namespace, Name: secretKey.Name}, Type: corev1.SecretTypeOpaque}
	} else if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", secretKey, err)
	}
	now := r.clock.Now()
	todo := planCertificate(secret.Data, r.names, now)
	if todo == keep {
		return secret, nil
	}
	data, err := issue(todo, secret.Data, r.names, now)
	if err != nil {
		return nil, err
	}
	secret.Data = data
	if err := r.writeSecret(ctx, secret); err != nil {
		return nil, fmt.Errorf("write Secret %s: %w", secretKey, err)
	}
	klog.FromContext(ctx).Info("Issued the certificate of the webhook", "secret", klog.KObj(secret), "step", todo, "names", r.names)
	return secret, nil
}

func (r *certificateReconciler) writeSecret(ctx context.Context, secret *corev1.Secret) error {
	if secret.ResourceVersion == "" {
		return r.client.Create(ctx, secret)
	}
	return r.client.Update(ctx, secret)
}

// syncRegistrations writes the CA into every webhook of the registrations. Where there
// is none yet, its creation comes as an event.
func (r *certificateReconciler) syncRegistrations(ctx context.Context, bundle []byte) error {
	mutating, validating := &admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}
	return errors.Join(
		r.syncRegistration(ctx, "MutatingWebhookConfiguration", mutating, func() (changed bool, err error) {
			for i := range mutating.Webhooks {
				changed = trust(&mutating.Webhooks[i].ClientConfig, bundle) || changed
			}
			if r.hooks == nil {
				return changed, nil
			}
			planned, err := r.hooks.syncMutating(mutating)
			return changed || planned, err
		}),
		r.syncRegistration(ctx, "ValidatingWebhookConfiguration", validating, func() (changed bool, err error) {
			for i := range validating.Webhooks {
				changed = trust(&validating.Webhooks[i].ClientConfig, bundle) || changed
			}
			if r.hooks == nil {
				return changed, nil
			}
			planned, err := r.hooks.syncValidating(validating)
			return changed || planned, err
		}),
	)
}

func trust(c *admissionregistrationv1.WebhookClientConfig, bundle []byte) (changed bool) {
	if bytes.Equal(c.CABundle, bundle) {
		return false
	}
	c.CABundle = bundle
	return true
}

// syncRegistration reads a registration, lets change complete it, and writes it.
func (r *certificateReconciler) syncRegistration(ctx context.Context, kind string, registration client.Object, change func() (bool, error)) error {
	logger := klog.FromContext(ctx)
	err := r.client.Get(ctx, types.NamespacedName{Name: ConfigurationName}, registration)
	if apierrors.IsNotFound(err) {
		logger.Info("Waiting for the registration of the webhook", "kind", kind, "name", ConfigurationName)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s %s: %w", kind, ConfigurationName, err)
	}
	before, ok := registration.DeepCopyObject().(client.Object)
	if !ok {
		return nil
	}
	if changed, err := change(); err != nil || !changed {
		return err
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, registration, patch); err != nil {
		return fmt.Errorf("write %s %s: %w", kind, ConfigurationName, err)
	}
	logger.Info("Brought the registration of the webhook up to date", "kind", kind, "name", ConfigurationName)
	return nil
}
