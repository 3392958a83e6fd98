package node

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Note is an event about the Node that the API is to hear of.
type Note struct {
	// Type is corev1.EventTypeNormal or Warning; Reason and Message are upstream's.
	Type, Reason, Message string
}

// transition has the reasons of upstream's kubelet for a condition that became true, or
// ended.
type transition struct {
	kind          corev1.NodeConditionType
	became, ended string
}

func transitions() []transition {
	return []transition{
		{corev1.NodeReady, "NodeReady", "NodeNotReady"},
		{corev1.NodeMemoryPressure, "NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
		{corev1.NodeDiskPressure, "NodeHasDiskPressure", "NodeHasNoDiskPressure"},
		{corev1.NodePIDPressure, "NodeHasInsufficientPID", "NodeHasSufficientPID"},
	}
}

// computeNotes tells what has changed between two states of a Node that this agent wrote,
// or found. A Node that had no conditions at all is a new one: upstream says of it what
// does not run short, and not that it is ready or not.
func computeNotes(before, after *keelsonv1.Node) []Note {
	var notes []Note
	add := func(eventType, reason, format string, args ...any) {
		notes = append(notes, Note{eventType, reason, fmt.Sprintf(format, args...)})
	}
	if was, is := before.Status.NodeInfo.BootID, after.Status.NodeInfo.BootID; was != "" && was != is {
		add(corev1.EventTypeWarning, "Rebooted", "Node %s has been rebooted, boot id: %s", after.Name, is)
	}
	for _, t := range transitions() {
		was, is := conditionStatus(before, t.kind), conditionStatus(after, t.kind)
		if was == is || is == "" || (was == "" && t.kind == corev1.NodeReady) {
			continue
		}
		reason := t.ended
		if is == corev1.ConditionTrue {
			reason = t.became
		}
		add(corev1.EventTypeNormal, reason, "Node %s status is now: %s", after.Name, reason)
	}
	return notes
}

// computeCordonNote tells that somebody has taken the Node away from the scheduler, or
// given it back.
func computeCordonNote(before, after *keelsonv1.Node) (Note, bool) {
	if before == nil || after == nil || before.UID != after.UID || before.Spec.Unschedulable == after.Spec.Unschedulable {
		return Note{}, false
	}
	reason := "NodeSchedulable"
	if after.Spec.Unschedulable {
		reason = "NodeNotSchedulable"
	}
	return Note{corev1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", after.Name, reason)}, true
}

func conditionStatus(n *keelsonv1.Node, kind corev1.NodeConditionType) corev1.ConditionStatus {
	i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == kind })
	if i < 0 {
		return ""
	}
	return n.Status.Conditions[i].Status
}
