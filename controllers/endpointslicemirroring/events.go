package endpointslicemirroring

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Reasons of the events on Endpoints; they are upstream's.
const (
	ReasonInvalidIP = "InvalidIPAddress"
	ReasonTooMany   = "TooManyAddressesToMirror"

	actionMirror = "MirrorEndpoints"
)

func recordSkipped(r events.EventRecorder, endpoints *keelsonv1.Endpoints, s skipped) {
	if s.invalid > 0 {
		r.Eventf(endpoints, nil, corev1.EventTypeWarning, ReasonInvalidIP, actionMirror,
			"Skipped %d invalid IP addresses when mirroring to EndpointSlices", s.invalid)
	}
	if s.tooMany > 0 {
		r.Eventf(endpoints, nil, corev1.EventTypeWarning, ReasonTooMany, actionMirror,
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxAddresses, s.tooMany)
	}
}
