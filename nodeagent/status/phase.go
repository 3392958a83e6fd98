package status

import (
	corev1 "k8s.io/api/core/v1"
)

// counts are containers by what they do.
type counts struct {
	running, waiting, unknown int
	// ended are those whose last attempt ended and no other has started; final are the
	// ended that will not start again, succeeded those that show success.
	ended, final, succeeded int
}

func countContainers(spec *corev1.PodSpec, statuses []corev1.ContainerStatus) counts {
	var n counts
	for i := range spec.Containers {
		status := find(statuses, spec.Containers[i].Name)
		if status == nil {
			n.unknown++
			continue
		}
		last := lastEnd(status)
		switch {
		case status.State.Running != nil:
			n.running++
		case last != nil:
			n.ended++
			if !RestartsAfter(spec, &spec.Containers[i], last) {
				n.final++
			}
			if status.State.Terminated != nil && last.ExitCode == 0 {
				n.succeeded++
			}
		case status.State.Waiting != nil:
			n.waiting++
		default:
			n.unknown++
		}
	}
	return n
}

// lastEnd is how the newest attempt ended that is not followed by a running one.
func lastEnd(status *corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	if status.State.Waiting != nil {
		return status.LastTerminationState.Terminated
	}
	return status.State.Terminated
}

// initCounts are init containers by what they do.
type initCounts struct {
	// pending are ordinary ones that have not ended yet, failed those that never will
	// succeed.
	pending, failed int
	// sidecarsPending have not started, sidecarsWaiting never ran.
	sidecarsRunning, sidecarsPending, sidecarsWaiting int
}

func countInit(spec *corev1.PodSpec, statuses []corev1.ContainerStatus) initCounts {
	var n initCounts
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		status := find(statuses, c.Name)
		if IsSidecar(c) {
			n.countSidecar(status)
			continue
		}
		switch {
		case status == nil || lastEnd(status) == nil:
			n.pending++
		case lastEnd(status).ExitCode != 0 && !RestartsAfter(spec, c, lastEnd(status)):
			n.failed++
		}
	}
	return n
}

func (n *initCounts) countSidecar(status *corev1.ContainerStatus) {
	switch {
	case status == nil:
		n.sidecarsPending++
		n.sidecarsWaiting++
	case status.State.Running != nil:
		n.sidecarsRunning++
		if status.Started == nil || !*status.Started {
			n.sidecarsPending++
		}
	case lastEnd(status) == nil:
		n.sidecarsPending++
		n.sidecarsWaiting++
	}
}

// ComputePhase derives the phase from the states of all containers, those of the
// initialization included. terminal says that nothing will be restarted any more,
// whatever the restart policy; initialized that the Pod's own containers have been made.
func ComputePhase(spec *corev1.PodSpec, statuses []corev1.ContainerStatus, terminal, initialized bool) corev1.PodPhase {
	init, n := countInit(spec, statuses), countContainers(spec, statuses)
	pending := n.waiting > 0 || init.pending > 0 || init.sidecarsWaiting > 0 || init.sidecarsPending > 0 && !initialized
	switch {
	case init.failed > 0:
		return corev1.PodFailed
	case n.unknown > 0 || pending && !terminal:
		return corev1.PodPending
	case n.running+init.sidecarsRunning > 0:
		return corev1.PodRunning
	case terminal && n.succeeded == len(spec.Containers):
		return corev1.PodSucceeded
	case terminal:
		return corev1.PodFailed
	case n.ended != n.final:
		return corev1.PodRunning // some container is about to restart
	case n.succeeded == n.ended:
		return corev1.PodSucceeded
	default:
		return corev1.PodFailed
	}
}
