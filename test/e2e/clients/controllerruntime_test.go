package clients

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// setReconciler is an operator of the usual make: for each ConfigMap it keeps a Pod and
// a Service that the ConfigMap owns, and says in the ConfigMap what it sees of them.
type setReconciler struct{ client.Client }

func (r *setReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	set := &corev1.ConfigMap{}
	if err := r.Get(ctx, request.NamespacedName, set); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if set.Data["command"] == "" || set.DeletionTimestamp != nil {
		return ctrl.Result{}, nil // not one of ours, or one that takes what it owns along
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: set.Namespace, Name: set.Name}}
	if _, err := controllerutil.CreateOrUpdate(ctx, r.Client, pod, func() error {
		if pod.UID == "" {
			wanted := shellPod(set.Name, set.Data["command"])
			pod.Labels, pod.Spec = wanted.Labels, wanted.Spec
		}
		return controllerutil.SetControllerReference(set, pod, r.Scheme())
	}); err != nil {
		return ctrl.Result{}, fmt.Errorf("keep the Pod: %w", err)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: set.Namespace, Name: set.Name}}
	if _, err := controllerutil.CreateOrPatch(ctx, r.Client, service, func() error {
		service.Spec.Selector = map[string]string{"app": set.Name}
		service.Spec.Ports = []corev1.ServicePort{{Name: "web", Port: 80}}
		return controllerutil.SetControllerReference(set, service, r.Scheme())
	}); err != nil {
		return ctrl.Result{}, fmt.Errorf("keep the Service: %w", err)
	}
	base := client.MergeFrom(set.DeepCopy())
	metav1.SetMetaDataAnnotation(&set.ObjectMeta, "phase", string(pod.Status.Phase))
	metav1.SetMetaDataAnnotation(&set.ObjectMeta, "address", service.Spec.ClusterIP)
	return ctrl.Result{}, r.Patch(ctx, set, base)
}

// TestControllerRuntime: an operator built on it works, owned Pods included.
func TestControllerRuntime(t *testing.T) {
	ctrl.SetLogger(klog.Background())
	ns := namespace(t)
	mgr, err := ctrl.NewManager(credentials(t), ctrl.Options{
		Scheme: clientgoscheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache:          cache.Options{DefaultNamespaces: map[string]cache.Config{ns: {}}},
		LeaderElection: true, LeaderElectionID: "operator", LeaderElectionNamespace: ns, LeaderElectionReleaseOnCancel: true,
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	const byNode = "spec.nodeName"
	if err := mgr.GetFieldIndexer().IndexField(t.Context(), &corev1.Pod{}, byNode, func(o client.Object) []string {
		return []string{o.(*corev1.Pod).Spec.NodeName}
	}); err != nil {
		t.Fatal(err)
	}
	err = ctrl.NewControllerManagedBy(mgr).For(&corev1.ConfigMap{}).Owns(&corev1.Pod{}).Owns(&corev1.Service{}).
		Named("set").Complete(&setReconciler{mgr.GetClient()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	}()

	c := mgr.GetClient()
	set := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "set"}, Data: map[string]string{"command": "sleep 1000"}}
	if err := c.Create(ctx, set); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKeyFromObject(set)
	pod := &corev1.Pod{}
	running := func(not types.UID) {
		t.Helper()
		eventually(t, "the operator to report the Pod", func() error {
			if err := c.Get(ctx, key, set); err != nil {
				return err
			}
			if set.Annotations["phase"] != "Running" || set.Annotations["address"] == "" {
				return fmt.Errorf("it says %v", set.Annotations)
			}
			if err := c.Get(ctx, key, pod); err != nil {
				return err
			}
			if pod.UID == not {
				return errors.New("the old Pod is still there")
			}
			return nil
		})
	}
	running("")
	if !metav1.IsControlledBy(pod, set) {
		t.Errorf("owners of the Pod: %v", pod.OwnerReferences)
	}
	onNode := &corev1.PodList{}
	if err := c.List(ctx, onNode, client.InNamespace(ns), client.MatchingFields{byNode: pod.Spec.NodeName}); err != nil || len(onNode.Items) != 1 {
		t.Errorf("Pods of node %q in the cache: %d, %v", pod.Spec.NodeName, len(onNode.Items), err)
	}
	if err := mgr.GetAPIReader().List(ctx, onNode, client.InNamespace(ns), client.MatchingFields{byNode: "elsewhere"}); err != nil || len(onNode.Items) != 0 {
		t.Errorf("Pods of another node in the API: %d, %v", len(onNode.Items), err)
	}

	// A deleted Pod comes back; its owner's deletion takes everything.
	if err := c.Delete(ctx, pod); err != nil {
		t.Fatal(err)
	}
	running(pod.UID)
	if err := c.Delete(ctx, set, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []client.Object{&corev1.Pod{}, &corev1.Service{}, &corev1.ConfigMap{}} {
		eventually(t, fmt.Sprintf("%T to be collected", gone), func() error {
			return isGone(mgr.GetAPIReader().Get(ctx, key, gone))
		})
	}
}

// TestControllerRuntimeClient: its client without a cache, every verb that it has.
func TestControllerRuntimeClient(t *testing.T) {
	ns := namespace(t)
	c, err := client.NewWithWatch(credentials(t), client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	pod := shellPod("plain", "sleep 1000")
	pod.Namespace = ns
	if err := c.Create(ctx, pod, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(pod), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Errorf("after a dry run: %v", err)
	}
	pod.ResourceVersion, pod.UID = "", ""
	if err := c.Create(ctx, pod); err != nil {
		t.Fatal(err)
	}
	if pod.Kind != "" && pod.GroupVersionKind() != corev1.SchemeGroupVersion.WithKind("Pod") {
		t.Errorf("created a %s", pod.GroupVersionKind())
	}
	base := client.StrategicMergeFrom(pod.DeepCopy())
	pod.Labels["more"] = "x"
	if err := c.Patch(ctx, pod, base); err != nil || pod.Labels["more"] != "x" {
		t.Errorf("strategic merge patch: %v, %v", pod.Labels, err)
	}
	stale := client.MergeFromWithOptions(pod.DeepCopy(), client.MergeFromWithOptimisticLock{})
	old := pod.DeepCopy()
	old.ResourceVersion = "1"
	old.Labels["more"] = "y"
	if err := c.Update(ctx, old); !apierrors.IsConflict(err) {
		t.Errorf("a stale update: %v, want a conflict", err)
	}
	pod.Labels["more"] = "z"
	if err := c.Patch(ctx, pod, stale); err != nil && !apierrors.IsConflict(err) {
		t.Errorf("a locked patch: %v", err)
	}
	statusBase := client.MergeFrom(pod.DeepCopy())
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: "example.com/checked", Status: corev1.ConditionTrue})
	if err := c.Status().Patch(ctx, pod, statusBase); err != nil {
		t.Errorf("patch of the status: %v", err)
	}
	token := &corev1.PodList{}
	if err := c.List(ctx, token, client.InNamespace(ns), client.MatchingLabels{"app": "plain"}, client.Limit(1)); err != nil || len(token.Items) != 1 {
		t.Errorf("list: %d, %v", len(token.Items), err)
	}
	if err := c.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(ns), client.MatchingLabels{"app": "plain"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Pod to be gone", func() error {
		return isGone(c.Get(ctx, client.ObjectKeyFromObject(pod), pod))
	})
}
