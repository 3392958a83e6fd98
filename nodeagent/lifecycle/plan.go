package lifecycle

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/podworker"
	"github.com/keelson-dev/keelson/nodeagent/probes"
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
	// Resize lists containers that go on with other resources.
	Resize []resizeStep
	// RemoveContainers and RemoveSandboxes are older than what is kept.
	RemoveContainers []runtime.Container
	RemoveSandboxes  []string
	// Reset lists containers to end and remove, in this order, so that all start anew.
	Reset []runtime.Container
}

type stopStep struct {
	Container runtime.Container
	Message   string
	Grace     time.Duration
}

type startStep struct {
	Container *corev1.Container
	Attempt   uint32
	// Previous is the earlier attempt whose end may hold this one off, nil for none.
	Previous *runtime.Container
	// Sidecar: what comes next is planned as soon as it runs.
	Sidecar bool
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

// facts are what a plan follows from.
type facts struct {
	pod      *keelsonv1.Pod
	state    runtime.PodState
	previous corev1.PodStatus
	backoff  holdOff
	// capacity is what limits are measured against.
	capacity Capacity
	// health is what probes say of a running container, by the runtime's ID.
	health func(id string) probes.Health
	// dead says which containers that have ended stay.
	dead DeadPolicy
	now  time.Time
}

// computePlan compares the Pod with what the runtime holds of it.
func computePlan(f facts) plan {
	var p plan
	if phase := f.previous.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
		return plan{Finished: true}
	}
	if status.RestartingAll(&f.pod.Spec, f.state, f.previous) {
		if p.planReset(f); len(p.Reset) > 0 {
			return p
		}
	}
	p.planSandbox(f.pod, f.state)
	initialized, failed := p.planInit(f)
	if failed || initialized && !p.planMain(f) {
		return plan{Finished: true}
	}
	for i := range f.pod.Spec.EphemeralContainers {
		p.planEphemeral(&f.pod.Spec.EphemeralContainers[i], f)
	}
	p.planRemovals(f.state, f.dead, f.now)
	if len(p.Start) == 0 {
		p.NewSandbox = false // one is made when something is about to start in it
	}
	return p
}

// planMain decides about the Pod's own containers and says whether any of them runs or
// will. Sidecars alone keep no Pod.
func (p *plan) planMain(f facts) bool {
	starts, waits, kept := len(p.Start), len(p.Waits), false
	for i := range f.pod.Spec.Containers {
		kept = p.planContainer(f, &f.pod.Spec.Containers[i]) || kept
	}
	return kept || len(p.Start) > starts || len(p.Waits) > waits
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
func (p *plan) planContainer(f facts, c *corev1.Container) (kept bool) {
	newest := newestOf(f.state.Containers, c.Name)
	if newest == nil {
		if !hasRunForGood(&f.pod.Spec, c, f.previous) {
			p.start(c, nil, firstAttempt(f.previous, c.Name))
		}
		return false
	}
	switch {
	case newest.State == runtime.Running:
		return p.planRunning(f, c, newest)
	case newest.State == runtime.Created:
		// It never ran: the attempt is made again under the same number.
		p.RemoveContainers = append(p.RemoveContainers, *newest)
		p.start(c, newest, newest.Attempt)
	case newest.State == runtime.Unknown:
		p.stop(f, newest, "Container is in \"Unknown\" state, try killing it before restart", nil)
		p.start(c, newest, newest.Attempt+1)
	case status.ShouldRestart(&f.pod.Spec, c, newest.ExitCode):
		p.startUnlessHeld(f, c, newest, newest)
	}
	return false
}

// planRunning decides about a container that runs, and says whether it is kept.
func (p *plan) planRunning(f facts, c *corev1.Container, running *runtime.Container) (kept bool) {
	restart, name := status.ShouldReplace(&f.pod.Spec, c), c.Name
	switch failed := f.health(running.ID).Failed; {
	case p.NewSandbox:
		p.stop(f, running, messageSandboxChanged, nil)
		if restart {
			p.start(c, running, running.Attempt+1)
		}
	case running.SpecHash != specHash(c):
		p.stop(f, running, fmt.Sprintf("Container %s definition changed, will be restarted", name), nil)
		p.start(c, running, running.Attempt+1)
	case failed != "":
		message := fmt.Sprintf("Container %s failed %s probe", name, strings.ToLower(string(failed)))
		if restart {
			message += ", will be restarted"
		}
		p.stop(f, running, message, probeOf(c, failed))
		if restart {
			p.startUnlessHeld(f, c, running, lastEnded(f.state, name))
		}
	default:
		return p.planResize(f, c, running)
	}
	return false
}

const messageSandboxChanged = "Pod sandbox changed, it will be killed and re-created."

func probeOf(c *corev1.Container, kind probes.Kind) *corev1.Probe {
	if kind == probes.Startup {
		return c.StartupProbe
	}
	return c.LivenessProbe
}

// stop ends a container. probe is the one that demands it, nil for none: it may have a
// grace period of its own.
func (p *plan) stop(f facts, c *runtime.Container, message string, probe *corev1.Probe) {
	grace := podworker.GracePeriod(f.pod)
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*probe.TerminationGracePeriodSeconds) * time.Second
	}
	p.Stop = append(p.Stop, stopStep{Container: *c, Message: message, Grace: grace})
}

