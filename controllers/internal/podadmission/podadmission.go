// Package podadmission completes a Pod whose spec carries the defaults of a Pod
// template already: what upstream adds to a Pod but not to a template (requests
// from limits, host ports), what its admission plugins (ServiceAccount, Priority,
// DefaultTolerationSeconds) would make of it in the Pod's own namespace, and what
// Keelson adds itself.
//
// Both ways into the API use it: the admission webhook for Pods that people
// create, and the replica engine for Pods made from an admitted template, which
// skip the webhook. It does no IO, never refuses anything, and keeps what the Pod
// says; running it twice changes nothing more.
package podadmission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/support"
)

// DefaultServiceAccount is the account of a Pod that names none.
const DefaultServiceAccount = "default"

// minGracePeriodSeconds stands in for a negative grace period.
const minGracePeriodSeconds = 1

// Default completes pod. What pod shares with a template stays as it is: the spec
// is copied first.
func Default(pod *keelsonv1.Pod) {
	pod.Spec = *pod.Spec.DeepCopy()
	defaultPodOnly(&pod.Spec)
	if !mirror(pod) {
		defaultServiceAccount(&pod.Spec)
	}
	dropDefaultTolerations(&pod.Spec)
	holdBoundPod(pod)
}

// defaultPodOnly sets what upstream's defaulting sets in a Pod but, for historical
// reasons, not in a template.
func defaultPodOnly(spec *corev1.PodSpec) {
	if grace := spec.TerminationGracePeriodSeconds; grace != nil && *grace < 0 {
		spec.TerminationGracePeriodSeconds = new(int64(minGracePeriodSeconds))
	}
	if spec.EnableServiceLinks == nil {
		spec.EnableServiceLinks = new(true)
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		c.Resources.Requests = requestsFromLimits(c.Resources)
		for j := range c.Ports {
			if spec.HostNetwork && c.Ports[j].HostPort == 0 {
				c.Ports[j].HostPort = c.Ports[j].ContainerPort
			}
		}
	}
}

// requestsFromLimits requests the limit of every resource that has no request.
func requestsFromLimits(resources corev1.ResourceRequirements) corev1.ResourceList {
	requests := resources.Requests
	for name, limit := range resources.Limits {
		if _, ok := requests[name]; ok {
			continue
		}
		if requests == nil {
			requests = corev1.ResourceList{}
		}
		requests[name] = limit.DeepCopy()
	}
	return requests
}

// defaultServiceAccount keeps the two names of the field equal, as upstream does.
func defaultServiceAccount(spec *corev1.PodSpec) {
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = spec.DeprecatedServiceAccount
	}
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = DefaultServiceAccount
	}
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
}

// dropDefaultTolerations removes the two tolerations that upstream adds to every
// Pod. Nothing evicts by taint yet, and a toleration that says "for 300 s" must
// not stand in a Pod that will stay for ever.
func dropDefaultTolerations(spec *corev1.PodSpec) {
	var kept []corev1.Toleration
	for _, t := range spec.Tolerations {
		if !support.IsDefaultToleration(t) {
			kept = append(kept, t)
		}
	}
	spec.Tolerations = kept
}

// holdBoundPod sets the finalizer that goes with spec.nodeName. A Pod that nobody
// has bound yet must not have it: no agent would ever remove it.
func holdBoundPod(pod *keelsonv1.Pod) {
	if pod.Spec.NodeName != "" && !slices.Contains(pod.Finalizers, keelsonv1.PodFinalizer) {
		pod.Finalizers = append(slices.Clone(pod.Finalizers), keelsonv1.PodFinalizer)
	}
}
