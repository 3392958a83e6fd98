package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// planInit decides about the init containers: they run one after the other in each
// sandbox, an ordinary one until it has succeeded, a sidecar until it has started; from
// then on a sidecar is kept running. It says whether the Pod's own containers may run,
// or that they never will.
func (p *plan) planInit(f facts) (initialized, failed bool) {
	inits := f.pod.Spec.InitContainers
	if len(inits) == 0 {
		return true, false
	}
	if p.NewSandbox {
		return false, p.planAnew(f)
	}
	initialized = status.Initialized(f.pod, f.state)
	passed := initialized // the initialization has come past the container that is looked at
	var moves []initMove
	for i, c := range slices.Backward(inits) {
		move := judgeInit(f, &inits[i], passed)
		if move.failed {
			return false, true
		}
		if move.done && i == len(inits)-1 {
			initialized = true
		}
		if move.done && !passed && i < len(inits)-1 {
			moves = append(moves, initMove{container: &inits[i+1], start: true})
		}
		moves = append(moves, move)
		passed = passed || activeOf(f.state, c.Name) != nil
	}
	if !passed {
		moves = append(moves, initMove{container: &inits[0], start: true})
	}
	for _, move := range slices.Backward(moves) {
		p.applyInit(f, move)
	}
	return initialized, false
}

// planAnew begins from the start: the sandbox is gone or was never made. It says that
// there is nothing to begin.
func (p *plan) planAnew(f facts) (finished bool) {
	if p.SandboxChanged && len(f.state.Containers) > 0 && f.pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		return true
	}
	if hasMain(f) && !slices.ContainsFunc(f.pod.Spec.Containers, func(c corev1.Container) bool { return runsAgain(f, &c) }) {
		return true
	}
	for i := range f.state.Containers {
		if c := &f.state.Containers[i]; c.State == runtime.Running || c.State == runtime.Unknown {
			p.stop(f, c, messageSandboxChanged, nil)
		}
	}
	p.startInit(f, &f.pod.Spec.InitContainers[0], nil)
	return false
}

// hasMain says that one of the Pod's own containers was ever made.
func hasMain(f facts) bool {
	return slices.ContainsFunc(f.pod.Spec.Containers, func(c corev1.Container) bool {
		s := status.Find(&f.previous, c.Name)
		return newestOf(f.state.Containers, c.Name) != nil ||
			s != nil && (s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil)
	})
}

func runsAgain(f facts, c *corev1.Container) bool {
	switch newest := newestOf(f.state.Containers, c.Name); {
	case newest == nil:
		return !hasRunForGood(&f.pod.Spec, c, f.previous)
	case newest.State == runtime.Exited:
		return status.ShouldRestart(&f.pod.Spec, c, newest.ExitCode)
	case newest.State == runtime.Created:
		return true
	default:
		return status.ShouldReplace(&f.pod.Spec, c)
	}
}

// initMove is what happens with one init container.
type initMove struct {
	container *corev1.Container
	// done: the next one may run.
	done bool
	// failed: it will never succeed.
	failed bool
	// kill says why the running one must end; probe is the one that demands it.
	kill  string
	probe *corev1.Probe
	start bool
	// ended is the attempt that may hold off the start.
	ended *runtime.Container
	// keep: the running one goes on, and may get other resources.
	keep bool
}

// activeOf is the newest attempt in the newest sandbox.
func activeOf(state runtime.PodState, name string) *runtime.Container {
	newest := newestOf(state.Containers, name)
	if newest == nil || len(state.Sandboxes) == 0 || newest.SandboxID != state.Sandboxes[0].ID {
		return nil
	}
	return newest
}

func judgeInit(f facts, c *corev1.Container, passed bool) initMove {
	move := initMove{container: c}
	active, sidecar := activeOf(f.state, c.Name), status.IsSidecar(c)
	switch {
	case active == nil:
		move.start = passed && sidecar
	case passed && !sidecar:
	case active.State == runtime.Created:
		move.start = true
	case active.State == runtime.Running && sidecar:
		return judgeSidecar(f, c, active)
	case active.State == runtime.Running:
		move.keep = true
	case active.State == runtime.Exited:
		return judgeEnded(f, c, active)
	case !sidecar && !status.ShouldReplace(&f.pod.Spec, c):
		move.failed = true
	default:
		move.start, move.kill = true, "Init container is in \"Unknown\" state, try killing it before restart"
	}
	return move
}

func judgeEnded(f facts, c *corev1.Container, ended *runtime.Container) initMove {
	if !status.IsSidecar(c) && ended.ExitCode == 0 && ended.Reason != reasonOOMKilled {
		return initMove{container: c, done: true}
	}
	again := status.IsSidecar(c) || status.ShouldRestart(&f.pod.Spec, c, ended.ExitCode)
	return initMove{container: c, failed: !again, start: again, ended: ended}
}

func judgeSidecar(f facts, c *corev1.Container, running *runtime.Container) initMove {
	health := f.health(running.ID)
	move := initMove{container: c, done: health.Started}
	switch {
	case health.Failed != "":
		move.kill = fmt.Sprintf("Init container %s failed %s probe", c.Name, strings.ToLower(string(health.Failed)))
		move.probe, move.ended = probeOf(c, health.Failed), lastEnded(f.state, c.Name)
	case health.Started && running.SpecHash != specHash(c):
		move.kill = fmt.Sprintf("Init container %s definition changed", c.Name)
	}
	move.start = move.kill != ""
	move.keep = !move.start
	return move
}

func (p *plan) applyInit(f facts, move initMove) {
	if move.kill != "" {
		p.stop(f, activeOf(f.state, move.container.Name), move.kill, move.probe)
	}
	if move.start {
		p.startInit(f, move.container, move.ended)
	}
	if move.keep {
		p.planResize(f, move.container, activeOf(f.state, move.container.Name))
	}
}

// startInit starts an init container, unless the end of an earlier attempt holds it off.
func (p *plan) startInit(f facts, c *corev1.Container, ended *runtime.Container) {
	before := len(p.Start)
	switch newest := newestOf(f.state.Containers, c.Name); {
	case newest == nil:
		p.start(c, nil, firstAttempt(f.previous, c.Name))
	case newest.State == runtime.Created:
		p.RemoveContainers = append(p.RemoveContainers, *newest)
		p.start(c, nil, newest.Attempt)
	default:
		p.startUnlessHeld(f, c, newest, ended)
	}
	if len(p.Start) > before {
		p.Start[before].Sidecar = status.IsSidecar(c)
	}
}
