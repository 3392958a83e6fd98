package loadbalancer

import (
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Reasons of the events on a Service; but for the last they are those of upstream's
// service controller.
const (
	reasonEnsuring = "EnsuringLoadBalancer"
	reasonEnsured  = "EnsuredLoadBalancer"
	reasonDeleting = "DeletingLoadBalancer"
	reasonDeleted  = "DeletedLoadBalancer"
	// ReasonFailed comes with what is wrong.
	ReasonFailed = "SyncLoadBalancerFailed"
	// ReasonOff is Keelson's own: there is nobody to give the Service an address.
	ReasonOff = "LoadBalancerPoolNotConfigured"

	action = "LoadBalancerAllocation"
)

func (r *Reconciler) event(service *keelsonv1.Service, reason, text string) {
	r.recorder.Eventf(service, nil, corev1.EventTypeNormal, reason, action, "%s", text)
}

func (r *Reconciler) warn(service *keelsonv1.Service, text string) {
	r.recorder.Eventf(service, nil, corev1.EventTypeWarning, ReasonFailed, action, "%s", text)
}

// tellOff says how to get what the Service waits for, once it has its other addresses.
// Another implementation may serve it, and has done so when there is an address.
func (r *Reconciler) tellOff(service *keelsonv1.Service) {
	if service.Spec.ClusterIP == "" || len(service.Status.LoadBalancer.Ingress) > 0 {
		return
	}
	r.recorder.Eventf(service, nil, corev1.EventTypeNormal, ReasonOff, action,
		"This cluster has no addresses for load balancers, so the external IP stays pending: start it with --load-balancer-pool (keelson up, keelson-manager and keelson-node), or use type NodePort")
}
