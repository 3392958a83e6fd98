// Package status computes what a Pod's status says, and writes it to the API.
//
// Compute is pure: from the Pod, what the runtime holds, and the reasons why
// containers wait, it derives phase, container states and conditions as upstream's
// kubelet does (pkg/kubelet/kubelet_pods.go, pkg/kubelet/status). Writer sends the
// newest status of each Pod, and nothing when the API has it already. The package
// never deletes an object and never decides what runs. After a crash the status in
// the API is where both continue.
package status

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Input is all that a Pod's status follows from.
type Input struct {
	Pod *keelsonv1.Pod
	// Previous is the last status computed here, or the one in the API.
	Previous corev1.PodStatus
	// State is what the runtime holds.
	State runtime.PodState
	// RuntimeName is the scheme of container IDs, such as "containerd".
	RuntimeName string
	// Waiting says why a container that should run does not.
	Waiting map[string]corev1.ContainerStateWaiting
	// Terminal says that no container of the Pod will start again.
	Terminal bool
	// Failure overrides the phase: the node or a deadline ended the Pod.
	Failure *Failure
	// PodIP is empty until the Pod has one; HostIP is the node's.
	PodIP, HostIP string
	Now           metav1.Time
}

// Failure is a Pod-level reason to be Failed.
type Failure struct {
	Reason, Message string
}

// Compute returns the status that follows from in. Conditions that other writers own
// are not part of it.
func Compute(in Input) corev1.PodStatus {
	s := corev1.PodStatus{
		ObservedGeneration: max(in.Pod.Generation, in.Previous.ObservedGeneration),
		QOSClass:           QOSClass(&in.Pod.Spec),
		StartTime:          in.Previous.StartTime,
		NominatedNodeName:  in.Previous.NominatedNodeName,
		ContainerStatuses:  computeContainers(in),

		EphemeralContainerStatuses: computeEphemeral(in),
	}
	if s.StartTime.IsZero() {
		s.StartTime = new(in.Now.Rfc3339Copy())
	}
	setAddresses(&s, in)
	setPhase(&s, in)
	setConditions(&s, in)
	return s
}

func setAddresses(s *corev1.PodStatus, in Input) {
	if in.HostIP != "" {
		s.HostIP = in.HostIP
		s.HostIPs = []corev1.HostIP{{IP: in.HostIP}}
	}
	ip := in.PodIP
	if ip == "" && in.Pod.Spec.HostNetwork {
		ip = in.HostIP
	}
	if ip == "" && (in.Terminal || terminalPhase(in.Previous.Phase) || sandboxRuns(in.State)) {
		ip = in.Previous.PodIP // what it had stays visible
	}
	if ip != "" {
		s.PodIP = ip
		s.PodIPs = []corev1.PodIP{{IP: ip}}
	}
}

func sandboxRuns(state runtime.PodState) bool {
	return len(state.Sandboxes) > 0 && state.Sandboxes[0].State == runtime.Running
}

func setPhase(s *corev1.PodStatus, in Input) {
	switch {
	case in.Failure != nil:
		s.Phase, s.Reason, s.Message = corev1.PodFailed, in.Failure.Reason, in.Failure.Message
		return
	case terminalPhase(in.Previous.Phase):
		s.Phase = in.Previous.Phase // a Pod never leaves a terminal phase
	default:
		s.Phase = ComputePhase(&in.Pod.Spec, s.ContainerStatuses, in.Terminal)
	}
	if s.Phase == in.Previous.Phase {
		s.Reason, s.Message = in.Previous.Reason, in.Previous.Message
	}
}

func terminalPhase(p corev1.PodPhase) bool {
	return p == corev1.PodSucceeded || p == corev1.PodFailed
}

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
		last := status.State.Terminated
		if status.State.Waiting != nil {
			last = status.LastTerminationState.Terminated
		}
		switch {
		case status.State.Running != nil:
			n.running++
		case last != nil:
			n.ended++
			if !ShouldRestart(spec.RestartPolicy, last.ExitCode) {
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

// ComputePhase derives the phase from container states. terminal says that nothing
// will be restarted any more, whatever the restart policy.
func ComputePhase(spec *corev1.PodSpec, statuses []corev1.ContainerStatus, terminal bool) corev1.PodPhase {
	n := countContainers(spec, statuses)
	switch {
	case n.unknown > 0 || n.waiting > 0 && !terminal:
		return corev1.PodPending
	case n.running > 0:
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

// ShouldRestart says whether a container that ended with code starts again.
func ShouldRestart(policy corev1.RestartPolicy, code int32) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	default:
		return true
	}
}

func find(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	i := slices.IndexFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &statuses[i]
}

// computeContainers returns one status for each container of the spec, by name. A Pod
// that failed before anything of it ran has none.
func computeContainers(in Input) []corev1.ContainerStatus {
	if in.Failure != nil && len(in.State.Containers) == 0 {
		return in.Previous.ContainerStatuses
	}
	statuses := make([]corev1.ContainerStatus, 0, len(in.Pod.Spec.Containers))
	for i := range in.Pod.Spec.Containers {
		statuses = append(statuses, computeContainer(in, &in.Pod.Spec.Containers[i]))
	}
	slices.SortFunc(statuses, func(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	return statuses
}

// computeEphemeral returns one status for each ephemeral container, by name. They are
// never ready, never restarted, and count for nothing else.
func computeEphemeral(in Input) []corev1.ContainerStatus {
	var statuses []corev1.ContainerStatus
	for i := range in.Pod.Spec.EphemeralContainers {
		spec := (*corev1.Container)(&in.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		statuses = append(statuses, computeEphemeralContainer(in, spec))
	}
	slices.SortFunc(statuses, func(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	return statuses
}
