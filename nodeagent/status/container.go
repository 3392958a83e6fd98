package status

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	reasonContainerCreating = "ContainerCreating"
	reasonPodInitializing   = "PodInitializing"
	reasonStatusUnknown     = "ContainerStatusUnknown"

	messageLost        = "The container could not be located when the pod was terminated"
	messageLostRunning = "The container could not be located when the pod was deleted.  The container used to be Running"

	// maxTerminationMessages bounds the termination messages of one Pod together, in
	// bytes, as upstream.
	maxTerminationMessages = 12 * 1024
)

// ExitCodeUnknown is the exit code of a container of which nothing is known but that it
// does not run any more.
const ExitCodeUnknown = 137

// computeContainer derives one container's status from its attempts, newest first.
func computeContainer(in Input, spec *corev1.Container) corev1.ContainerStatus {
	previous := Find(&in.Previous, spec.Name)
	attempts := attemptsOf(in.State.Containers, spec.Name)

	var s corev1.ContainerStatus
	if len(attempts) == 0 {
		s = statusWithoutContainer(in, spec, previous)
	} else {
		s = statusOf(in, &attempts[0])
		if len(attempts) > 1 {
			s.LastTerminationState = stateOf(in, &attempts[1])
		} else if previous != nil && previous.RestartCount == s.RestartCount {
			s.LastTerminationState = previous.LastTerminationState
		}
	}
	if in.Terminal && s.State.Waiting != nil {
		s.State = corev1.ContainerState{Terminated: lost(messageLost)}
	}
	if waiting, ok := in.Waiting[spec.Name]; ok && s.State.Running == nil && !in.Terminal && !failedToStartForGood(in, spec, s.State.Terminated) {
		if s.State.Terminated != nil {
			s.LastTerminationState = s.State
		}
		s.State = corev1.ContainerState{Waiting: &waiting}
	}
	started, ready := false, false
	if s.State.Running != nil {
		started, ready = in.health(attempts[0].ID)
	}
	s.Started, s.Ready = &started, started && ready
	setResources(&s, spec, newest(attempts))
	s.VolumeMounts = volumeMounts(spec)
	return s
}

// failedToStartForGood says that nobody will try again a start that failed: the Pod's
// phase is final by that, and no reader of it may find the container waiting.
func failedToStartForGood(in Input, spec *corev1.Container, ended *corev1.ContainerStateTerminated) bool {
	return ended != nil && ended.Reason == runtime.ReasonStartError && !ShouldRestart(&in.Pod.Spec, spec, ended.ExitCode)
}

func computeEphemeralContainer(in Input, spec *corev1.Container) corev1.ContainerStatus {
	previous := find(in.Previous.EphemeralContainerStatuses, spec.Name)
	if attempts := attemptsOf(in.State.Containers, spec.Name); len(attempts) > 0 {
		s := statusOf(in, &attempts[0])
		if waiting, ok := in.Waiting[spec.Name]; ok && s.State.Waiting != nil {
			s.State.Waiting = &waiting
		}
		return s
	}
	s := corev1.ContainerStatus{Name: spec.Name, Image: spec.Image}
	switch waiting, ok := in.Waiting[spec.Name]; {
	case previous != nil && previous.State.Terminated != nil:
		return *previous
	case previous != nil && previous.State.Running != nil:
		gone := lost(messageLostRunning)
		gone.ContainerID, gone.StartedAt = previous.ContainerID, previous.State.Running.StartedAt
		s.ImageID, s.ContainerID, s.State.Terminated = previous.ImageID, previous.ContainerID, gone
	case ok:
		s.State.Waiting = &waiting
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonContainerCreating}
	}
	return s
}

func (in *Input) health(containerID string) (started, ready bool) {
	if in.Health == nil {
		return true, true
	}
	return in.Health(containerID)
}

