package resources

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// replaceStatus writes the status of next. Upstream's status storage takes labels and
// annotations along, a custom resource's does not: they are written first, by a request
// of their own, so that a gateway that dies in between has written no status.
func (c *call) replaceStatus(live, next map[string]any) (map[string]any, int, error) {
	labelled := withLabels(live, next)
	if !reflect.DeepEqual(labelled, live) {
		metadataOf(labelled)["resourceVersion"] = resourceVersionOf(next)
		stored, _, err := c.put(c.object(), labelled)
		if err != nil {
			return nil, 0, err
		}
		metadataOf(next)["resourceVersion"] = resourceVersionOf(stored)
	}
	keepSummary(live, next)
	if err := summarize(c.row.Kind, next); err != nil {
		return nil, 0, err
	}
	written, code, err := c.put(c.object().sub("status"), next)
	if err == nil && c.isDryRun() {
		written = withLabels(written, next)
	}
	return written, code, err
}

// withLabels is a copy of live with the labels and annotations of next.
func withLabels(live, next map[string]any) map[string]any {
	labelled := runtime.DeepCopyJSON(live)
	for _, field := range []string{"labels", "annotations"} {
		if value, ok := metadataOf(next)[field]; ok {
			metadataOf(labelled)[field] = value
		} else {
			delete(metadataOf(labelled), field)
		}
	}
	return labelled
}

// keepSummary gives next what live has besides upstream's status: a summary may hold more
// than columns.
func keepSummary(live, next map[string]any) {
	before, _ := live["status"].(map[string]any)
	kept, ok := before["summary"]
	if !ok {
		return
	}
	status, ok := next["status"].(map[string]any)
	if !ok {
		status = map[string]any{}
		next["status"] = status
	}
	if _, has := status["summary"]; !has {
		status["summary"] = runtime.DeepCopyJSONValue(kept)
	}
}

// summarize computes status.summary, which whoever writes the status writes.
func summarize(kind string, obj map[string]any) error {
	compute, ok := map[string]func(map[string]any) (any, error){
		"Pod":                     columns(summary.Pod),
		"Node":                    columns(summary.Node),
		"ReplicationController":   columns(summary.ReplicationController),
		"Service":                 columns(summary.Service),
		"ReplicaSet":              columns(summary.ReplicaSet),
		"Deployment":              columns(summary.Deployment),
		"DaemonSet":               columns(summary.DaemonSet),
		"StatefulSet":             columns(summary.StatefulSet),
		"Job":                     columns(summary.Job),
		"CronJob":                 columns(summary.CronJob),
		"HorizontalPodAutoscaler": columns(summary.HorizontalPodAutoscaler),
		"PodDisruptionBudget": columns(func(budget *policyv1.PodDisruptionBudget) policyv1.PodDisruptionBudgetSummary {
			return summary.PodDisruptionBudget(&budget.Spec)
		}),
		"ResourceQuota": columns(func(quota *keelsonv1.ResourceQuota) keelsonv1.ResourceQuotaSummary {
			columns := quota.Status.Summary // holds reservations, too
			columns.Request, columns.Limit = summary.Quota(&quota.Status.ResourceQuotaStatus)
			return columns
		}),
	}[kind]
	if !ok {
		return nil
	}
	value, err := compute(obj)
	if err != nil {
		return fmt.Errorf("compute the columns of a %s: %w", kind, err)
	}
	status, ok := obj["status"].(map[string]any)
	if !ok {
		status = map[string]any{}
		obj["status"] = status
	}
	status["summary"] = value
	return nil
}

// columns reads the tree as the typed object that of wants.
func columns[T, S any](of func(*T) S) func(map[string]any) (any, error) {
	return func(obj map[string]any) (any, error) {
		typed := new(T)
		if err := decodeInto(obj, typed); err != nil {
			return nil, err
		}
		computed := of(typed)
		return runtime.DefaultUnstructuredConverter.ToUnstructured(&computed)
	}
}
