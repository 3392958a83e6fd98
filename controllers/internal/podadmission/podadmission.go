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
	addDefaultTolerations(&pod.Spec)
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

// defaultTolerationSeconds is how long a Pod that says nothing stays on a node that is
// not ready or silent; upstream's default.
const defaultTolerationSeconds = 300

// addDefaultTolerations lets Pods that say nothing stay for a while on a node in trouble,
// as upstream's DefaultTolerationSeconds plugin.
func addDefaultTolerations(spec *corev1.PodSpec) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		said := slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool {
			return (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
		})
		if !said {
			spec.Tolerations = append(spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(defaultTolerationSeconds)),
			})
		}
	}
}

// holdBoundPod sets the finalizer that goes with spec.nodeName. A Pod that nobody
// has bound yet must not have it: no agent would ever remove it.
func holdBoundPod(pod *keelsonv1.Pod) {
	if pod.Spec.NodeName != "" && !slices.Contains(pod.Finalizers, keelsonv1.PodFinalizer) {
		pod.Finalizers = append(slices.Clone(pod.Finalizers), keelsonv1.PodFinalizer)
	}
}
