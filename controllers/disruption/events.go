package disruption

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
)

// Reasons of the events are upstream's.
const (
	reasonNoPods            = "NoPods"
	reasonUnmanaged         = "UnmanagedPods"
	reasonCalculationFailed = "CalculateExpectedPodCountFailed"
	reasonNotDeleted        = "NotDeleted"

	actionSync = "SyncBudget"
)

func recordNoPods(r events.EventRecorder, budget *policyv1.PodDisruptionBudget) {
	r.Eventf(budget, nil, corev1.EventTypeNormal, reasonNoPods, actionSync, "No matching pods found")
}

func recordUnmanaged(r events.EventRecorder, budget *policyv1.PodDisruptionBudget) {
	r.Eventf(budget, nil, corev1.EventTypeWarning, reasonUnmanaged, actionSync,
		"Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
		budget.Spec.Selector)
}

// recordNotDeleted is about a Pod whose eviction was granted, and that nobody deleted.
func recordNotDeleted(r events.EventRecorder, budget *policyv1.PodDisruptionBudget, pod *keelsonv1.Pod) {
	r.Eventf(pod, budget, corev1.EventTypeWarning, reasonNotDeleted, actionSync,
		"Pod was expected by PDB %s/%s to be deleted but it wasn't", budget.Namespace, budget.Name)
}

func recordFailed(r events.EventRecorder, budget *policyv1.PodDisruptionBudget, err error) {
	r.Eventf(budget, nil, corev1.EventTypeWarning, reasonCalculationFailed, actionSync, "Failed to calculate the number of expected pods: %v", err)
}
