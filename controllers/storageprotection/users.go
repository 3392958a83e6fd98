package storageprotection

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// classIndex finds volumes and claims by the names of their VolumeAttributesClasses.
const classIndex = "storageprotection.class"

// users finds who uses an object.
type users struct {
	client client.Client
	// live asks the API server itself.
	live client.Reader
}

func addIndexes(mgr ctrl.Manager) error {
	for _, o := range []client.Object{&corev1.PersistentVolume{}, &corev1.PersistentVolumeClaim{}} {
		if err := mgr.GetFieldIndexer().IndexField(context.Background(), o, classIndex, classNames); err != nil {
			return fmt.Errorf("failed to index %T: %w", o, err)
		}
	}
	return nil
}

// ofClaim is a Pod that uses the claim. First the cache, for what it costs; then the API
// server.
func (u users) ofClaim(ctx context.Context, claim client.Object) (string, error) {
	for _, reader := range []client.Reader{u.client, u.live} {
		var pods keelsonv1.PodList
		if err := reader.List(ctx, &pods, client.InNamespace(claim.GetNamespace())); err != nil {
			return "", fmt.Errorf("list Pods: %w", err)
		}
		for i := range pods.Items {
			if podUses(&pods.Items[i], claim.GetName()) {
				return "Pod " + pods.Items[i].Name, nil
			}
		}
	}
	return "", nil
}

// podUses tells whether the claim may be mounted for pod. A Pod without a node will not
// get a claim that is deleted.
func podUses(pod *keelsonv1.Pod, claim string) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	for name := range claimNames(pod) {
		if name == claim {
			return true
		}
	}
	return false
}

// volumeUsed goes by what binds volumes, as upstream.
func volumeUsed(_ context.Context, o client.Object) (string, error) {
	volume, isVolume := o.(*corev1.PersistentVolume)
	if !isVolume || volume.Status.Phase != corev1.VolumeBound {
		return "", nil
	}
	if volume.Spec.ClaimRef == nil {
		return "a claim", nil
	}
	return fmt.Sprintf("PersistentVolumeClaim %s/%s", volume.Spec.ClaimRef.Namespace, volume.Spec.ClaimRef.Name), nil
}

func (u users) ofClass(ctx context.Context, class client.Object) (string, error) {
	named := client.MatchingFields{classIndex: class.GetName()}
	var volumes corev1.PersistentVolumeList
	if err := u.client.List(ctx, &volumes, named, client.Limit(1)); err != nil {
		return "", fmt.Errorf("list PersistentVolumes: %w", err)
	}
	if len(volumes.Items) > 0 {
		return "PersistentVolume " + volumes.Items[0].Name, nil
	}
	var claims corev1.PersistentVolumeClaimList
	if err := u.client.List(ctx, &claims, named, client.Limit(1)); err != nil {
		return "", fmt.Errorf("list PersistentVolumeClaims: %w", err)
	}
	if len(claims.Items) > 0 {
		return "PersistentVolumeClaim " + client.ObjectKeyFromObject(&claims.Items[0]).String(), nil
	}
	return "", nil
}

// claimNames are the claims that pod names, its own generic ephemeral ones included.
func claimNames(pod *keelsonv1.Pod) map[string]struct{} {
	names := map[string]struct{}{}
	for i := range pod.Spec.Volumes {
		switch volume := &pod.Spec.Volumes[i]; {
		case volume.PersistentVolumeClaim != nil:
			names[volume.PersistentVolumeClaim.ClaimName] = struct{}{}
		case volume.Ephemeral != nil:
			names[pod.Name+"-"+volume.Name] = struct{}{}
		}
	}
	return names
}

// claimsOf queues the claims of a Pod.
func claimsOf(_ context.Context, o client.Object) []reconcile.Request {
	pod, isPod := o.(*keelsonv1.Pod)
	if !isPod {
		return nil
	}
	var requests []reconcile.Request
	for name := range claimNames(pod) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: pod.Namespace, Name: name}})
	}
	return requests
}

// classNames are the VolumeAttributesClasses that a volume or a claim has, wants or is
// being changed to.
func classNames(o client.Object) []string {
	set := map[string]struct{}{}
	add := func(name *string) {
		if name != nil && *name != "" {
			set[*name] = struct{}{}
		}
	}
	switch o := o.(type) {
	case *corev1.PersistentVolume:
		add(o.Spec.VolumeAttributesClassName)
	case *corev1.PersistentVolumeClaim:
		add(o.Spec.VolumeAttributesClassName)
		add(o.Status.CurrentVolumeAttributesClassName)
		if status := o.Status.ModifyVolumeStatus; status != nil {
			add(&status.TargetVolumeAttributesClassName)
		}
	}
	var names []string
	for name := range set {
		names = append(names, name)
	}
	return names
}

// classesOf queues the classes that o names, or named before a change.
func classesOf(_ context.Context, o client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range classNames(o) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	}
	return requests
}
