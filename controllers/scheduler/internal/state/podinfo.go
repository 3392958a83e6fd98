package state

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// PodInfo is a Pod with what plug-ins ask of it, computed once. It is never changed.
type PodInfo struct {
	Pod *keelsonv1.Pod

	// Requests is what it takes from its Node; Scored is the same with defaults for
	// containers that ask for nothing.
	Requests, Scored Amounts
	Ports            []HostPort
	// NodeAffinity is its node selector and required node affinity.
	NodeAffinity nodeaffinity.RequiredNodeAffinity
	affinityTerms

	labels labels.Set
}

// NewPodInfo keeps pod, which must not be changed afterwards.
func NewPodInfo(pod *keelsonv1.Pod) *PodInfo {
	upstream := pod.Upstream()
	info := &PodInfo{
		Pod:           pod,
		Scored:        scoredRequests(upstream),
		Ports:         hostPorts(&pod.Spec),
		NodeAffinity:  nodeaffinity.GetRequiredNodeAffinity(upstream),
		affinityTerms: newAffinityTerms(upstream),
		labels:        pod.Labels,
	}
	if pod.Spec.NodeName == "" {
		info.Requests = podRequests(upstream)
	} else {
		info.Requests = boundRequests(upstream)
	}
	return info
}

// Labels are the Pod's own.
func (p *PodInfo) Labels() labels.Set { return p.labels }

// Priority is 0 for a Pod without one.
func (p *PodInfo) Priority() int32 { return Priority(p.Pod) }

// Priority is 0 for a Pod without one.
func Priority(pod *keelsonv1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// IsTerminal tells whether the Pod has ended and holds no resources any more.
func IsTerminal(pod *keelsonv1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// WithStatusOf returns p as a newer version of the same Pod that differs in status and
// metadata only, in nothing that was computed.
func (p *PodInfo) WithStatusOf(pod *keelsonv1.Pod) *PodInfo {
	newer := *p
	newer.Pod = pod
	return &newer
}
