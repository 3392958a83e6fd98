package rollingupdate

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// What an update writes down, so that it can go on after an interruption, or back. The
// annotations are gone from the one that stays when it has ended.
const (
	// annotationPartner names the other ReplicationController, on the new one.
	annotationPartner = "keelson.dev/rolling-update-partner"
	// annotationDesired is the final size, on the new one.
	annotationDesired = "keelson.dev/rolling-update-desired-replicas"
	// annotationOriginal is the size when it began to lose Pods, on either.
	annotationOriginal = "keelson.dev/rolling-update-original-replicas"
)

// API is what an update needs of one namespace's ReplicationControllers; a dynamic
// client has it.
type API interface {
	Get(ctx context.Context, name string, o metav1.GetOptions, subresources ...string) (*unstructured.Unstructured, error)
	Create(ctx context.Context, rc *unstructured.Unstructured, o metav1.CreateOptions, subresources ...string) (*unstructured.Unstructured, error)
	Patch(ctx context.Context, name string, t types.PatchType, data []byte, o metav1.PatchOptions, subresources ...string) (*unstructured.Unstructured, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions, subresources ...string) error
}

func get(ctx context.Context, api API, name string) (*unstructured.Unstructured, error) {
	return api.Get(ctx, name, metav1.GetOptions{})
}

// find is get, but nil where there is none.
func find(ctx context.Context, api API, name string) (*unstructured.Unstructured, error) {
	rc, err := get(ctx, api, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return rc, err
}

// annotate sets annotations; nil removes one.
func annotate(ctx context.Context, api API, rc *unstructured.Unstructured, annotations map[string]any) (*unstructured.Unstructured, error) {
	return patch(ctx, api, rc, map[string]any{"metadata": map[string]any{"annotations": annotations}})
}

func scale(ctx context.Context, api API, rc *unstructured.Unstructured, to int32) error {
	_, err := patch(ctx, api, rc, map[string]any{"spec": map[string]any{"replicas": to}})
	return err
}

// patch changes this very object: not one that got its name in between.
func patch(ctx context.Context, api API, rc *unstructured.Unstructured, change map[string]any) (*unstructured.Unstructured, error) {
	metadata, _ := change["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		change["metadata"] = metadata
	}
	metadata["uid"] = rc.GetUID()
	data, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	changed, err := api.Patch(ctx, rc.GetName(), types.MergePatchType, data, metav1.PatchOptions{FieldManager: "keelson-rolling-update"})
	if err != nil {
		return nil, fmt.Errorf("change ReplicationController %s: %w", rc.GetName(), err)
	}
	return changed, nil
}

func sizeOf(rc *unstructured.Unstructured) int32 {
	n, ok, _ := unstructured.NestedInt64(rc.Object, "spec", "replicas")
	if !ok {
		return 1
	}
	return int32(n)
}

func sideOf(rc *unstructured.Unstructured) Side {
	observed, _, _ := unstructured.NestedInt64(rc.Object, "status", "observedGeneration")
	available, _, _ := unstructured.NestedInt64(rc.Object, "status", "availableReplicas")
	side := Side{Name: rc.GetName(), Replicas: sizeOf(rc), Unsettled: observed < rc.GetGeneration()}
	side.Available = min(int32(available), side.Replicas)
	return side
}

// noted reads a size from an annotation.
func noted(rc *unstructured.Unstructured, key string) (n int32, ok bool, err error) {
	text, ok := rc.GetAnnotations()[key]
	if !ok {
		return 0, false, nil
	}
	value, err := strconv.ParseInt(text, 10, 32)
	if err != nil || value < 0 {
		return 0, false, fmt.Errorf("annotation %s of ReplicationController %s is %q, want a number: correct it, or remove it", key, rc.GetName(), text)
	}
	return int32(value), true, nil
}
