package service

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// CacheOptions keeps all built-in EndpointSlices out of the manager's cache but those of
// default/kubernetes.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&upstreamdiscoveryv1.EndpointSlice{}: {
			Namespaces: map[string]cache.Config{kubernetesKey.Namespace: {}},
			Label:      labels.SelectorFromSet(labels.Set{upstreamdiscoveryv1.LabelServiceName: kubernetesKey.Name}),
		},
	}
}

// presentServers are the API servers that the Service leads to. Those that share an etcd
// know of each other by leases there, and write who is left into the built-in slices of
// default/kubernetes (kube-apiserver --endpoint-reconciler-type=lease).
func (r *Reconciler) presentServers(ctx context.Context) (apiServer, error) {
	if !r.registeredOnly {
		return r.apiServer, nil
	}
	var list upstreamdiscoveryv1.EndpointSliceList
	err := r.client.List(ctx, &list, client.InNamespace(kubernetesKey.Namespace), client.MatchingLabels{upstreamdiscoveryv1.LabelServiceName: kubernetesKey.Name})
	if err != nil {
		return apiServer{}, fmt.Errorf("failed to list what API servers have registered: %w", err)
	}
	return r.apiServer.present(list.Items), nil
}

// present keeps the endpoints on machines whose API server is in one of the slices. Where
// none is, all stay: that says more of the registration than of every API server, one of
// which has just answered.
func (s apiServer) present(registered []upstreamdiscoveryv1.EndpointSlice) apiServer {
	var there []netip.Addr
	for _, slice := range registered {
		for _, endpoint := range slice.Endpoints {
			if ready := endpoint.Conditions.Ready; ready != nil && !*ready {
				continue
			}
			for _, text := range endpoint.Addresses {
				if address, err := netip.ParseAddr(text); err == nil { // the API server has checked it
					there = append(there, address.Unmap())
				}
			}
		}
	}
	var left []netip.AddrPort
	for _, a := range s.addresses {
		if slices.Contains(there, a.Addr().Unmap()) {
			left = append(left, a)
		}
	}
	if len(left) == 0 {
		return s
	}
	return apiServer{addresses: left}
}
