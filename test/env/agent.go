package env

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// FakeAgent plays the agents of all nodes without a container: Pods that have a node run
// and are ready at once, or succeed at once if they may end, and Pods that are deleted are
// let go. It remembers every Pod that it has seen.
type FakeAgent struct {
	client client.Client

	mu   sync.Mutex
	seen map[string]map[types.UID]string
}

// StartFakeAgent runs one until the test ends.
func (e *Environment) StartFakeAgent(t testing.TB) *FakeAgent {
	t.Helper()
	return e.StartFakeAgentIn(t)
}

// StartFakeAgentIn runs one for the Pods of some namespaces; none means all.
func (e *Environment) StartFakeAgentIn(t testing.TB, namespaces ...string) *FakeAgent {
	t.Helper()
	within := map[string]cache.Config{}
	for _, ns := range namespaces {
		within[ns] = cache.Config{}
	}
	agent := &FakeAgent{seen: map[string]map[types.UID]string{}}
	e.StartManager(t, func(mgr ctrl.Manager) error {
		agent.client = mgr.GetClient()
		return ctrl.NewControllerManagedBy(mgr).
			Named("fakeagent").
			For(&keelsonv1.Pod{}).
			WithOptions(controller.Options{MaxConcurrentReconciles: 10}).
			Complete(agent)
	}, func(o *ctrl.Options) { o.Cache.DefaultNamespaces = within })
	return agent
}

// Seen is how many Pods there have ever been in a namespace.
func (a *FakeAgent) Seen(namespace string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen[namespace])
}

// Reconcile implements reconcile.Reconciler.
func (a *FakeAgent) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	pod := &keelsonv1.Pod{}
	if err := a.client.Get(ctx, req.NamespacedName, pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	a.remember(pod)
	before := pod.DeepCopy()
	if pod.DeletionTimestamp != nil {
		if controllerutil.RemoveFinalizer(pod, keelsonv1.PodFinalizer) {
			err := a.client.Patch(ctx, pod, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		return ctrl.Result{}, nil
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodSucceeded {
		return ctrl.Result{}, nil
	}
	pod.Status.Phase = corev1.PodRunning
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever || pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
		pod.Status.Phase = corev1.PodSucceeded
		ready.Status, ready.Reason = corev1.ConditionFalse, "PodCompleted"
	}
	pod.Status.Conditions = append(pod.Status.Conditions, ready)
	err := a.client.Status().Patch(ctx, pod, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("play the agent of Pod %s: %w", req.NamespacedName, err)
	}
	return ctrl.Result{}, nil
}

func (a *FakeAgent) remember(pod *keelsonv1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[pod.Namespace] == nil {
		a.seen[pod.Namespace] = map[types.UID]string{}
	}
	a.seen[pod.Namespace][pod.UID] = pod.Name
}
