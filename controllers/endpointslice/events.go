package endpointslice

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Reasons of the events on a Service. The first is upstream's; the library adds those
// about hints.
const (
	ReasonFailedToUpdate = "FailedToUpdateEndpointSlices"
	// ReasonNoMatchingPods tells of a selector that selects nothing.
	ReasonNoMatchingPods = "NoMatchingPods"

	actionSync = "SyncEndpointSlices"
	// maxError keeps the note below the limit of events.k8s.io/v1 (1024 bytes), the
	// longest namespace and name included.
	maxError = 600
)

func recordUpdateFailed(r events.EventRecorder, service *keelsonv1.Service, err error) {
	r.Eventf(service, nil, corev1.EventTypeWarning, ReasonFailedToUpdate, actionSync,
		"Error updating Endpoint Slices for Service %s/%s: %.*s", service.Namespace, service.Name, maxError, err.Error())
}

func recordNoPods(r events.EventRecorder, service *keelsonv1.Service) {
	r.Eventf(service, nil, corev1.EventTypeNormal, ReasonNoMatchingPods, actionSync,
		"No Pod of namespace %s has the labels of the selector, %.*s: the Service has no endpoints",
		service.Namespace, maxError, labels.Set(service.Spec.Selector).String())
}

// recorder takes the library's events to our Service. The library calls Event only.
type recorder struct {
	record.EventRecorder

	events  events.EventRecorder
	service *keelsonv1.Service
}

// Event implements record.EventRecorder.
func (r *recorder) Event(_ runtime.Object, eventType, reason, message string) {
	r.events.Eventf(r.service, nil, eventType, reason, actionSync, "%s", message)
}
