package lifecycle

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// plan is what one sync of a Pod does, with the reasons that events and status show.
type plan struct {
	// Finished: every container has ended for good; nothing else is done.
	Finished bool
	// NewSandbox asks for a sandbox; everything of the old one is stopped before.
	NewSandbox     bool
	SandboxAttempt uint32
	// SandboxChanged: there was a sandbox before, and it does not serve any more.
	SandboxChanged bool
	// Stop lists containers that run and must not.
	Stop []stopStep
	// Start lists containers to start, in the order of the spec.
	Start []startStep
	// Waits lists containers that start later, and why.
	Waits []waitStep
	// RemoveContainers and RemoveSandboxes are older than what is kept.
	RemoveContainers []runtime.Container
	RemoveSandboxes  []string
}

type stopStep struct {
	Container runtime.Container
	Message   string
}

type startStep struct {
	Container *corev1.Container
	Attempt   uint32
	// Previous is the newest earlier attempt, nil for the first.
	Previous *runtime.Container
	// Target is the container whose processes an ephemeral one sees; empty for its own.
	Target string
}

type waitStep struct {
	Name    string
	Until   time.Time
	Waiting corev1.ContainerStateWaiting
}

// holdOff says until when a container that ended must not start again; zero time
// means now. delay is the length of the whole pause.
type holdOff func(container *corev1.Container, ended *runtime.Container) (until time.Time, delay time.Duration)

// computePlan compares the Pod with what the runtime holds of it.
func computePlan(pod *keelsonv1.Pod, state runtime.PodState, previous corev1.PodStatus, backoff holdOff) plan {
	var p plan
	if phase := previous.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
		p.Finished = true
		return p
	}
	p.planSandbox(pod, state)
	kept := 0
	for i := range pod.Spec.Containers {
		if p.planContainer(pod, &pod.Spec.Containers[i], state, previous, backoff) {
			kept++
		}
	}
	if kept == 0 && len(p.Start) == 0 && len(p.Waits) == 0 {
		return plan{Finished: true}
	}
	for i := range pod.Spec.EphemeralContainers {
		p.planEphemeral(&pod.Spec.EphemeralContainers[i], state, previous)
	}
	p.planRemovals(state)
	if len(p.Start) == 0 {
		p.NewSandbox = false // one is made when something is about to start in it
	}
	return p
}

// planSandbox decides whether the newest sandbox serves.
func (p *plan) planSandbox(pod *keelsonv1.Pod, state runtime.PodState) {
	if len(state.Sandboxes) == 0 {
		p.NewSandbox = true
		return
	}
	newest := state.Sandboxes[0]
	running := 0
	for _, s := range state.Sandboxes {
		if s.State == runtime.Running {
			running++
		}
	}
	if newest.State == runtime.Running && running == 1 && newest.HostNetwork == pod.Spec.HostNetwork {
		return
	}
	p.NewSandbox, p.SandboxChanged = true, true
	p.SandboxAttempt = newest.Attempt + 1
}

// planContainer decides about one container and says whether one that runs is kept.
func (p *plan) planContainer(pod *keelsonv1.Pod, c *corev1.Container, state runtime.PodState, previous corev1.PodStatus, backoff holdOff) (kept bool) {
	newest := newestOf(state.Containers, c.Name)
	if newest == nil {
		if !hasRunForGood(pod.Spec.RestartPolicy, previous, c.Name) {
			p.start(c, nil, firstAttempt(previous, c.Name))
		}
		return false
	}
	switch {
	case newest.State == runtime.Running && p.NewSandbox:
		p.Stop = append(p.Stop, stopStep{*newest, "Pod sandbox changed, it will be killed and re-created."})
		if pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
			p.start(c, newest, newest.Attempt+1)
		}
		return false
	case newest.State == runtime.Running && newest.SpecHash != specHash(c):
		p.Stop = append(p.Stop, stopStep{*newest, fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)})
		p.start(c, newest, newest.Attempt+1)
		return false
	case newest.State == runtime.Running:
		return true
	case newest.State == runtime.Created:
		// It never ran: the attempt is made again under the same number.
		p.RemoveContainers = append(p.RemoveContainers, *newest)
		p.start(c, newest, newest.Attempt)
		return false
	case newest.State == runtime.Unknown:
		p.Stop = append(p.Stop, stopStep{*newest, "Container is in \"Unknown\" state, try killing it before restart"})
		p.start(c, newest, newest.Attempt+1)
		return false
	case !status.ShouldRestart(pod.Spec.RestartPolicy, newest.ExitCode):
		return false
	}
	if until, delay := backoff(c, newest); !until.IsZero() {
		p.Waits = append(p.Waits, waitStep{Name: c.Name, Until: until, Waiting: corev1.ContainerStateWaiting{
			Reason: reasonCrashLoopBackOff,
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				delay, c.Name, pod.Name, pod.Namespace, pod.UID),
		}})
		return false
	}
	p.start(c, newest, newest.Attempt+1)
	return false
}

