package disruption

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// scaleOfOwners adds up how many Pods the owners of the Pods want, each owner once, and
// names the Pods that have none.
func (r *Reconciler) scaleOfOwners(ctx context.Context, pods []*keelsonv1.Pod) (total int32, unmanaged []string, err error) {
	known := map[types.UID]bool{}  // what controls a Pod
	scaled := map[types.UID]bool{} // what says how many: a Deployment for its ReplicaSets
	for _, pod := range pods {
		owner := metav1.GetControllerOfNoCopy(pod)
		if owner == nil {
			unmanaged = append(unmanaged, pod.Name)
			continue
		}
		if known[owner.UID] {
			continue
		}
		known[owner.UID] = true
		uid, replicas, err := r.scaleOf(ctx, pod.Namespace, owner)
		if err != nil {
			return 0, nil, err
		}
		if uid == "" {
			return 0, nil, fmt.Errorf("found no controllers for pod %q", pod.Name)
		}
		if !scaled[uid] {
			scaled[uid] = true
			total += replicas
		}
	}
	return total, unmanaged, nil
}

// scaleOf is the scale of one owner, or of the Deployment above it, and whose it is; an
// empty uid where the owner is gone or has no scale.
func (r *Reconciler) scaleOf(ctx context.Context, namespace string, owner *metav1.OwnerReference) (uid types.UID, replicas int32, err error) {
	key := client.ObjectKey{Namespace: namespace, Name: owner.Name}
	switch {
	case is(owner, keelsonv1.GroupVersion.Group, "ReplicationController"):
		rc := &keelsonv1.ReplicationController{}
		err = r.client.Get(ctx, key, rc)
		uid, replicas = rc.UID, orOne(rc.Spec.Replicas)
	case is(owner, appsv1.GroupName, "StatefulSet"):
		set := &appsv1.StatefulSet{}
		err = r.client.Get(ctx, key, set)
		uid, replicas = set.UID, orOne(set.Spec.Replicas)
	case is(owner, appsv1.GroupName, "ReplicaSet"):
		set := &appsv1.ReplicaSet{}
		err = r.client.Get(ctx, key, set)
		if above := metav1.GetControllerOfNoCopy(set); err == nil && set.UID == owner.UID && above != nil && is(above, appsv1.GroupName, "Deployment") {
			return r.scaleOfDeployment(ctx, namespace, above)
		}
		uid, replicas = set.UID, orOne(set.Spec.Replicas)
	case is(owner, appsv1.GroupName, "DaemonSet"):
		return "", 0, unscalable("daemonsets.apps")
	case is(owner, batchv1.GroupName, "Job"):
		return "", 0, unscalable("jobs.batch")
	default:
		return r.scaleOfAny(ctx, namespace, owner)
	}
	return checked(uid, replicas, owner, err)
}

// unscalable is the error, in upstream's words, for Pods of a kind that no number of
// replicas is said of: budgets of these need an integer in minAvailable.
func unscalable(resource string) error {
	return fmt.Errorf("%s does not implement the scale subresource", resource)
}

func (r *Reconciler) scaleOfDeployment(ctx context.Context, namespace string, owner *metav1.OwnerReference) (types.UID, int32, error) {
	deployment := &appsv1.Deployment{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: owner.Name}, deployment)
	return checked(deployment.UID, orOne(deployment.Spec.Replicas), owner, err)
}

// scaleOfAny asks for the scale subresource of a kind that Keelson does not have.
func (r *Reconciler) scaleOfAny(ctx context.Context, namespace string, owner *metav1.OwnerReference) (types.UID, int32, error) {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion(owner.APIVersion)
	object.SetKind(owner.Kind)
	object.SetNamespace(namespace)
	object.SetName(owner.Name)
	// The client takes an untyped scale for an untyped object alone.
	scale := &unstructured.Unstructured{}
	scale.SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("Scale"))
	if err := r.client.SubResource("scale").Get(ctx, object, scale); err != nil {
		return checked("", 0, owner, err)
	}
	replicas, _, err := unstructured.NestedInt64(scale.Object, "spec", "replicas")
	return checked(scale.GetUID(), int32(replicas), owner, err)
}

// checked leaves out an owner that is gone, or that is another one of the same name.
func checked(uid types.UID, replicas int32, owner *metav1.OwnerReference, err error) (types.UID, int32, error) {
	switch {
	case apierrors.IsNotFound(err), err == nil && uid != owner.UID:
		return "", 0, nil
	case err != nil:
		return "", 0, fmt.Errorf("read the scale of %s %s: %w", owner.Kind, owner.Name, err)
	}
	return uid, replicas, nil
}

func is(owner *metav1.OwnerReference, group, kind string) bool {
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	return err == nil && gv.Group == group && owner.Kind == kind
}

func orOne(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}
