package replicaset

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// siblingIndex finds the ReplicaSets that one object controls, by its UID.
const siblingIndex = "replicaset.controller"

func indexSiblings(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &appsv1.ReplicaSet{}, siblingIndex, func(obj client.Object) []string {
		if controller := metav1.GetControllerOfNoCopy(obj); controller != nil {
			return []string{string(controller.UID)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("failed to index ReplicaSets by their owner: %w", err)
	}
	return nil
}

// podsOfSiblings returns the Pods of the ReplicaSets that have the controller of rs.
func podsOfSiblings(ctx context.Context, reader client.Reader, rs *appsv1.ReplicaSet) ([]*keelsonv1.Pod, error) {
	controller := metav1.GetControllerOfNoCopy(rs)
	if controller == nil {
		return nil, nil
	}
	var siblings appsv1.ReplicaSetList
	err := reader.List(ctx, &siblings, client.InNamespace(rs.Namespace), client.MatchingFields{siblingIndex: string(controller.UID)},
		client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		return nil, fmt.Errorf("failed to list the other ReplicaSets of %s %s: %w", controller.Kind, controller.Name, err)
	}
	var pods []*keelsonv1.Pod
	for i := range siblings.Items {
		if siblings.Items[i].UID == rs.UID {
			continue
		}
		of, err := podcontrol.ListOwned(ctx, reader, podcontrol.Owner{Object: &siblings.Items[i], Kind: kind})
		if err != nil {
			return nil, err
		}
		pods = append(pods, of...)
	}
	return pods, nil
}
