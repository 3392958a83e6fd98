// Package manager assembles the manager process: one list of controllers, one
// cache, one client, leader election, health and metrics.
//
// It decides nothing about the objects; that is for the packages it lists. It
// keeps no state outside the API server: a manager that is killed at any moment is
// replaced by another replica, or started again, and works on from what it reads.
// A leader that loses its Lease ends its process at once rather than act beside
// its successor.
package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/controllers/nodeaccess"
	"github.com/keelson-dev/keelson/controllers/service"
	"github.com/keelson-dev/keelson/controllers/servicemirror"
	"github.com/keelson-dev/keelson/internal/apidial"
)

// Run works until ctx ends, the Lease is lost or a part fails. It first waits for
// the API server and for Keelson's kinds, so that the order of starting does not
// matter.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil { //nolint:contextcheck // it asks for the controllers' names and adds none
		return err
	}
	logger := klog.FromContext(ctx)
	ctrl.SetLogger(logger)
	cfg, err := restConfig(o.Kubeconfig)
	if err != nil {
		return err
	}
	if err := prepare(ctx, cfg); err != nil {
		return err
	}
	apidial.Patient(cfg, logger)
	mgr, err := New(cfg, o) //nolint:contextcheck // its informers live as long as the process
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// New builds the manager with every enabled controller and starts nothing. Tests
// use it to run several in one process.
func New(cfg *rest.Config, o Options) (ctrl.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	options := managerOptions(scheme, o)
	if options.LeaderElectionResourceLockInterface, err = electionLock(cfg, o.LeaderElection); err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(cfg, options)
	if err != nil {
		return nil, fmt.Errorf("set up the manager: %w", err)
	}
	if err := errors.Join(addChecks(mgr), warm(mgr.GetCache())); err != nil {
		return nil, err
	}
	for _, c := range controllers() {
		if !o.enabled(c) {
			mgr.GetLogger().V(2).Info("Left out", "controller", c.name)
			continue
		}
		if err := c.add(mgr, o); err != nil {
			return nil, fmt.Errorf("set up controller %s: %w", c.name, err)
		}
	}
	return mgr, nil
}

// restConfig reads credentials and takes off the client's own throttle: the API
// server's priority and fairness decides what waits.
func restConfig(kubeconfig string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		if kubeconfig == "" {
			return nil, fmt.Errorf("use the account of the Pod (set --kubeconfig outside a cluster): %w", err)
		}
		return nil, fmt.Errorf("read --kubeconfig %s: %w", kubeconfig, err)
	}
	cfg.QPS = -1
	// A hundred watches would have a decompressor each, and the API server would pack
	// every event by itself: not worth it beside the API server.
	cfg.DisableCompression = true
	cfg.UserAgent = "keelson-manager"
	return cfg, nil
}

// newScheme knows only the kinds that are read typed; the garbage collector and
// the namespace controller read metadata of everything else.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		keelsonv1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, autoscalingv2.AddToScheme, policyv1.AddToScheme,
		discoveryv1.AddToScheme, networkingv1.AddToScheme,
		schedulingv1.AddToScheme, nodev1.AddToScheme, corev1.AddToScheme, upstreamdiscoveryv1.AddToScheme, coordinationv1.AddToScheme, rbacv1.AddToScheme,
		storagev1.AddToScheme, certificatesv1.AddToScheme, authorizationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	return scheme, nil
}

func managerOptions(scheme *runtime.Scheme, o Options) ctrl.Options {
	return ctrl.Options{
		Scheme: scheme,
		Cache:  cacheOptions(),
		Client: client.Options{Cache: &client.CacheOptions{
			// ADR 0002: the one consistency mechanism of all controllers.
			EnableReadYourWritesConsistency: new(true),
			// Only written, or read once: not worth a watch on all of them.
			DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}},
		}},
		Controller: config.Controller{
			ReconciliationTimeout: o.ReconciliationTimeout.Duration,
		},
		LeaderElection:          o.LeaderElection.Enabled,
		LeaderElectionID:        o.LeaderElection.Name,
		LeaderElectionNamespace: o.LeaderElection.Namespace,
		LeaseDuration:           new(o.LeaderElection.LeaseDuration.Duration),
		RenewDeadline:           new(o.LeaderElection.RenewDeadline.Duration),
		RetryPeriod:             new(o.LeaderElection.RetryPeriod.Duration),
		// The process ends right after the manager, so a planned stop may hand over.
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: o.MetricsBindAddress},
		HealthProbeBindAddress:        o.HealthBindAddress,
		WebhookServer: webhook.NewServer(webhook.Options{
			Host: o.Webhook.BindAddress, Port: o.Webhook.Port,
		}),
	}
}