// creating is the state of a container that has not been made yet.
func (in *Input) creating() corev1.ContainerState {
	reason := reasonContainerCreating
	if len(in.Pod.Spec.InitContainers) > 0 {
		reason = reasonPodInitializing
	}
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func newest(attempts []runtime.Container) *runtime.Container {
	if len(attempts) == 0 {
		return nil
	}
	return &attempts[0]
}

func attemptsOf(containers []runtime.Container, name string) []runtime.Container {
	var attempts []runtime.Container
	for _, c := range containers {
		if c.Name == name {
			attempts = append(attempts, c)
		}
	}
	return attempts
}

// statusOf is the status of a container that the runtime holds.
func statusOf(in Input, c *runtime.Container) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name:         c.Name,
		RestartCount: int32(c.Attempt),
		Image:        c.Image,
		ImageID:      c.ImageID,
		ContainerID:  containerID(in, c),
		State:        stateOf(in, c),
		User:         userOf(c),
	}
}

func userOf(c *runtime.Container) *corev1.ContainerUser {
	if c.User == nil {
		return nil
	}
	return &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: c.User.UID, GID: c.User.GID, SupplementalGroups: c.User.Groups}}
}

// volumeMounts are the mounts of spec as the container has, or will have, them.
func volumeMounts(spec *corev1.Container) []corev1.VolumeMountStatus {
	var mounts []corev1.VolumeMountStatus
	for i := range spec.VolumeMounts {
		m := &spec.VolumeMounts[i]
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if r := m.RecursiveReadOnly; r != nil && *r != corev1.RecursiveReadOnlyDisabled {
				mode = corev1.RecursiveReadOnlyEnabled // it is possible on every node
			}
			s.RecursiveReadOnly = &mode
		}
		mounts = append(mounts, s)
	}
	return mounts
}

func containerID(in Input, c *runtime.Container) string {
	return fmt.Sprintf("%s://%s", in.RuntimeName, c.ID)
}

func stateOf(in Input, c *runtime.Container) corev1.ContainerState {
	switch c.State {
	case runtime.Running:
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: seconds(c.StartedAt)}}
	case runtime.Exited:
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode:    c.ExitCode,
			Reason:      c.Reason,
			Message:     validText(c.Message, maxTerminationMessages/allContainers(&in.Pod.Spec)),
			StartedAt:   seconds(c.StartedAt),
			FinishedAt:  seconds(c.FinishedAt),
			ContainerID: containerID(in, c),
		}}
	default:
		// The runtime has it, and it does not run (yet).
		return in.creating()
	}
}

func allContainers(spec *corev1.PodSpec) int {
	return len(spec.Containers) + len(spec.InitContainers) + len(spec.EphemeralContainers)
}

// statusWithoutContainer is the status of a container of which the runtime holds
// nothing: it was never made, or somebody removed it.
func statusWithoutContainer(in Input, spec *corev1.Container, previous *corev1.ContainerStatus) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name: spec.Name, Image: spec.Image, State: in.creating(),
	}
	if previous == nil {
		return s
	}
	if removed, ok := removedForRestart(in, spec, previous); ok {
		return removed
	}
	if previous.State.Terminated != nil {
		return *previous
	}
	s.RestartCount, s.LastTerminationState = previous.RestartCount, previous.LastTerminationState
	if previous.State.Running == nil {
		return s
	}
	gone := lost(messageLostRunning)
	if in.Terminal {
		gone.Message = messageLost
	}
	gone.ContainerID, gone.StartedAt = previous.ContainerID, previous.State.Running.StartedAt
	if in.Terminal {
		s.State.Waiting, s.State.Terminated = nil, gone
		s.ImageID, s.ContainerID = previous.ImageID, previous.ContainerID
		return s
	}
	s.LastTerminationState = corev1.ContainerState{Terminated: gone}
	s.RestartCount++
	return s
}

// lost is the end of a container that nobody saw.
func lost(message string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: ExitCodeUnknown, Reason: reasonStatusUnknown, Message: message}
}

func seconds(t time.Time) metav1.Time { return *new(metav1.NewTime(t).Rfc3339Copy()) }

// validText cuts s to at most limit bytes of valid UTF-8: the API holds no other text,
// and what is sent must be equal to what comes back.
func validText(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}
