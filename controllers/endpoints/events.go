package endpoints

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Reasons of the events on a Service; they are upstream's.
const (
	ReasonFailedToCreate = "FailedToCreateEndpoint"
	ReasonFailedToUpdate = "FailedToUpdateEndpoint"

	actionSync = "SyncEndpoints"
	// maxError keeps the note below the limit of events.k8s.io/v1 (1024 bytes), the
	// longest namespace and name included.
	maxError = 600
)

func recordCreateFailed(r events.EventRecorder, service *keelsonv1.Service, err error) {
	r.Eventf(service, nil, corev1.EventTypeWarning, ReasonFailedToCreate, actionSync,
		"Failed to create endpoint for service %s/%s: %.*s", service.Namespace, service.Name, maxError, err.Error())
}

func recordUpdateFailed(r events.EventRecorder, service *keelsonv1.Service, err error) {
	r.Eventf(service, nil, corev1.EventTypeWarning, ReasonFailedToUpdate, actionSync,
		"Failed to update endpoint %s/%s: %.*s", service.Namespace, service.Name, maxError, err.Error())
}
