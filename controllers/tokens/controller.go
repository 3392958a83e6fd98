package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "tokens"

const (
	// typeField is a field selector of Secrets.
	typeField = "type"
	// accountIndex finds token Secrets by namespace/name of their account, secretIndex
	// accounts by namespace/name of the Secrets that they list.
	accountIndex = "tokens.account"
	secretIndex  = "tokens.secret"
	// bootstrapType and bootstrapExpiration are those of k8s.io/cluster-bootstrap.
	bootstrapType       = corev1.SecretType("bootstrap.kubernetes.io/token")
	bootstrapExpiration = "expiration"
)

// Options configure the controller.
type Options struct {
	// KeyFile is the private key (PEM) that the API server trusts tokens of; empty means
	// that no token Secret is filled.
	KeyFile string
	// RootCA is the bundle that is put beside a token.
	RootCA []byte
	// UnusedFor is how long a token Secret that an older cluster made must be unused
	// before it is marked, and then before it is deleted.
	UnusedFor time.Duration
	// Clock tells the time; nil means the real one.
	Clock clock.WithTicker
}

func (o Options) clock() clock.WithTicker {
	if o.Clock == nil {
		return clock.RealClock{}
	}
	return o.Clock
}

// Add registers the controllers with mgr. An unusable key is an error now.
func Add(mgr ctrl.Manager, o Options) error {
	if o.KeyFile == "" {
		mgr.GetLogger().Info("No token is put in Secrets of ServiceAccounts: --service-account-private-key-file is not set")
	} else if _, err := loadSigner(o.KeyFile); err != nil {
		return err
	}
	secrets, err := secretCache(mgr, corev1.SecretTypeServiceAccountToken, metav1.NamespaceAll)
	if err != nil {
		return err
	}
	bootstrap, err := secretCache(mgr, bootstrapType, metav1.NamespaceSystem)
	if err != nil {
		return err
	}
	if err := addIndexes(mgr, secrets); err != nil {
		return err
	}
	r := &Reconciler{client: mgr.GetClient(), secrets: secrets, live: mgr.GetAPIReader(), options: o}
	err = ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		Watches(&corev1.ServiceAccount{}, handler.EnqueueRequestsFromMapFunc(r.secretsOf)).
		WatchesRawSource(source.Kind(secrets, &corev1.Secret{}, &handler.TypedEnqueueRequestForObject[*corev1.Secret]{})).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	err = ctrl.NewControllerManagedBy(mgr).
		Named(Name + "-bootstrap").
		WatchesRawSource(source.Kind(bootstrap, &corev1.Secret{}, &handler.TypedEnqueueRequestForObject[*corev1.Secret]{})).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&bootstrapReconciler{client: mgr.GetClient(), secrets: bootstrap, clock: o.clock()})
	if err != nil {
		return fmt.Errorf("failed to add controller %s of bootstrap tokens: %w", Name, err)
	}
	cleaner := &cleaner{client: mgr.GetClient(), live: mgr.GetAPIReader(), secrets: secrets, unusedFor: o.UnusedFor, clock: o.clock()}
	if err := mgr.Add(cleaner); err != nil {
		return fmt.Errorf("failed to add the cleaner of unused tokens: %w", err)
	}
	return nil
}

// secretCache holds the Secrets of one type and no others.
func secretCache(mgr ctrl.Manager, kind corev1.SecretType, namespace string) (cache.Cache, error) {
	selected := cache.ByObject{Field: fields.OneTermEqualSelector(typeField, string(kind))}
	if namespace != metav1.NamespaceAll {
		selected.Namespaces = map[string]cache.Config{namespace: {}}
	}
	secrets, err := cache.New(mgr.GetConfig(), cache.Options{
		Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(),
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: selected},
	})
	if err != nil {
		return nil, fmt.Errorf("make the cache of Secrets of type %s: %w", kind, err)
	}
	if err := mgr.Add(secrets); err != nil {
		return nil, fmt.Errorf("add the cache of Secrets of type %s: %w", kind, err)
	}
	return secrets, nil
}

func addIndexes(mgr ctrl.Manager, secrets cache.Cache) error {
	err := secrets.IndexField(context.Background(), &corev1.Secret{}, accountIndex, func(o client.Object) []string {
		return []string{o.GetAnnotations()[corev1.ServiceAccountNameKey]}
	})
	return errors.Join(err, mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.ServiceAccount{}, secretIndex, func(o client.Object) []string {
		var names []string
		if account, isAccount := o.(*corev1.ServiceAccount); isAccount {
			for _, reference := range account.Secrets {
				names = append(names, reference.Name)
			}
		}
		return names
	}))
}

// secretsOf queues the token Secrets of an account.
func (r *Reconciler) secretsOf(ctx context.Context, account client.Object) []reconcile.Request {
	var secrets corev1.SecretList
	err := r.secrets.List(ctx, &secrets, client.InNamespace(account.GetNamespace()), client.MatchingFields{accountIndex: account.GetName()})
	if err != nil {
		// The cache answers this unless the process ends.
		return nil
	}
	var requests []reconcile.Request
	for i := range secrets.Items {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: account.GetNamespace(), Name: secrets.Items[i].Name}})
	}
	return requests
}
