package service

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// extraSlicesManager labels the slices beside the first one, to find them when they are no
// longer wanted. Upstream has the first one only, without such a label.
const extraSlicesManager = "service.keelson.dev"

// syncKubernetesSlices keeps the slices that say the same as the Endpoints.
func (r *Reconciler) syncKubernetesSlices(ctx context.Context, server apiServer) error {
	wanted := map[string]bool{}
	for _, slice := range renderKubernetesSlices(server) {
		wanted[slice.Name] = true
		if err := r.syncKubernetesSlice(ctx, slice); err != nil {
			return fmt.Errorf("failed to keep EndpointSlice %s: %w", klog.KObj(slice), err)
		}
	}
	var list discoveryv1.EndpointSliceList
	err := r.client.List(ctx, &list, client.InNamespace(kubernetesKey.Namespace), client.MatchingLabels{
		upstreamdiscoveryv1.LabelManagedBy: extraSlicesManager, upstreamdiscoveryv1.LabelServiceName: kubernetesKey.Name,
	})
	if err != nil {
		return fmt.Errorf("failed to list EndpointSlices: %w", err)
	}
	for i := range list.Items {
		if slice := &list.Items[i]; !wanted[slice.Name] {
			if err := r.client.Delete(ctx, slice); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("failed to delete EndpointSlice %s: %w", klog.KObj(slice), err)
			}
		}
	}
	return nil
}

func (r *Reconciler) syncKubernetesSlice(ctx context.Context, wanted *discoveryv1.EndpointSlice) error {
	current := &discoveryv1.EndpointSlice{}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(wanted), current)
	if apierrors.IsNotFound(err) {
		return r.client.Create(ctx, wanted)
	}
	if err != nil {
		return err
	}
	if current.AddressType != wanted.AddressType { // which cannot be changed
		if err := r.client.Delete(ctx, current); client.IgnoreNotFound(err) != nil {
			return err
		}
		return r.client.Create(ctx, wanted)
	}
	changed := current.DeepCopy()
	changed.Labels, changed.Endpoints, changed.Ports, changed.Status = wanted.Labels, wanted.Endpoints, wanted.Ports, wanted.Status
	if equality.Semantic.DeepEqual(current, changed) {
		return nil
	}
	klog.FromContext(ctx).V(2).Info("Restoring an EndpointSlice of the API server", "slice", klog.KObj(wanted))
	return r.client.Patch(ctx, changed, client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{}))
}

// renderKubernetesSlices returns one slice for each port, the first one with the name
// that upstream gives it.
func renderKubernetesSlices(server apiServer) []*discoveryv1.EndpointSlice {
	addressType := upstreamdiscoveryv1.AddressTypeIPv4
	if server.addresses[0].Addr().Is6() {
		addressType = upstreamdiscoveryv1.AddressTypeIPv6
	}
	var all []*discoveryv1.EndpointSlice
	for _, subset := range kubernetesSubsets(server) {
		port := subset.Ports[0]
		slice := &discoveryv1.EndpointSlice{AddressType: addressType}
		slice.Namespace, slice.Name = kubernetesKey.Namespace, kubernetesKey.Name
		slice.Labels = map[string]string{upstreamdiscoveryv1.LabelServiceName: kubernetesKey.Name}
		if len(all) > 0 {
			slice.Name = fmt.Sprintf("%s-%d", kubernetesKey.Name, port.Port)
			slice.Labels[upstreamdiscoveryv1.LabelManagedBy] = extraSlicesManager
		}
		slice.Ports = []upstreamdiscoveryv1.EndpointPort{{Name: new(port.Name), Port: new(port.Port), Protocol: new(corev1.ProtocolTCP)}}
		for _, address := range subset.Addresses {
			slice.Endpoints = append(slice.Endpoints, upstreamdiscoveryv1.Endpoint{
				Addresses:  []string{address.IP},
				Conditions: upstreamdiscoveryv1.EndpointConditions{Ready: new(true)},
			})
		}
		slice.Status.Summary = summary.EndpointSlice(slice.Ports, slice.Endpoints)
		all = append(all, slice)
	}
	return all
}