// startUnlessHeld starts the attempt after newest, now or when the pause is over that
// began when ended ended.
func (p *plan) startUnlessHeld(f facts, c *corev1.Container, newest, ended *runtime.Container) {
	if ended != nil {
		if until, delay := f.backoff(c, ended); !until.IsZero() {
			p.Waits = append(p.Waits, waitStep{Name: c.Name, Until: until, Waiting: corev1.ContainerStateWaiting{
				Reason: reasonCrashLoopBackOff,
				Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
					delay, c.Name, f.pod.Name, f.pod.Namespace, f.pod.UID),
			}})
			return
		}
	}
	p.start(c, ended, newest.Attempt+1)
}

// lastEnded is the newest attempt that has ended, nil when none has.
func lastEnded(state runtime.PodState, name string) *runtime.Container {
	i := slices.IndexFunc(state.Containers, func(c runtime.Container) bool {
		return c.Name == name && c.State == runtime.Exited
	})
	if i < 0 {
		return nil
	}
	return &state.Containers[i]
}

// planEphemeral decides about one ephemeral container: it starts once, as soon as there
// is a sandbox, and never again. It keeps no Pod running and asks for no sandbox.
func (p *plan) planEphemeral(e *corev1.EphemeralContainer, f facts) {
	newest := newestOf(f.state.Containers, e.Name)
	step := startStep{Container: ephemeral(e), Target: e.TargetContainerName}
	switch {
	case newest != nil && newest.State == runtime.Created:
		p.RemoveContainers = append(p.RemoveContainers, *newest)
		step.Attempt = newest.Attempt
	case newest != nil && newest.State == runtime.Running && p.NewSandbox:
		p.stop(f, newest, messageSandboxChanged, nil)
		return
	case newest != nil || hasRun(f.previous.EphemeralContainerStatuses, e.Name):
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

// planRemovals keeps the newest container of each name, older ones as the policy says,
// and the newest sandbox.
func (p *plan) planRemovals(state runtime.PodState, policy DeadPolicy, now time.Time) {
	remove, _ := planDeadOf(state, policy, now, func(name string) bool {
		return slices.ContainsFunc(p.Start, func(s startStep) bool { return s.Container.Name == name })
	})
	for _, d := range remove {
		p.RemoveContainers = append(p.RemoveContainers, d.container)
	}
	for i, s := range state.Sandboxes {
		if i > 0 || p.NewSandbox && len(p.Start) > 0 {
			p.RemoveSandboxes = append(p.RemoveSandboxes, s.ID)
		}
	}
}

// hasRunForGood says of a container of which the runtime holds nothing that it has run
// before and must not run again. One that was lost while it ran counts as failed.
func hasRunForGood(spec *corev1.PodSpec, c *corev1.Container, previous corev1.PodStatus) bool {
	s := status.Find(&previous, c.Name)
	switch {
	case s == nil:
		return false
	case s.State.Running != nil:
		return !status.ShouldRestart(spec, c, status.ExitCodeUnknown)
	case s.State.Terminated != nil:
		return !status.RestartsAfter(spec, c, s.State.Terminated)
	case s.LastTerminationState.Terminated != nil:
		return !status.RestartsAfter(spec, c, s.LastTerminationState.Terminated)
	default:
		return false
	}
}

// firstAttempt is the number of a container of which the runtime holds nothing: 0,
// or one more than what the status remembers of containers that were lost.
func firstAttempt(previous corev1.PodStatus, name string) uint32 {
	s := status.Find(&previous, name)
	switch {
	case s == nil:
		return 0
	case s.State.Running != nil || s.State.Terminated != nil:
		return uint32(s.RestartCount) + 1
	default:
		return uint32(s.RestartCount)
	}
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
