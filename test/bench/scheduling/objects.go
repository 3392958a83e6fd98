package main

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	namespace   = "bench"
	podsPerNode = 110
	zones       = 3
)

// Shapes of Pods.
const (
	// shapePlain asks for some CPU and memory.
	shapePlain = "plain"
	// shapeSpread spreads over zones and Nodes, softly.
	shapeSpread = "spread"
	// shapeApart keeps Pods of one of many applications on different Nodes.
	shapeApart = "apart"
	// shapeReplicas are plain ones that ReplicaSets have made, of which nobody acts.
	shapeReplicas = "replicas"
)

func shapes() []string { return []string{shapePlain, shapeSpread, shapeApart, shapeReplicas} }

func isShape(name string) bool { return slices.Contains(shapes(), name) }

func object(apiVersion, kind, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}}}
	if spec != nil {
		o.Object["spec"] = spec
	}
	return o
}

func nodeStatus() map[string]any {
	resources := func() map[string]any {
		return map[string]any{"cpu": "32", "memory": "128Gi", "pods": fmt.Sprint(podsPerNode)}
	}
	return map[string]any{
		"allocatable": resources(), "capacity": resources(),
		"conditions": []any{map[string]any{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}},
	}
}

func node(apiVersion string, i int) *unstructured.Unstructured {
	name := fmt.Sprintf("node-%05d", i)
	n := object(apiVersion, "Node", name, map[string]any{})
	n.SetLabels(map[string]string{"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": fmt.Sprintf("zone-%d", i%zones)})
	n.Object["status"] = nodeStatus()
	return n
}

// podsPerApplication is how many Pods carry the same label.
const podsPerApplication = 100

// replicaSet is the one that has made the Pods of an application.
func replicaSet(apiVersion, application string) *unstructured.Unstructured {
	labels := map[string]any{"app": application}
	return object(apiVersion, "ReplicaSet", application, map[string]any{
		"replicas": int64(podsPerApplication), "selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": podSpec()},
	})
}

func applicationOf(i int) string { return fmt.Sprintf("app-%d", i/podsPerApplication) }

func podSpec() map[string]any {
	return map[string]any{
		"schedulerName": "default-scheduler",
		"containers": []any{map[string]any{
			"name": "main", "image": "test.invalid/main:1",
			"resources": map[string]any{"requests": map[string]any{"cpu": "100m", "memory": "128Mi"}},
		}},
	}
}

// pod is the one of that number; owner may be nil.
func pod(apiVersion string, i int, shape string, owner *unstructured.Unstructured) *unstructured.Unstructured {
	spec, application := podSpec(), applicationOf(i)
	selector := func() map[string]any {
		return map[string]any{"matchLabels": map[string]any{"app": application}}
	}
	switch shape {
	case shapeSpread:
		constraint := func(key string) map[string]any {
			return map[string]any{"maxSkew": int64(1), "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector()}
		}
		spec["topologySpreadConstraints"] = []any{constraint("topology.kubernetes.io/zone"), constraint("kubernetes.io/hostname")}
	case shapeApart:
		spec["affinity"] = map[string]any{"podAntiAffinity": map[string]any{"requiredDuringSchedulingIgnoredDuringExecution": []any{
			map[string]any{"topologyKey": "kubernetes.io/hostname", "labelSelector": selector()},
		}}}
	}
	p := object(apiVersion, "Pod", fmt.Sprintf("pod-%05d", i), spec)
	p.SetLabels(map[string]string{"app": application})
	if owner != nil {
		p.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(owner, owner.GroupVersionKind())})
	}
	return p
}
