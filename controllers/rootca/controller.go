// Package rootca keeps a ConfigMap "kube-root-ca.crt" in every Namespace that is not
// being deleted, as a stock controller manager does: the certificates by which a Pod
// knows the API server. Every Pod's token volume has it.
//
// It changes no other ConfigMap and reads none. It holds no state; after a crash every
// Namespace is looked at again, and what somebody changed meanwhile is put right.
package rootca

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

const (
	// Name is the ConfigMap that the token volumes of Pods project.
	Name = "kube-root-ca.crt"
	// Key holds the certificates, PEM encoded.
	Key = "ca.crt"
	// description is upstream's, word for word: clients show it.
	descriptionKey = "kubernetes.io/description"
	description    = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Options are the settings of the controller.
type Options struct {
	// File is a PEM bundle. Empty means the one by which the manager itself verifies
	// the API server.
	File string
}

// Reconciler looks after one Namespace at a time.
type Reconciler struct {
	// client reads Namespaces from the manager's cache and writes.
	client client.Client
	// published holds the ConfigMaps of this name and no others.
	published client.Reader
	bundle    string
}

// Add registers the controller with mgr. An unusable bundle is an error now: what is
// published would break every Pod that talks to the API server.
func Add(mgr ctrl.Manager, o Options) error {
	bundle, err := LoadBundle(o.File, mgr.GetConfig())
	if err != nil {
		return err
	}
	// A cache of its own: the manager's is not asked to hold everybody's ConfigMaps.
	published, err := cache.New(mgr.GetConfig(), cache.Options{
		Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.ConfigMap{}: {Field: fields.OneTermEqualSelector(metav1.ObjectNameField, Name)},
		},
	})
	if err != nil {
		return fmt.Errorf("make the cache of ConfigMaps %s: %w", Name, err)
	}
	if err := mgr.Add(published); err != nil {
		return fmt.Errorf("add the cache of ConfigMaps %s: %w", Name, err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("rootca").
		For(&corev1.Namespace{}).
		WatchesRawSource(source.Kind(published, &corev1.ConfigMap{}, handler.TypedEnqueueRequestsFromMapFunc(toNamespace))).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&Reconciler{client: mgr.GetClient(), published: published, bundle: bundle})
}

func toNamespace(_ context.Context, published *corev1.ConfigMap) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: published.Namespace}}}
}

// Reconcile creates the ConfigMap, or puts its content right.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace := &corev1.Namespace{}
	if err := r.client.Get(ctx, request.NamespacedName, namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if namespace.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	present := &corev1.ConfigMap{}
	err := r.published.Get(ctx, types.NamespacedName{Namespace: namespace.Name, Name: Name}, present)
	switch {
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, r.create(ctx, namespace.Name)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("read ConfigMap %s/%s: %w", namespace.Name, Name, err)
	}
	return ctrl.Result{}, r.restore(ctx, present)
}

func (r *Reconciler) create(ctx context.Context, namespace string) error {
	wanted := computeConfigMap(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Name}}, r.bundle)
	// Nothing reads ConfigMaps through the manager's cache, so nothing may wait for it.
	err := r.client.Create(ctx, wanted, client.DisableReadYourWritesConsistency)
	switch {
	case err == nil:
		klog.FromContext(ctx).Info("Published the root certificates", "configMap", klog.KObj(wanted))
	case apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err),
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		// The watch tells about the one that is there; a namespace that goes needs none.
	default:
		return fmt.Errorf("create ConfigMap %s: %w", klog.KObj(wanted), err)
	}
	return nil
}

func (r *Reconciler) restore(ctx context.Context, present *corev1.ConfigMap) error {
	if isCurrent(present, r.bundle) {
		return nil
	}
	// The lock makes a stale copy a conflict: the difference would be a wrong one.
	base := client.MergeFromWithOptions(present.DeepCopy(), client.MergeFromWithOptimisticLock{})
	wanted := computeConfigMap(present.DeepCopy(), r.bundle)
	if err := r.client.Patch(ctx, wanted, base, client.DisableReadYourWritesConsistency); err != nil {
		if apierrors.IsNotFound(err) {
			return nil // deleted meanwhile; the watch tells
		}
		return fmt.Errorf("restore ConfigMap %s: %w", klog.KObj(present), err)
	}
	klog.FromContext(ctx).Info("Restored the root certificates", "configMap", klog.KObj(present), "reason", "the content was another")
	return nil
}

// isCurrent is true for exactly our data under any description.
func isCurrent(present *corev1.ConfigMap, bundle string) bool {
	return maps.Equal(present.Data, map[string]string{Key: bundle}) && present.Annotations[descriptionKey] != ""
}

// computeConfigMap changes from to hold what it has to, and returns it.
func computeConfigMap(from *corev1.ConfigMap, bundle string) *corev1.ConfigMap {
	from.Data = map[string]string{Key: bundle}
	metav1.SetMetaDataAnnotation(&from.ObjectMeta, descriptionKey, description)
	return from
}
