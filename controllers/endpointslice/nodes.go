package endpointslice

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/endpointslice/topologycache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// nodeLister gives the library the Nodes of the Pods of one Service, each read once. The
// library lists none.
type nodeLister struct {
	corelisters.NodeLister

	ctx    context.Context //nolint:containedctx // the library passes none
	reader client.Reader
	found  map[string]*corev1.Node
}

func newNodeLister(ctx context.Context, reader client.Reader) *nodeLister {
	return &nodeLister{ctx: ctx, reader: reader, found: map[string]*corev1.Node{}}
}

// Get implements corelisters.NodeLister.
func (l *nodeLister) Get(name string) (*corev1.Node, error) {
	if node, ok := l.found[name]; ok {
		return node, nil
	}
	node := &keelsonv1.Node{}
	if err := l.reader.Get(l.ctx, client.ObjectKey{Name: name}, node); err != nil {
		return nil, err //nolint:wrapcheck // the library tells a Node that is missing
	}
	l.found[name] = node.Upstream()
	return l.found[name], nil
}

// setNodes tells topology which part of the cluster each zone has.
func setNodes(ctx context.Context, reader client.Reader, topology *topologycache.TopologyCache) error {
	var list keelsonv1.NodeList
	if err := reader.List(ctx, &list, client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency); err != nil {
		return fmt.Errorf("failed to list Nodes: %w", err)
	}
	nodes := make([]*corev1.Node, len(list.Items))
	for i := range list.Items {
		nodes[i] = list.Items[i].Upstream()
	}
	topology.SetNodes(klog.FromContext(ctx), nodes)
	return nil
}

// nodeHandler queues the Services whose share of a zone is too small since a Node came,
// went, or changed its zone or its readiness.
func nodeHandler(reader client.Reader, topology *topologycache.TopologyCache) handler.EventHandler {
	check := func(ctx context.Context, q queue) {
		if err := setNodes(ctx, reader, topology); err != nil {
			// The cache answers from memory; it fails only while the manager stops.
			klog.FromContext(ctx).Error(err, "Failed to share out the zones again")
			return
		}
		for _, key := range topology.GetOverloadedServices() {
			q.Add(reconcile.Request{NamespacedName: serviceKey(key)})
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if !e.IsInInitialList {
				check(ctx, q)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if isReady(e.ObjectOld) != isReady(e.ObjectNew) ||
				e.ObjectOld.GetLabels()[corev1.LabelTopologyZone] != e.ObjectNew.GetLabels()[corev1.LabelTopologyZone] {
				check(ctx, q)
			}
		},
		DeleteFunc: func(ctx context.Context, _ event.DeleteEvent, q queue) { check(ctx, q) },
	}
}

// serviceKey reads the library's name of a Service, namespace/name.
func serviceKey(key string) types.NamespacedName {
	namespace, name, _ := strings.Cut(key, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func isReady(obj client.Object) bool {
	node, ok := obj.(*keelsonv1.Node)
	if !ok {
		return false
	}
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
