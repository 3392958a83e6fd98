package endpointslice

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

func addressTypes() []upstreamdiscoveryv1.AddressType {
	return []upstreamdiscoveryv1.AddressType{upstreamdiscoveryv1.AddressTypeIPv4, upstreamdiscoveryv1.AddressTypeIPv6}
}

// upstreamService is service as the library reads it. It takes defaults for granted that
// only admission writes.
func upstreamService(service *keelsonv1.Service) *corev1.Service {
	seen := service.Upstream()
	seen.Spec.Ports = slices.Clone(seen.Spec.Ports)
	for i := range seen.Spec.Ports {
		port := &seen.Spec.Ports[i]
		if port.Protocol == "" {
			port.Protocol = corev1.ProtocolTCP
		}
		if port.TargetPort == (intstr.IntOrString{}) {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
	}
	return seen
}

// upstreamSlice is slice as the library reads it: it knows its own by an owner of the
// built-in kind, and an empty one by being equal to a new one, whose kind is not filled in.
func upstreamSlice(slice *discoveryv1.EndpointSlice) *upstreamdiscoveryv1.EndpointSlice {
	seen := slice.Upstream()
	seen.TypeMeta = metav1.TypeMeta{}
	seen.OwnerReferences = renameOwners(slice.OwnerReferences, keelsonv1.GroupVersion.String(), corev1.SchemeGroupVersion.String())
	return seen
}

// renderSlice returns base (empty, when there is none) with what the library wants of it.
func renderSlice(base *discoveryv1.EndpointSlice, wanted *upstreamdiscoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	slice := base.DeepCopy()
	if slice.Name == "" {
		slice.GenerateName = wanted.GenerateName
	}
	slice.Namespace, slice.Labels, slice.Annotations = wanted.Namespace, wanted.Labels, wanted.Annotations
	slice.OwnerReferences = renameOwners(wanted.OwnerReferences, corev1.SchemeGroupVersion.String(), keelsonv1.GroupVersion.String())
	slice.AddressType, slice.Endpoints, slice.Ports = wanted.AddressType, wanted.Endpoints, wanted.Ports
	if slice.Endpoints == nil {
		slice.Endpoints = []upstreamdiscoveryv1.Endpoint{}
	}
	slice.Status.Summary = summary.EndpointSlice(slice.Ports, slice.Endpoints)
	return slice
}

// renameOwners returns a copy in which Services of group version from have the other one.
func renameOwners(owners []metav1.OwnerReference, from, to string) []metav1.OwnerReference {
	renamed := slices.Clone(owners)
	for i := range renamed {
		if renamed[i].Kind == "Service" && renamed[i].APIVersion == from {
			renamed[i].APIVersion = to
		}
	}
	return renamed
}

// topologyMode says whether service wants its endpoints shared out among zones.
func topologyMode(service *keelsonv1.Service) bool {
	_, mode := service.Annotations[corev1.AnnotationTopologyMode]
	_, deprecated := service.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	return mode || deprecated
}
