package eviction

import (
	"fmt"
	"slices"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/qos"
)

// systemCritical is the priority from which on a Pod is critical, as upstream.
const systemCritical = 2_000_000_000

// isCritical says that the Pod runs whatever the node is short of.
func (m *Manager) isCritical(pod *keelsonv1.Pod) bool {
	return m.Static != nil && m.Static(pod) || pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical
}

// Refuse says, in upstream's words, why a new Pod cannot run while the node is short of
// something; empty when it can.
func (m *Manager) Refuse(pod *keelsonv1.Pod) string {
	conditions := m.Conditions()
	if len(conditions) == 0 || m.isCritical(pod) {
		return ""
	}
	if slices.Equal(conditions, []corev1.NodeConditionType{corev1.NodeMemoryPressure}) {
		taint := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		if qos.Class(&pod.Spec) != corev1.PodQOSBestEffort ||
			schedulinghelpers.TolerationsTolerateTaint(logr.Discard(), pod.Spec.Tolerations, &taint, false) {
			return ""
		}
	}
	return fmt.Sprintf("The node had condition: %v. ", conditions)
}
