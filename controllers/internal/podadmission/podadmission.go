// Package podadmission completes a Pod whose spec carries upstream's defaults
// already: what upstream's admission plugins (ServiceAccount, Priority,
// DefaultTolerationSeconds) would add for the Pod's own namespace, and what
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

// Default completes pod in place.
func Default(pod *keelsonv1.Pod) {
	defaultServiceAccount(&pod.Spec)
	defaultPriority(&pod.Spec)
	dropDefaultTolerations(&pod.Spec)
	holdBoundPod(pod)
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

func defaultPriority(spec *corev1.PodSpec) {
	if spec.Priority == nil {
		spec.Priority = new(int32(0))
	}
	if spec.PreemptionPolicy == nil {
		spec.PreemptionPolicy = new(corev1.PreemptLowerPriority)
	}
}

// dropDefaultTolerations removes the two tolerations that upstream adds to every
// Pod. Nothing evicts by taint yet, and a toleration that says "for 300 s" must
// not stand in a Pod that will stay for ever. The list is copied: a Pod may share
// it with the template that it was made from.
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