// cacheOptions keep out of memory what no controller reads.
func cacheOptions() cache.Options {
	byObject := map[client.Object]cache.ByObject{
		&coordinationv1.Lease{}: {
			Namespaces: map[string]cache.Config{keelsonv1.NodeLeaseNamespace: {}},
		},
		&rbacv1.Role{}:        {Label: nodeaccess.Selector()},
		&rbacv1.RoleBinding{}: {Label: nodeaccess.Selector()},
	}
	maps.Copy(byObject, servicemirror.CacheOptions())
	maps.Copy(byObject, service.CacheOptions())
	return cache.Options{DefaultTransform: stripUnread, ByObject: byObject}
}

// lastApplied is as large as the object itself.
const lastApplied = corev1.LastAppliedConfigAnnotation

// appliedUnbound tells whether obj is a Pod without a node that somebody has applied, of
// which the scheduler has to know.
func appliedUnbound(obj client.Object) bool {
	pod, ok := obj.(*keelsonv1.Pod)
	return ok && pod.Spec.NodeName == "" && (pod.Annotations[lastApplied] != "" ||
		slices.ContainsFunc(pod.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
			return e.Operation == metav1.ManagedFieldsOperationApply
		}))
}

// stripUnread drops managedFields and kubectl's copy of the manifest. Writers are
// safe: they patch, and a patch from a stripped base mentions neither.
func stripUnread(in any) (any, error) {
	obj, ok := in.(client.Object)
	if !ok || appliedUnbound(obj) {
		return in, nil
	}
	if obj.GetManagedFields() != nil {
		obj.SetManagedFields(nil)
	}
	if annotations := obj.GetAnnotations(); annotations[lastApplied] != "" {
		delete(annotations, lastApplied)
		obj.SetAnnotations(annotations)
	}
	return obj, nil
}

// warm lets the cache have from the start what admission reads of every Pod: the first
// Pod would wait for it otherwise.
func warm(c cache.Cache) error {
	for _, object := range []client.Object{
		&corev1.Namespace{}, &corev1.ServiceAccount{}, &keelsonv1.LimitRange{}, &schedulingv1.PriorityClass{}, &nodev1.RuntimeClass{},
	} {
		if _, err := c.GetInformer(context.Background(), object, cache.BlockUntilSynced(false)); err != nil {
			return fmt.Errorf("watch %T: %w", object, err)
		}
	}
	return nil
}

// addChecks makes /readyz true when the caches that every replica needs are filled;
// packages that serve webhooks add their own check.
func addChecks(mgr ctrl.Manager) error {
	var synced atomic.Bool
	started := &onEveryReplica{run: func(ctx context.Context) error {
		synced.Store(true)
		<-ctx.Done()
		return nil
	}}
	return errors.Join(
		mgr.Add(started),
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("caches", func(*http.Request) error {
			if !synced.Load() {
				return errors.New("caches are not filled yet")
			}
			return nil
		}),
	)
}

// onEveryReplica runs after the caches are filled, leader or not.
type onEveryReplica struct {
	run func(context.Context) error
}

var (
	_ ctrlmanager.Runnable               = (*onEveryReplica)(nil)
	_ ctrlmanager.LeaderElectionRunnable = (*onEveryReplica)(nil)
)

func (r *onEveryReplica) Start(ctx context.Context) error { return r.run(ctx) }
func (r *onEveryReplica) NeedLeaderElection() bool        { return false }

// preparePeriod is the time between two looks at an API server that is not ready.
const preparePeriod = time.Second
