package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// orphanGrace is what containers get that no API object speaks for, as upstream.
const orphanGrace = time.Second

// StopPod implements podworker.Syncer.
func (m *Manager) StopPod(ctx context.Context, pod *keelsonv1.Pod, grace time.Duration) error {
	state, err := m.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		return fmt.Errorf("reading the Pod's containers: %w", err)
	}
	m.syncProbes(pod, state)
	m.Probes.Terminating(pod.UID)
	m.publish(ctx, pod, state, false)
	for _, c := range state.Containers {
		if c.State == runtime.Running {
			m.Recorder.Record(pod, Note{c.Name, corev1.EventTypeNormal, eventKilling, "Stopping container " + c.Name})
		}
	}
	endShow := m.showHealth(ctx, pod)
	err = m.stopContainers(ctx, pod, state, grace)
	endShow()
	if err == nil {
		err = m.stopSandboxes(ctx, state)
	}
	if err != nil {
		if ctx.Err() == nil {
			m.Recorder.Record(pod, Note{Type: corev1.EventTypeWarning, Reason: eventFailedKillPod,
				Message: fmt.Sprintf("error killing pod: %v", err)})
		}
		return err
	}
	if state, err = m.Runtime.Pod(ctx, pod.UID); err != nil {
		return fmt.Errorf("reading the Pod's containers: %w", err)
	}
	m.syncProbes(pod, state)
	m.publish(ctx, pod, state, true)
	klog.FromContext(ctx).V(2).Info("Stopped Pod", "containers", len(state.Containers))
	return nil
}

// stopAll ends every container of a Pod at the same time of which the API says nothing
// any more, then the sandboxes.
func (m *Manager) stopAll(ctx context.Context, state runtime.PodState, grace time.Duration) error {
	errs := make([]error, len(state.Containers))
	var group sync.WaitGroup
	for i, c := range state.Containers {
		if c.State != runtime.Running && c.State != runtime.Unknown {
			continue
		}
		group.Go(func() {
			if err := m.Runtime.StopContainer(ctx, c.ID, grace); err != nil {
				errs[i] = fmt.Errorf("stopping container %s: %w", c.Name, err)
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return m.stopSandboxes(ctx, state)
}

func (m *Manager) stopSandboxes(ctx context.Context, state runtime.PodState) error {
	for _, s := range state.Sandboxes {
		if err := m.Runtime.StopSandbox(ctx, s.ID); err != nil {
			return fmt.Errorf("stopping sandbox %s: %w", s.ID, err)
		}
	}
	return nil
}

// FinishPod implements podworker.Syncer. The last status is in the API before the
// containers that it describes are removed, and the finalizer goes last.
func (m *Manager) FinishPod(ctx context.Context, pod *keelsonv1.Pod, forget bool) error {
	id := identity(pod)
	state, err := m.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		return fmt.Errorf("reading the Pod's containers: %w", err)
	}
	if err := m.release(ctx, id, state); err != nil {
		return err
	}
	m.remember(pod.UID, func(p *podMemory) { p.attachment = nil })
	if !forget {
		return nil
	}
	if err := m.Status.Flush(ctx, pod); err != nil {
		return fmt.Errorf("writing the last status: %w", err)
	}
	if err := m.erase(ctx, id, state); err != nil {
		return err
	}
	if err := m.Status.Release(ctx, pod); err != nil {
		return fmt.Errorf("removing the finalizer: %w", err)
	}
	m.forget(pod)
	klog.FromContext(ctx).V(2).Info("Pod has left the node")
	return nil
}

// RemoveOrphan implements podworker.Syncer.
func (m *Manager) RemoveOrphan(ctx context.Context, id runtime.PodIdentity) error {
	state, err := m.Runtime.Pod(ctx, id.UID)
	if err != nil {
		return fmt.Errorf("reading the Pod's containers: %w", err)
	}
	if err := m.stopAll(ctx, state, orphanGrace); err != nil {
		return err
	}
	if err := m.release(ctx, id, state); err != nil {
		return err
	}
	if err := m.erase(ctx, id, state); err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Removed a Pod that the API does not know")
	return nil
}

// release frees what a stopped Pod shares with others, or must not keep: sandbox,
// address, volumes, cgroup.
func (m *Manager) release(ctx context.Context, id runtime.PodIdentity, state runtime.PodState) error {
	for _, s := range state.Sandboxes {
		if err := m.removeSandbox(ctx, s.ID); err != nil {
			return err
		}
	}
	if err := m.Network.Detach(ctx, id.UID); err != nil {
		return fmt.Errorf("detaching from the Pod network: %w", err)
	}
	if err := m.Volumes.TearDown(ctx, id.UID); err != nil {
		return err
	}
	if err := m.Cgroups.Remove(id.UID); err != nil {
		return fmt.Errorf("removing the Pod's cgroup: %w", err)
	}
	return nil
}

// erase removes containers, logs and files of a stopped Pod.
func (m *Manager) erase(ctx context.Context, id runtime.PodIdentity, state runtime.PodState) error {
	for _, c := range state.Containers {
		if err := m.removeContainer(ctx, id, c); err != nil {
			return err
		}
	}
	for _, dir := range []string{m.logDir(id), m.podDir(id)} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing the Pod's files: %w", err)
		}
	}
	m.Users.Release(id.UID)
	return nil
}
