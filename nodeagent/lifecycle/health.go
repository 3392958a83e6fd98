package lifecycle

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/probes"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// Probes watches the health of running containers; *probes.Manager does.
type Probes interface {
	// Sync makes targets the containers of the Pod that are probed.
	Sync(pod *keelsonv1.Pod, targets []probes.Target)
	// Health is what is known of a running container.
	Health(containerID string) probes.Health
	// Terminating ends the probes that could demand a restart.
	Terminating(uid types.UID)
	// Forget ends all probes of a Pod.
	Forget(uid types.UID)
}

// syncProbes has the containers probed that run.
func (m *Manager) syncProbes(pod *keelsonv1.Pod, state runtime.PodState) {
	previous := m.previousStatus(pod)
	ip := m.podIP(pod, &previous)
	var targets []probes.Target
	for i := range state.Containers {
		c := &state.Containers[i]
		spec := containerSpec(&pod.Spec, c.Name)
		if c.State != runtime.Running || spec == nil {
			continue
		}
		t := probes.Target{ID: c.ID, Container: spec, StartedAt: c.StartedAt, PodIP: ip}
		if s := status.Find(&previous, c.Name); s != nil && s.State.Running != nil && s.ContainerID == m.RuntimeName+"://"+c.ID {
			t.WasStarted, t.WasReady = s.Started != nil && *s.Started, s.Ready
		}
		targets = append(targets, t)
	}
	m.Probes.Sync(pod, targets)
}

// containerSpec finds a container or init container.
func containerSpec(spec *corev1.PodSpec, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// podIP is where the Pod is reached from the machine.
func (m *Manager) podIP(pod *keelsonv1.Pod, previous *corev1.PodStatus) string {
	if pod.Spec.HostNetwork {
		return m.HostIPs[0]
	}
	if attachment := m.recall(pod.UID).attachment; attachment != nil {
		return attachment.IP.String()
	}
	return previous.PodIP
}

// health is what the status says of a running container.
func (m *Manager) health(containerID string) (started, ready bool) {
	h := m.Probes.Health(containerID)
	return h.Started, h.Ready
}

// ProbesChanged says that the health of a container has changed. The next sync acts on
// it; a Pod that is being stopped gets no sync, but its readiness still shows.
func (m *Manager) ProbesChanged(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.pods[uid]; p != nil && p.unsettled != nil {
		select {
		case p.unsettled <- struct{}{}:
		default:
		}
	}
}

// showHealth publishes changes of health while a Pod is being stopped, until the
// function that it returns is called.
func (m *Manager) showHealth(ctx context.Context, pod *keelsonv1.Pod) (stop func()) {
	unsettled, done := make(chan struct{}, 1), make(chan struct{})
	m.remember(pod.UID, func(p *podMemory) { p.unsettled = unsettled })
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-unsettled:
			}
			state, err := m.Runtime.Pod(ctx, pod.UID)
			if err == nil {
				m.publish(ctx, pod, state, false)
			} else if !errors.Is(err, context.Canceled) {
				klog.FromContext(ctx).Error(err, "Cannot show the readiness of a Pod that is being stopped")
			}
		}
	}()
	return func() {
		m.remember(pod.UID, func(p *podMemory) { p.unsettled = nil })
		cancel()
		<-done
	}
}
