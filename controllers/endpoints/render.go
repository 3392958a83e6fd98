package endpoints

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

const (
	// maxAddresses is upstream's limit for one Endpoints object.
	maxAddresses = 1000
	truncated    = "truncated"

	// ManagedByLabel marks the objects that this controller writes, with upstream's
	// key and value.
	ManagedByLabel = "endpoints.kubernetes.io/managed-by"
	managedByValue = "endpoint-controller"
)

// renderEndpoints returns current (empty, when there is none) as it should be for
// service. Annotations of others stay; labels become those of the Service.
func renderEndpoints(service *keelsonv1.Service, current *keelsonv1.Endpoints, subsets []corev1.EndpointSubset) *keelsonv1.Endpoints {
	wanted := current.DeepCopy()
	wanted.Name, wanted.Namespace = service.Name, service.Namespace
	wanted.Labels = endpointsLabels(service)

	subsets, cut := truncateSubsets(subsets)
	if cut {
		if wanted.Annotations == nil {
			wanted.Annotations = map[string]string{}
		}
		wanted.Annotations[corev1.EndpointsOverCapacity] = truncated
	} else {
		delete(wanted.Annotations, corev1.EndpointsOverCapacity)
	}
	wanted.Subsets = subsets
	wanted.Status.Summary = summary.Endpoints(subsets)
	return wanted
}

func endpointsLabels(service *keelsonv1.Service) map[string]string {
	labels := maps.Clone(service.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	delete(labels, corev1.IsHeadlessService)
	// A Service without an address yet is about to get one.
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	}
	labels[ManagedByLabel] = managedByValue
	return labels
}

func isManaged(labels map[string]string) bool { return labels[ManagedByLabel] == managedByValue }

func endpointsEqual(a, b *keelsonv1.Endpoints) bool {
	return equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.Subsets, b.Subsets) &&
		a.Status == b.Status
}

// truncateSubsets keeps at most maxAddresses: ready ones first, each subset in
// proportion to its size. It may change the elements of subsets.
func truncateSubsets(subsets []corev1.EndpointSubset) (kept []corev1.EndpointSubset, cut bool) {
	ready, notReady := 0, 0
	for i := range subsets {
		ready += len(subsets[i].Addresses)
		notReady += len(subsets[i].NotReadyAddresses)
	}
	if ready+notReady <= maxAddresses {
		return subsets, false
	}
	readyShare := newShare(ready, maxAddresses)
	notReadyShare := newShare(notReady, max(0, maxAddresses-ready))
	for i := range subsets {
		s := &subsets[i]
		s.Addresses = s.Addresses[:readyShare.take(len(s.Addresses))]
		s.NotReadyAddresses = s.NotReadyAddresses[:notReadyShare.take(len(s.NotReadyAddresses))]
	}
	return subsets, true
}

// share divides room among groups in proportion to their sizes, rounding up, so that
// the last groups may get a little less.
type share struct{ total, room, left int }

func newShare(total, room int) share { return share{total: total, room: room, left: room} }

func (s *share) take(size int) int {
	if s.total <= s.room {
		return size
	}
	n := min((size*s.room+s.total-1)/s.total, s.left)
	s.left -= n
	return n
}
