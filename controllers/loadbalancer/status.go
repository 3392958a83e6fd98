package loadbalancer

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// LeaseName is the name of the Lease of the node that announces an address.
func LeaseName(addr netip.Addr) string {
	return keelsonv1.LoadBalancerLeasePrefix + strings.ReplaceAll(addr.StringExpanded(), ":", "-")
}

func conditionOf(service *keelsonv1.Service) *metav1.Condition {
	return meta.FindStatusCondition(service.Status.Conditions, ConditionType)
}

// renderStatus writes a plan into the status; changed is false when it says the same
// already.
func renderStatus(service *keelsonv1.Service, p *plan) (changed bool) {
	before := service.Status.DeepCopy()
	var ingress []corev1.LoadBalancerIngress
	texts := make([]string, 0, len(p.addresses))
	for _, addr := range p.addresses {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: addr.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)})
		texts = append(texts, addr.String())
	}
	service.Status.LoadBalancer.Ingress = ingress
	condition := metav1.Condition{
		Type: ConditionType, Status: metav1.ConditionTrue, ObservedGeneration: service.Generation,
		Reason: ReasonAllocated, Message: "has " + strings.Join(texts, ", ") + " of the pool",
	}
	if p.problem != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, p.problem.reason, p.problem.text
	}
	meta.SetStatusCondition(&service.Status.Conditions, condition)
	service.Status.Summary = summary.Service(service)
	return !equality.Semantic.DeepEqual(*before, service.Status)
}

// syncStatus writes the plan to the API once, and tells the user what is new in it.
func (r *Reconciler) syncStatus(ctx context.Context, service *keelsonv1.Service, p *plan) error {
	before := service.DeepCopy()
	if !renderStatus(service, p) {
		return nil
	}
	moved := !equality.Semantic.DeepEqual(before.Status.LoadBalancer, service.Status.LoadBalancer)
	if moved && len(p.addresses) > 0 {
		r.event(service, reasonEnsuring, "Ensuring load balancer")
	}
	if err := r.patchStatus(ctx, service, before); err != nil {
		return err
	}
	if moved && len(p.addresses) > 0 {
		r.event(service, reasonEnsured, "Ensured load balancer")
		klog.FromContext(ctx).V(2).Info("Gave addresses to a load balancer", "service", klog.KObj(service), "addresses", p.addresses)
	}
	if was := conditionOf(before); p.problem != nil && (was == nil || was.Message != p.problem.text) {
		r.warn(service, "Error syncing load balancer: failed to ensure load balancer: "+p.problem.text)
	}
	return nil
}

// clearStatus takes from the status what this package wrote.
func (r *Reconciler) clearStatus(ctx context.Context, service *keelsonv1.Service) error {
	before := service.DeepCopy()
	service.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	meta.RemoveStatusCondition(&service.Status.Conditions, ConditionType)
	service.Status.Summary = summary.Service(service)
	return r.patchStatus(ctx, service, before)
}

// patchStatus fails when somebody else has written meanwhile: lists are replaced.
func (r *Reconciler) patchStatus(ctx context.Context, service, before *keelsonv1.Service) error {
	err := r.client.Status().Patch(ctx, service, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}
