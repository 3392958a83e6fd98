package namespace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fine is each condition of a deletion without trouble, in the order of upstream.
// Types, reasons and messages are upstream's, which tools match on.
func fine() []corev1.NamespaceCondition {
	return []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: corev1.NamespaceFinalizersRemaining, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
}

// computeConditions returns all conditions for what a round found.
func computeConditions(found content) []corev1.NamespaceCondition {
	conditions := fine()
	fail := func(of corev1.NamespaceConditionType, reason, message string) {
		for i := range conditions {
			if conditions[i].Type == of {
				conditions[i].Status, conditions[i].Reason, conditions[i].Message = corev1.ConditionTrue, reason, message
			}
		}
	}
	for i := range conditions {
		conditions[i].Status = corev1.ConditionFalse
	}
	switch {
	case found.discovery != nil:
		fail(corev1.NamespaceDeletionDiscoveryFailure, "DiscoveryFailed", found.discovery.Error())
	case len(found.undiscovered) > 0:
		fail(corev1.NamespaceDeletionDiscoveryFailure, "DiscoveryFailed",
			fmt.Sprintf("Discovery failed for some groups, %d failing: %v", len(found.undiscovered), found.undiscovered))
	}
	if len(found.deletion) > 0 {
		var messages []string
		for _, err := range found.deletion {
			messages = append(messages, err.Error())
		}
		slices.Sort(messages)
		fail(corev1.NamespaceDeletionContentFailure, "ContentDeletionFailed",
			fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", len(messages), strings.Join(messages, ", ")))
	}
	if len(found.objects) > 0 {
		fail(corev1.NamespaceContentRemaining, "SomeResourcesRemain",
			"Some resources are remaining: "+counted(found.objects, "%s has %d resource instances"))
	}
	if len(found.finalizers) > 0 {
		fail(corev1.NamespaceFinalizersRemaining, "SomeFinalizersRemain",
			"Some content in the namespace has finalizers remaining: "+counted(found.finalizers, "%s in %d resource instances"))
	}
	return conditions
}

func counted(counts map[string]int, format string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf(format, key, counts[key]))
	}
	return strings.Join(parts, ", ")
}

// setConditions writes the wanted conditions over the present ones and tells
// whether anything changed.
func setConditions(status *corev1.NamespaceStatus, wanted []corev1.NamespaceCondition, now time.Time) bool {
	changed := false
	for _, want := range wanted {
		want.LastTransitionTime = metav1.NewTime(now)
		at := slices.IndexFunc(status.Conditions, func(c corev1.NamespaceCondition) bool { return c.Type == want.Type })
		if at < 0 {
			status.Conditions = append(status.Conditions, want)
			changed = true
			continue
		}
		present := status.Conditions[at]
		if present.Status == want.Status {
			want.LastTransitionTime = present.LastTransitionTime
		}
		if present != want {
			status.Conditions[at] = want
			changed = true
		}
	}
	return changed
}
