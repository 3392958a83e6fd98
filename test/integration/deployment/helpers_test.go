package deployment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/deployment"
	"github.com/keelson-dev/keelson/controllers/replicaset"
	"github.com/keelson-dev/keelson/test/env"
)

const (
	works  = "test.invalid/works:"
	broken = "test.invalid/broken:"
)

func addControllers(mgr ctrl.Manager) error {
	return errors.Join(
		deployment.Add(mgr, deployment.Options{}),
		replicaset.Add(mgr, replicaset.Options{}),
		addKubelet(mgr),
	)
}

// addKubelet makes every Pod ready whose image works.
func addKubelet(mgr ctrl.Manager) error {
	c := mgr.GetClient()
	return ctrl.NewControllerManagedBy(mgr).Named("kubelet").For(&keelsonv1.Pod{}).
		Complete(reconcile.Func(func(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
			var pod keelsonv1.Pod
			if err := c.Get(ctx, req.NamespacedName, &pod); err != nil {
				return ctrl.Result{}, client.IgnoreNotFound(err)
			}
			if !strings.HasPrefix(pod.Spec.Containers[0].Image, works) || pod.Status.Phase == corev1.PodRunning {
				return ctrl.Result{}, nil
			}
			ready := pod.DeepCopy()
			ready.Status.Phase = corev1.PodRunning
			ready.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
			return ctrl.Result{}, client.IgnoreNotFound(c.Status().Patch(ctx, ready, client.MergeFrom(&pod)))
		}))
}

func image(name string) func(*upstreamappsv1.DeploymentSpec) {
	return func(s *upstreamappsv1.DeploymentSpec) { s.Template.Spec.Containers[0].Image = name }
}

// get reads obj again; it is left alone when it is gone.
func get(t *testing.T, obj client.Object) {
	t.Helper()
	err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj)
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatalf("failed to get %T: %v", obj, err)
	}
}

// edit changes the newest version of d.
func edit(t *testing.T, d *appsv1.Deployment, change func(*upstreamappsv1.DeploymentSpec)) {
	t.Helper()
	get(t, d)
	before := d.DeepCopy()
	change(&d.Spec)
	if err := testEnv.Client.Patch(t.Context(), d, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// setsOf returns the ReplicaSets of a namespace, oldest revision first.
func setsOf(t *testing.T, ns string) []appsv1.ReplicaSet {
	t.Helper()
	var list appsv1.ReplicaSetList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b appsv1.ReplicaSet) int { return cmp.Compare(revision(&a), revision(&b)) })
	return list.Items
}

func revision(obj client.Object) string {
	return obj.GetAnnotations()["deployment.kubernetes.io/revision"]
}

// sizes is what setsOf shows in short.
func sizes(t *testing.T, ns string) string {
	t.Helper()
	var parts []string
	for _, rs := range setsOf(t, ns) {
		parts = append(parts, fmt.Sprintf("%s:%d/%d", revision(&rs), rs.Status.AvailableReplicas, *rs.Spec.Replicas))
	}
	return strings.Join(parts, " ")
}

func pods(t *testing.T, ns string) []keelsonv1.Pod {
	t.Helper()
	var list keelsonv1.PodList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func condition(d *appsv1.Deployment, t upstreamappsv1.DeploymentConditionType) upstreamappsv1.DeploymentCondition {
	for _, c := range d.Status.Conditions {
		if c.Type == t {
			return c
		}
	}
	return upstreamappsv1.DeploymentCondition{}
}

// eventuallyComplete waits until the rollout of the newest spec is complete.
func eventuallyComplete(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	env.Eventually(t, func() string {
		get(t, d)
		s, want := d.Status, *d.Spec.Replicas
		reason := condition(d, upstreamappsv1.DeploymentProgressing).Reason
		if s.ObservedGeneration != d.Generation || s.Replicas != want || s.UpdatedReplicas != want || s.AvailableReplicas != want ||
			reason != "NewReplicaSetAvailable" {
			return fmt.Sprintf("sets %q, status %+v", sizes(t, d.Namespace), s)
		}
		return ""
	})
}

func notes(t *testing.T, ns, reason string) []string {
	t.Helper()
	var list eventsv1.EventList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	// The name of an Event ends in the nanosecond of its first time.
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return strings.Compare(a.Name, b.Name) })
	var out []string
	for _, e := range list.Items {
		if e.Reason == reason {
			out = append(out, e.Note)
		}
	}
	return out
}
