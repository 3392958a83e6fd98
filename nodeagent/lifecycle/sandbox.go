package lifecycle

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/qos"
	"github.com/keelson-dev/keelson/nodeagent/hostfiles"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// ensureSandbox returns where containers start, made if the plan says.
func (m *Manager) ensureSandbox(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState, p *plan) (place, error) {
	if p.SandboxChanged && p.NewSandbox {
		m.Recorder.Record(pod, Note{Type: corev1.EventTypeNormal, Reason: eventSandboxChanged,
			Message: "Pod sandbox changed, it will be killed and re-created."})
	}
	users, err := m.users(pod)
	if err != nil {
		return place{}, m.sandboxFailed(ctx, pod, err)
	}
	attachment, err := m.attach(ctx, pod)
	if err != nil {
		m.Recorder.Record(pod, Note{Type: corev1.EventTypeWarning, Reason: eventNetworkNotReady,
			Message: fmt.Sprintf("network is not ready: %v", err)})
		return place{}, err
	}
	if !p.NewSandbox {
		return place{state.Sandboxes[0].ID, state.Sandboxes[0].CgroupParent, attachment, users}, nil
	}
	sandbox, err := m.runSandbox(ctx, pod, p.SandboxAttempt, attachment, users)
	if err != nil {
		return place{}, m.sandboxFailed(ctx, pod, err)
	}
	return place{sandbox.ID, sandbox.CgroupParent, attachment, users}, nil
}

// sandboxFailed tells the person, unless a newer update has cancelled the sync.
func (m *Manager) sandboxFailed(ctx context.Context, pod *keelsonv1.Pod, err error) error {
	if ctx.Err() == nil {
		m.Recorder.Record(pod, Note{Type: corev1.EventTypeWarning, Reason: eventFailedSandbox,
			Message: fmt.Sprintf("Failed to create pod sandbox: %v", err)})
	}
	return fmt.Errorf("creating the sandbox: %w", err)
}

func (m *Manager) runSandbox(ctx context.Context, pod *keelsonv1.Pod, attempt uint32, attachment Attachment, users *userns.Range) (runtime.Sandbox, error) {
	config := runtime.SandboxConfig{
		PodIdentity: identity(pod), Attempt: attempt,
		NetNSPath: attachment.NetNSPath, CgroupParent: m.Cgroups.Pod(qos.Class(&pod.Spec), pod.UID),
		HostPID: pod.Spec.HostPID, HostIPC: pod.Spec.HostIPC, Sysctls: sysctls(pod), Users: users,
		SharePID: sharesPID(pod), Containers: companions(pod),
	}
	if pod.Spec.SecurityContext != nil {
		config.SELinux = computeSELinux(pod.Spec.SecurityContext.SELinuxOptions)
	}
	if err := m.checkRuntimeClass(ctx, pod); err != nil {
		return runtime.Sandbox{}, err
	}
	if !pod.Spec.HostNetwork {
		hostname, err := hostfiles.KernelHostname(pod, m.DNS.Domain)
		if err != nil {
			return runtime.Sandbox{}, err
		}
		config.Hostname = hostname
	}
	if err := m.writePodFiles(pod, attachment); err != nil {
		return runtime.Sandbox{}, err
	}
	if err := m.setPodCgroup(pod.UID, config.CgroupParent, podSettings(pod, m.Capacity)); err != nil {
		return runtime.Sandbox{}, err
	}
	return m.Runtime.RunSandbox(ctx, config)
}

// companions are how many containers of the Pod run beside each other.
func companions(pod *keelsonv1.Pod) int {
	n := len(pod.Spec.Containers)
	for i := range pod.Spec.InitContainers {
		if status.IsSidecar(&pod.Spec.InitContainers[i]) {
			n++
		}
	}
	return n
}

func sharesPID(pod *keelsonv1.Pod) bool {
	return pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace
}

// attach returns the Pod's network, from memory when it is known.
func (m *Manager) attach(ctx context.Context, pod *keelsonv1.Pod) (Attachment, error) {
	if pod.Spec.HostNetwork {
		return Attachment{}, nil
	}
	if known := m.recall(pod.UID); known.attachment != nil && !known.recheck {
		return *known.attachment, nil
	}
	users, err := m.users(pod)
	if err != nil {
		return Attachment{}, err
	}
	m.remember(pod.UID, func(p *podMemory) { p.recheck = false }) // before, so that none is lost
	attachment, err := m.Network.Attach(ctx, identity(pod), users)
	if err != nil {
		m.remember(pod.UID, func(p *podMemory) { p.recheck = true })
		return Attachment{}, fmt.Errorf("attaching to the Pod network: %w", err)
	}
	m.remember(pod.UID, func(p *podMemory) { p.attachment = &attachment })
	return attachment, nil
}

// RecheckNetworks makes the next sync of each Pod ask the network again, which repairs
// what somebody took away.
func (m *Manager) RecheckNetworks() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pods {
		p.recheck = true
	}
}

func (m *Manager) removeSandbox(ctx context.Context, id string) error {
	if err := m.Runtime.StopSandbox(ctx, id); err != nil {
		return fmt.Errorf("stopping sandbox %s: %w", id, err)
	}
	if err := m.Runtime.RemoveSandbox(ctx, id); err != nil {
		return fmt.Errorf("removing sandbox %s: %w", id, err)
	}
	return nil
}