// planEphemeral decides about one ephemeral container: it starts once, as soon as there
// is a sandbox, and never again. It keeps no Pod running and asks for no sandbox.
func (p *plan) planEphemeral(e *corev1.EphemeralContainer, state runtime.PodState, previous corev1.PodStatus) {
	newest := newestOf(state.Containers, e.Name)
	step := startStep{Container: ephemeral(e), Target: e.TargetContainerName}
	switch {
	case newest != nil && newest.State == runtime.Created:
		p.RemoveContainers = append(p.RemoveContainers, *newest)
		step.Attempt = newest.Attempt
	case newest != nil && newest.State == runtime.Running && p.NewSandbox:
		p.Stop = append(p.Stop, stopStep{*newest, "Pod sandbox changed, it will be killed and re-created."})
		return
	case newest != nil || hasRun(previous.EphemeralContainerStatuses, e.Name):
		return
	}
	if !p.NewSandbox || len(p.Start) > 0 {
		p.Start = append(p.Start, step)
	}
}

// ephemeral is an ephemeral container as any other.
func ephemeral(e *corev1.EphemeralContainer) *corev1.Container {
	return (*corev1.Container)(&e.EphemeralContainerCommon)
}

func hasRun(statuses []corev1.ContainerStatus, name string) bool {
	return slices.ContainsFunc(statuses, func(s corev1.ContainerStatus) bool {
		return s.Name == name && (s.State.Running != nil || s.State.Terminated != nil)
	})
}

func (p *plan) start(c *corev1.Container, previous *runtime.Container, attempt uint32) {
	p.Start = append(p.Start, startStep{Container: c, Attempt: attempt, Previous: previous})
}

// planRemovals keeps, for each name, the newest container and the one before it, and
// the newest sandbox.
func (p *plan) planRemovals(state runtime.PodState) {
	seen := map[string]int{}
	for _, c := range state.Containers {
		if c.State == runtime.Created {
			continue // removed by its own step
		}
		seen[c.Name]++
		keep := 2
		if slices.ContainsFunc(p.Start, func(s startStep) bool { return s.Container.Name == c.Name }) {
			keep = 1 // the one about to start is the newest
		}
		if seen[c.Name] > keep && c.State != runtime.Running {
			p.RemoveContainers = append(p.RemoveContainers, c)
		}
	}
	for i, s := range state.Sandboxes {
		if i > 0 || p.NewSandbox && len(p.Start) > 0 {
			p.RemoveSandboxes = append(p.RemoveSandboxes, s.ID)
		}
	}
}

// hasRunForGood says of a container of which the runtime holds nothing that it has run
// before and must not run again. One that was lost while it ran counts as failed.
func hasRunForGood(policy corev1.RestartPolicy, previous corev1.PodStatus, name string) bool {
	i := slices.IndexFunc(previous.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == name })
	if i < 0 {
		return false
	}
	switch s := previous.ContainerStatuses[i]; {
	case s.State.Running != nil:
		return !status.ShouldRestart(policy, status.ExitCodeUnknown)
	case s.State.Terminated != nil:
		return !status.ShouldRestart(policy, s.State.Terminated.ExitCode)
	case s.LastTerminationState.Terminated != nil:
		return !status.ShouldRestart(policy, s.LastTerminationState.Terminated.ExitCode)
	default:
		return false
	}
}

// firstAttempt is the number of a container of which the runtime holds nothing: 0,
// or one more than what the status remembers of containers that were lost.
func firstAttempt(previous corev1.PodStatus, name string) uint32 {
	for i := range previous.ContainerStatuses {
		s := &previous.ContainerStatuses[i]
		if s.Name == name && (s.State.Running != nil || s.State.Terminated != nil) {
			return uint32(s.RestartCount) + 1
		}
		if s.Name == name {
			return uint32(s.RestartCount)
		}
	}
	return 0
}

func newestOf(containers []runtime.Container, name string) *runtime.Container {
	i := slices.IndexFunc(containers, func(c runtime.Container) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &containers[i]
}

// specHash changes when a running container has to be replaced: of what a Pod update
// may change, that is the image.
func specHash(c *corev1.Container) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s", c.Name, c.Image)
	return strconv.FormatUint(h.Sum64(), 16)
}
