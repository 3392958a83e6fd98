package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// messageKilling is upstream's word for a container that is ended to be made anew.
const messageKilling = "killing"

// planReset removes every container of a Pod of which one has ended with a rule that
// says so; the next sync starts them anew. What caused it goes last: an agent that dies
// in between finds it again.
func (p *plan) planReset(f facts) {
	sourceInits, inits := resetSteps(f.pod.Spec.InitContainers, f.state)
	sources, mains := resetSteps(f.pod.Spec.Containers, f.state)
	for _, list := range [][]runtime.Container{mains, inits, sources, sourceInits} {
		p.Reset = append(p.Reset, list...)
	}
}

// resetSteps tells the attempts that caused the restart from the others.
func resetSteps(specs []corev1.Container, state runtime.PodState) (sources, targets []runtime.Container) {
	for i := range specs {
		for _, c := range state.Containers {
			switch {
			case c.Name != specs[i].Name:
			case c.State == runtime.Exited && status.RestartsAll(&specs[i], c.ExitCode):
				sources = append(sources, c)
			default:
				targets = append(targets, c)
			}
		}
	}
	return sources, targets
}

// reset makes every container of a Pod anew: it removes them, shows that, and asks for
// the sync that starts them.
func (m *Manager) reset(ctx context.Context, pod *keelsonv1.Pod, containers []runtime.Container) (time.Time, error) {
	if err := m.applyReset(ctx, pod, containers); err != nil {
		return time.Time{}, err
	}
	state, err := m.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the Pod's containers: %w", err)
	}
	m.syncProbes(pod, state)
	m.publish(ctx, pod, state, false)
	return m.Clock.Now(), nil
}

// applyReset ends and removes containers without grace and without hooks, as upstream.
// Their logs stay until the Pod goes.
func (m *Manager) applyReset(ctx context.Context, pod *keelsonv1.Pod, containers []runtime.Container) error {
	for _, c := range containers {
		if c.State == runtime.Running || c.State == runtime.Unknown {
			m.Recorder.Record(pod, Note{c.Name, corev1.EventTypeNormal, eventKilling, messageKilling})
			if err := m.Runtime.StopContainer(ctx, c.ID, 0); err != nil {
				return fmt.Errorf("stopping container %s: %w", c.Name, err)
			}
		}
		// The link to its log names a container that nobody finds any more.
		if err := os.Remove(m.logLink(identity(pod), c.Name, c.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the link to the log of container %s: %w", c.Name, err)
		}
		if err := m.Runtime.RemoveContainer(ctx, c.ID); err != nil {
			return fmt.Errorf("removing container %s: %w", c.Name, err)
		}
	}
	return nil
}
