package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/keelson-dev/keelson/test/bench/internal/program"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// side is an API server and the scheduler for one of the two.
type side struct {
	name, folder, dir string
	group             string
	server            *envtest.Environment
	client            dynamic.Interface
	program           *program.Program
}

func newSide(name, folder, dir string) (*side, error) {
	s := &side{name: name, folder: folder, dir: dir}
	s.server = &envtest.Environment{BinaryAssetsDirectory: filepath.Join(folder, "k8s"), ControlPlaneStartTimeout: time.Minute}
	if name == "keelson" {
		s.group = "core.keelson.dev"
		s.server.CRDDirectoryPaths, s.server.ErrorIfCRDPathMissing = []string{"config/crd/bases"}, true
	}
	config, err := s.server.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start an API server: %w", err), s.server.Stop())
	}
	config.QPS, config.Burst = -1, -1
	if s.client, err = dynamic.NewForConfig(config); err != nil {
		return nil, errors.Join(err, s.server.Stop())
	}
	return s, os.WriteFile(s.kubeconfig(), s.server.KubeConfig, 0o600)
}

func (s *side) kubeconfig() string { return filepath.Join(s.dir, "kubeconfig") }

func (s *side) resource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: s.group, Version: "v1", Resource: name}
}

func (s *side) pods() dynamic.ResourceInterface {
	return s.client.Resource(s.resource("pods")).Namespace(namespace)
}

// parallelCreations is how many objects are on their way at once.
const parallelCreations = 32

// fill creates the Nodes and then the Pods.
func (s *side) fill(ctx context.Context, nodes, pods int, shape string) error {
	if _, err := s.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Create(ctx, object("v1", "Namespace", namespace, nil), metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := s.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}).Namespace(namespace).Create(ctx, object("v1", "ServiceAccount", "default", nil), metav1.CreateOptions{}); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelCreations)
	for i := range nodes {
		group.Go(func() error { return s.createNode(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("create Nodes: %w", err)
	}
	return s.createPods(context.WithoutCancel(ctx), pods, shape)
}

func (s *side) createPods(ctx context.Context, pods int, shape string) error {
	owners := map[string]*unstructured.Unstructured{}
	for i := 0; shape == shapeReplicas && i < pods; i += podsPerApplication {
		made, err := s.client.Resource(s.apps("replicasets")).Namespace(namespace).Create(ctx, replicaSet(s.apps("").GroupVersion().String(), applicationOf(i)), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create a ReplicaSet: %w", err)
		}
		owners[made.GetName()] = made
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelCreations)
	for i := range pods {
		group.Go(func() error {
			_, err := s.pods().Create(ctx, pod(s.apiVersion(), i, shape, owners[applicationOf(i)]), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("create Pods: %w", err)
	}
	return nil
}

// apps is a resource of workloads.
func (s *side) apps(name string) schema.GroupVersionResource {
	group := "apps"
	if s.group != "" {
		group = "apps.keelson.dev"
	}
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: name}
}

func (s *side) apiVersion() string {
	if s.group == "" {
		return "v1"
	}
	return s.group + "/v1"
}

// createNode takes two writes on either side: of ours the status, a subresource, is left
// out of a creation; a stock one gets the taint of a Node that is not ready by admission.
func (s *side) createNode(ctx context.Context, i int) error {
	nodes := s.client.Resource(s.resource("nodes"))
	created, err := nodes.Create(ctx, node(s.apiVersion(), i), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if s.group == "" {
		unstructured.RemoveNestedField(created.Object, "spec", "taints")
		_, err = nodes.Update(ctx, created, metav1.UpdateOptions{})
		return err
	}
	created.Object["status"] = nodeStatus()
	_, err = nodes.UpdateStatus(ctx, created, metav1.UpdateOptions{})
	return err
}

// bindings is what a watch has seen: the time from the first to the last, or why it did
// not see them all.
type bindings struct {
	took time.Duration
	err  error
}

// watchBindings sends what it saw when all Pods have a Node or the watch has ended.
func (s *side) watchBindings(ctx context.Context, all int) (<-chan bindings, error) {
	list, err := s.pods().List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	// On a busy computer the API server ends a watch that does not keep up: this one goes on.
	watching, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{
		WatchFuncWithContext: s.pods().Watch,
	})
	if err != nil {
		return nil, err
	}
	done := make(chan bindings, 1)
	go func() {
		defer watching.Stop()
		bound := map[string]struct{}{}
		var first time.Time
		for event := range watching.ResultChan() {
			if event.Type == watch.Error {
				done <- bindings{err: fmt.Errorf("watch Pods: %w", apierrors.FromObject(event.Object))}
				return
			}
			pod, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			if on, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName"); on == "" {
				continue
			}
			if len(bound) == 0 {
				first = time.Now()
			}
			if bound[pod.GetName()] = struct{}{}; len(bound) == all {
				done <- bindings{took: time.Since(first)}
				return
			}
		}
		done <- bindings{err: errors.Join(fmt.Errorf("the watch ended when %d Pods had a Node", len(bound)), ctx.Err())}
	}()
	return done, nil
}

// startScheduler begins to place.
func (s *side) startScheduler(log string) (err error) {
	path, args := filepath.Join(s.folder, "keelson-manager"), []string{
		"--kubeconfig", s.kubeconfig(), "--controllers", "scheduler", "--leader-elect=false",
		"--metrics-bind-address", "0", "--health-bind-address", "0",
	}
	if s.name == "stock" {
		config := filepath.Join(s.dir, "scheduler.yaml")
		text := fmt.Sprintf("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nleaderElection: {leaderElect: false}\nclientConnection: {kubeconfig: %s, qps: 100000, burst: 100000}\n", s.kubeconfig())
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return err
		}
		path, args = filepath.Join(s.folder, "stock", "kube-scheduler"), []string{"--config", config, "--secure-port", "0"}
	}
	s.program, err = program.Start(exec.Command(path, args...), log)
	return err
}

func (s *side) stop() error {
	s.program.Stop()
	return s.server.Stop()
}
