package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"

	"github.com/keelson-dev/keelson/test/env/cluster"
)

// namespace holds everything that is measured.
const namespace = "bench"

// reactionTimeout bounds what is measured, so that a cluster that hangs is an error.
const reactionTimeout = 10 * time.Minute

// workload makes Pods and watches them. The kinds of both targets have the same
// fields, so it converts to the upstream types.
type workload struct {
	group string
	image string
	api   dynamic.Interface
}

func newWorkload(ctx context.Context, t target) (*workload, error) {
	config, err := t.Config()
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // what is measured is the cluster, not this client's patience
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	w := &workload{group: t.Group(), image: t.Image(cluster.TestserverImage), api: api}
	space := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace},
	}}
	namespaces := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	if _, err := api.Resource(namespaces).Create(ctx, space, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("create namespace: %w", err)
	}
	return w, nil
}

func (w *workload) pods() dynamic.ResourceInterface { return w.resource("pods") }
func (w *workload) controllers() dynamic.ResourceInterface {
	return w.resource("replicationcontrollers")
}

func (w *workload) resource(plural string) dynamic.ResourceInterface {
	gvr := schema.GroupVersionResource{Group: w.group, Version: "v1", Resource: plural}
	return w.api.Resource(gvr).Namespace(namespace)
}

// podSpec is a small HTTP server that ends at once when it is told to. It has no token
// of a service account, since only one of the two targets would mount one.
func (w *workload) podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		AutomountServiceAccountToken: new(false),
		Containers:                   []corev1.Container{{Name: "server", Image: w.image, ImagePullPolicy: corev1.PullIfNotPresent}},
	}
}

func (w *workload) pod(name string) (*unstructured.Unstructured, error) {
	return w.encode("Pod", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: w.podSpec()})
}

func (w *workload) controller(name string, replicas int) (*unstructured.Unstructured, error) {
	labels := map[string]string{"app": name}
	return w.encode("ReplicationController", &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: new(int32(replicas)), Selector: labels,
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: w.podSpec()},
		},
	})
}

func (w *workload) encode(kind string, object any) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	delete(fields, "status")
	u := &unstructured.Unstructured{Object: fields}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: w.group, Version: "v1", Kind: kind})
	return u, nil
}

// follow watches one kind from now on and calls see for every change until it says
// that it has seen enough.
func follow[T any](ctx context.Context, resource dynamic.ResourceInterface, start func() error, see func(watch.EventType, *T) (enough bool)) error {
	ctx, cancel := context.WithTimeout(ctx, reactionTimeout)
	defer cancel()
	list, err := resource.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	watcher, err := toolswatch.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return resource.Watch(ctx, o)
		},
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer watcher.Stop()
	if err := start(); err != nil {
		return err
	}
	for event := range watcher.ResultChan() {
		u, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("watch: %w", apierrors.FromObject(event.Object))
		}
		object := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, object); err != nil {
			return fmt.Errorf("decode %s %s: %w", u.GetKind(), u.GetName(), err)
		}
		if see(event.Type, object) {
			return nil
		}
	}
	return errors.Join(errors.New("the watch ended before what it waited for"), ctx.Err())
}
