package service

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Reasons of the events on a Service; they are those of upstream's repair loops.
const (
	ReasonClusterIPNotValid         = "ClusterIPNotValid"
	ReasonClusterIPOutOfRange       = "ClusterIPOutOfRange"
	ReasonClusterIPAlreadyAllocated = "ClusterIPAlreadyAllocated"
	ReasonServiceCIDRFull           = "ServiceCIDRFull"
	// ReasonFamilyNotConfigured is Keelson's own: a range was taken away.
	ReasonFamilyNotConfigured  = "IPFamilyNotConfigured"
	ReasonPortOutOfRange       = "PortOutOfRange"
	ReasonPortAlreadyAllocated = "PortAlreadyAllocated"
	ReasonPortRangeFull        = "PortRangeFull"

	actionAddress = "ClusterIPAllocation"
	actionPort    = "PortAllocation"
)

// note is a warning that a plan has for the user.
type note struct{ reason, action, text string }

func record(r events.EventRecorder, service *keelsonv1.Service, notes []note) {
	for _, n := range notes {
		r.Eventf(service, nil, corev1.EventTypeWarning, n.reason, n.action, "%s", n.text)
	}
}
