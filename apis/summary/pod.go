package summary

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	reasonCompleted    = "Completed"
	reasonRunning      = "Running"
	reasonNotReady     = "NotReady"
	reasonTerminating  = "Terminating"
	reasonUnknown      = "Unknown"
	reasonInitializing = "PodInitializing"
	// reasonNodeLost is the status.reason of a Pod whose node stopped reporting.
	reasonNodeLost = "NodeLost"
)

// Pod returns the READY, STATUS, RESTARTS and READINESS GATES columns of pod.
func Pod(pod *keelsonv1.Pod) keelsonv1.PodSummary {
	spec, status := &pod.Spec, &pod.Status.PodStatus

	init := initStage(spec, status)
	reason := baseReason(status)
	ready, restarts, last := init.ready, init.restarts, init.last
	if init.reason != "" {
		reason = init.reason
	}
	if init.reason == "" || hasCondition(status, corev1.PodInitialized, corev1.ConditionTrue) {
		main := mainStage(status, reason)
		reason = main.reason
		ready += main.ready
		// Restarts of ordinary init containers stop counting once they are over.
		restarts, last = init.sidecarRestarts+main.restarts, later(init.sidecarLast, main.last)
	}
	if restarts == 0 {
		last = nil
	}
	return keelsonv1.PodSummary{
		Ready:          fmt.Sprintf("%d/%d", ready, len(spec.Containers)+sidecars(spec)),
		Status:         deletionReason(pod, reason),
		Restarts:       restarts,
		LastRestart:    last,
		ReadinessGates: readinessGates(spec, status),
	}
}

// stage is what one group of containers adds to the columns.
type stage struct {
	reason          string
	ready           int
	restarts        int32
	sidecarRestarts int32
	// last is when a container ended last that has been started again, nil when none has.
	last, sidecarLast *metav1.Time
}

// later returns the later of two times, nil when there is none.
func later(a, b *metav1.Time) *metav1.Time {
	if a.Before(b) || a == nil {
		return b
	}
	return a
}

func lastEnd(c *corev1.ContainerStatus) *metav1.Time {
	if t := c.LastTerminationState.Terminated; t != nil && !t.FinishedAt.IsZero() {
		return new(t.FinishedAt)
	}
	return nil
}

func baseReason(status *corev1.PodStatus) string {
	for _, c := range status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			return corev1.PodReasonSchedulingGated
		}
	}
	if status.Reason != "" {
		return status.Reason
	}
	return string(status.Phase)
}

// initStage walks the init containers up to the first that is not done. Its
// reason is empty when all of them are.
func initStage(spec *corev1.PodSpec, status *corev1.PodStatus) stage {
	var s stage
	for i := range status.InitContainerStatuses {
		c := &status.InitContainerStatuses[i]
		sidecar := isSidecar(spec, c.Name)
		s.restarts += c.RestartCount
		s.last = later(s.last, lastEnd(c))
		if sidecar {
			s.sidecarRestarts += c.RestartCount
			s.sidecarLast = later(s.sidecarLast, lastEnd(c))
		}
		if t := c.State.Terminated; t != nil && t.ExitCode == 0 {
			continue
		}
		if sidecar && c.Started != nil && *c.Started {
			if c.Ready {
				s.ready++
			}
			continue
		}
		s.reason = "Init:" + initReason(c, i, len(spec.InitContainers))
		return s
	}
	return s
}

func initReason(c *corev1.ContainerStatus, index, all int) string {
	if t := c.State.Terminated; t != nil {
		return terminatedReason(t)
	}
	if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != reasonInitializing {
		return w.Reason
	}
	return fmt.Sprintf("%d/%d", index, all)
}

// mainStage lets the first container in spec order that has something to say
// decide; fallback stands when none has.
func mainStage(status *corev1.PodStatus, fallback string) stage {
	s := stage{reason: fallback}
	failure, running := "", false
	for _, c := range slices.Backward(status.ContainerStatuses) {
		s.restarts += c.RestartCount
		s.last = later(s.last, lastEnd(&c))
		switch w, t := c.State.Waiting, c.State.Terminated; {
		case w != nil && w.Reason != "":
			s.reason = w.Reason
		case t != nil:
			s.reason = terminatedReason(t)
			if t.ExitCode != 0 {
				failure = s.reason
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason == reasonCompleted {
		s.reason = mixedReason(status, running, failure)
	}
	return s
}

// mixedReason is for a Pod whose deciding container completed: the others may
// still run or may have failed.
func mixedReason(status *corev1.PodStatus, running bool, failure string) string {
	switch {
	case running && hasCondition(status, corev1.PodReady, corev1.ConditionTrue):
		return reasonRunning
	case failure != "":
		return failure
	case running:
		return reasonNotReady
	default:
		return reasonCompleted
	}
}

func terminatedReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	default:
		return fmt.Sprintf("ExitCode:%d", t.ExitCode)
	}
}

func deletionReason(pod *keelsonv1.Pod, reason string) string {
	if pod.DeletionTimestamp.IsZero() {
		return reason
	}
	if pod.Status.Reason == reasonNodeLost {
		return reasonUnknown
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return reason
	}
	return reasonTerminating
}

func readinessGates(spec *corev1.PodSpec, status *corev1.PodStatus) string {
	if len(spec.ReadinessGates) == 0 {
		return ""
	}
	open := 0
	for _, gate := range spec.ReadinessGates {
		if hasCondition(status, gate.ConditionType, corev1.ConditionTrue) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(spec.ReadinessGates))
}

func hasCondition(status *corev1.PodStatus, kind corev1.PodConditionType, want corev1.ConditionStatus) bool {
	i := slices.IndexFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	return i >= 0 && status.Conditions[i].Status == want
}

// sidecars counts init containers that keep running beside the main ones.
func sidecars(spec *corev1.PodSpec) int {
	n := 0
	for i := range spec.InitContainers {
		if restartsAlways(&spec.InitContainers[i]) {
			n++
		}
	}
	return n
}

func isSidecar(spec *corev1.PodSpec, name string) bool {
	return slices.ContainsFunc(spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && restartsAlways(&c)
	})
}

func restartsAlways(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
