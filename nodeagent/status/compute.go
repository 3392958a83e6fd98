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
	"github.com/keelson-dev/keelson/internal/qos"
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
	// Health says of a running container, by the runtime's ID, what its probes found. Nil:
	// there are no probes.
	Health func(containerID string) (started, ready bool)
	// Terminal says that no container of the Pod will start again.
	Terminal bool
	// Failure overrides the phase: the node or a deadline ended the Pod.
	Failure *Failure
	// Resize is how far new resources of the Pod have got.
	Resize Resize
	// PodIPs are empty until the Pod has one; HostIPs are the node's. The primary one of
	// each is first.
	PodIPs, HostIPs []string
	Now             metav1.Time
}

// Failure is a Pod-level reason to be Failed.
type Failure struct {
	Reason, Message string
	// Disruption: the node ended the Pod for want of something, the Pod did nothing wrong.
	// A condition says so.
	Disruption bool
	// DisruptionMessage is what the condition says, Message when it is empty.
	DisruptionMessage string
}

// Compute returns the status that follows from in. Conditions that other writers own
// are not part of it.
func Compute(in Input) corev1.PodStatus {
	inits := computeInitContainers(in)
	s := corev1.PodStatus{
		ObservedGeneration: max(in.Pod.Generation, in.Previous.ObservedGeneration),
		QOSClass:           qos.Class(&in.Pod.Spec),
		StartTime:          in.Previous.StartTime,
		NominatedNodeName:  in.Previous.NominatedNodeName,
		ContainerStatuses:  computeContainers(in, inits),

		InitContainerStatuses:      inits,
		EphemeralContainerStatuses: computeEphemeral(in),
	}
	if s.StartTime.IsZero() {
		s.StartTime = new(in.Now.Rfc3339Copy())
	}
	setAddresses(&s, in)
	setPhase(&s, in)
	setConditions(&s, in)
	setPodResources(&s, in)
	holdPhase(&s, in)
	return s
}

func setAddresses(s *corev1.PodStatus, in Input) {
	if len(in.HostIPs) > 0 {
		s.HostIP = in.HostIPs[0]
		for _, ip := range in.HostIPs {
			s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip})
		}
	}
	ips := in.PodIPs
	if len(ips) == 0 && in.Pod.Spec.HostNetwork {
		ips = in.HostIPs
	}
	if len(ips) == 0 && (in.Terminal || terminalPhase(in.Previous.Phase) || sandboxRuns(in.State)) {
		ips = shownIPs(in.Previous) // what it had stays visible
	}
	if len(ips) > 0 {
		s.PodIP = ips[0]
		for _, ip := range ips {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
		}
	}
}

// shownIPs are the addresses that a status shows.
func shownIPs(s corev1.PodStatus) []string {
	var ips []string
	for _, ip := range s.PodIPs {
		ips = append(ips, ip.IP)
	}
	if len(ips) == 0 && s.PodIP != "" {
		ips = []string{s.PodIP}
	}
	return ips
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
		s.Phase = ComputePhase(&in.Pod.Spec, slices.Concat(s.ContainerStatuses, s.InitContainerStatuses),
			in.Terminal, Initialized(in.Pod, in.State))
	}
	if s.Phase == in.Previous.Phase {
		s.Reason, s.Message = in.Previous.Reason, in.Previous.Message
	}
}

// holdPhase keeps a Pod from ending in the eyes of others while something of it runs:
// what it held is not free yet.
func holdPhase(s *corev1.PodStatus, in Input) {
	if in.Terminal || !terminalPhase(s.Phase) || terminalPhase(in.Previous.Phase) || !anyRuns(in.State) {
		return
	}
	s.Phase, s.Reason, s.Message = in.Previous.Phase, in.Previous.Reason, in.Previous.Message
	if s.Phase == "" {
		s.Phase = corev1.PodPending
	}
}

func anyRuns(state runtime.PodState) bool {
	return slices.ContainsFunc(state.Containers, func(c runtime.Container) bool { return c.State == runtime.Running })
}

func terminalPhase(p corev1.PodPhase) bool {
	return p == corev1.PodSucceeded || p == corev1.PodFailed
}

func find(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	i := slices.IndexFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &statuses[i]
}

// computeContainers returns one status for each container of the spec, by name. A Pod
// that failed before anything of it ran has none. Containers of a Pod that ended while
// it was being initialized wait for ever: they are not lost.
func computeContainers(in Input, inits []corev1.ContainerStatus) []corev1.ContainerStatus {
	ended := in.Failure != nil || terminalPhase(in.Previous.Phase) && len(in.Previous.ContainerStatuses) == 0
	if ended && len(in.State.Containers) == 0 {
		return in.Previous.ContainerStatuses
	}
	in.Terminal = in.Terminal && wasInitialized(in, inits)
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
		s := computeEphemeralContainer(in, spec)
		s.VolumeMounts = volumeMounts(spec)
		statuses = append(statuses, s)
	}
	slices.SortFunc(statuses, func(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	return statuses
}
