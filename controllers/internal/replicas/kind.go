package replicas

import (
	"context"
	"fmt"

	upstreamappsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

const defaultConcurrency = 5

// Status is the form in which the frame reads and writes the status of every kind:
// that of a ReplicaSet, which has all fields.
type Status = upstreamappsv1.ReplicaSetStatus

// Kind is what the frame must know about one kind of owner. Every function is pure but
// Related.
type Kind[T client.Object] struct {
	// Name is the controller's name in --controllers, logs, metrics and events.
	Name string
	// GroupVersionKind is the owner's; informer objects do not carry it.
	GroupVersionKind schema.GroupVersionKind
	// New and NewList return empty objects.
	New     func() T
	NewList func() client.ObjectList
	// Owner reads an object, with the defaults that admission would have written.
	Owner func(T) Owner
	// Status reads the status; SetStatus writes it, with the columns that
	// `kubectl get` shows; SameStatus compares the two, columns included.
	Status     func(T) Status
	SetStatus  func(T, Status)
	SameStatus func(a, b T) bool
	// CountTerminating says that status.terminatingReplicas is written.
	CountTerminating bool
	// Related returns the Pods of sibling owners (the other ReplicaSets of a
	// Deployment); nil where a kind has none. It is asked before Pods are deleted.
	Related func(ctx context.Context, reader client.Reader, owner T) ([]*keelsonv1.Pod, error)
}

// Options configure a controller. The zero value is good.
type Options struct {
	// Concurrency is how many owners are worked on at once; 0 means 5.
	Concurrency int
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller of kind with mgr.
//
// mgr's client must read its own writes (docs/adr/0002-consistency.md), else Pods
// are created twice.
func Add[T client.Object](mgr ctrl.Manager, kind Kind[T], o Options) error {
	ctx := context.Background()
	if err := podcontrol.IndexPods(ctx, mgr.GetFieldIndexer(), kind.GroupVersionKind.GroupKind()); err != nil {
		return err
	}
	if err := kind.indexSelectors(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if o.Concurrency == 0 {
		o.Concurrency = defaultConcurrency
	}
	build := ctrl.NewControllerManagedBy(mgr).
		Named(kind.Name).
		For(kind.New(), builder.WithPredicates(kind.ownChanges()))
	for _, rival := range rivalKinds() {
		build = build.Watches(rival.object(), kind.rivalHandler(mgr.GetClient()))
	}
	err := build.
		Watches(&keelsonv1.Pod{}, kind.podHandler(mgr.GetClient())).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Concurrency, RateLimiter: backoff.RateLimiter()}).
		Complete(NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), eventrecorder.New(mgr, kind.Name), kind, o))
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", kind.Name, err)
	}
	return nil
}
