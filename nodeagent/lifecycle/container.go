package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/hostfiles"
	"github.com/keelson-dev/keelson/nodeagent/logs"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// startContainer creates and starts one container. On failure it leaves the reason
// for the status and an event.
func (m *Manager) startContainer(ctx context.Context, pod *keelsonv1.Pod, step startStep, at place, image runtime.Image) error {
	name := step.Container.Name
	if step.Previous != nil && step.Previous.State == runtime.Exited {
		m.backoff.Next(backoffKey(pod, step.Container), step.Previous.FinishedAt)
	}
	defer m.releaseMounts(ctx, pod, step.Container)
	config, err := m.containerConfig(ctx, pod, step, at, image)
	if err != nil {
		return m.startFailed(ctx, pod, name, reasonConfigError, err)
	}
	id, err := m.Runtime.CreateContainer(ctx, config)
	if err != nil {
		return m.startFailed(ctx, pod, name, reasonCreateError, err)
	}
	m.Recorder.Record(pod, Note{name, corev1.EventTypeNormal, eventCreated, "Container created"})
	if err := m.linkLog(identity(pod), name, id, config.LogPath); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot link the container's log", "container", name)
	}
	if err := m.Runtime.StartContainer(ctx, id); err != nil {
		return m.startFailed(ctx, pod, name, reasonRunError, err)
	}
	m.Recorder.Record(pod, Note{name, corev1.EventTypeNormal, eventStarted, "Container started"})
	klog.FromContext(ctx).V(2).Info("Started container", "container", name, "containerID", id, "attempt", step.Attempt)
	return m.runPostStart(ctx, pod, step.Container, id)
}

func (m *Manager) startFailed(ctx context.Context, pod *keelsonv1.Pod, name, reason string, err error) error {
	if ctx.Err() != nil {
		return err // a newer update has cancelled the sync: nothing failed
	}
	message := err.Error()
	if start, ok := errors.AsType[*runtime.StartError](err); ok {
		message = start.Message
	}
	m.setWaiting(pod.UID, name, &corev1.ContainerStateWaiting{Reason: reason, Message: message})
	m.Recorder.Record(pod, Note{name, corev1.EventTypeWarning, eventFailed, "Error: " + message})
	return fmt.Errorf("%s: %w", reason, err)
}

// containerConfig gathers all that the container is made from, and makes the folders
// and files that it mounts.
func (m *Manager) containerConfig(ctx context.Context, pod *keelsonv1.Pod, step startStep, at place, image runtime.Image) (runtime.ContainerConfig, error) {
	c := step.Container
	target, err := m.targetID(ctx, pod, step.Target)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	environment, err := m.environment(ctx, pod, c, at.attachment)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	if err := m.writePodFiles(pod, at.attachment); err != nil {
		return runtime.ContainerConfig{}, err
	}
	messagePath, err := m.makeTerminationFile(pod, c, step.Attempt)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	logPath, err := m.makeLogFolder(identity(pod), c.Name, step.Attempt)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	ref := image.Digest
	if ref == "" {
		ref = image.Ref
	}
	hostname, err := m.hostname(pod)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	security, err := m.security(pod, c, image)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	mounts, err := m.Volumes.Mounts(ctx, pod, c, environment.Env)
	if err != nil {
		return runtime.ContainerConfig{}, err
	}
	add, drop := capabilities(c)
	return runtime.ContainerConfig{
		PodIdentity: identity(pod), Name: c.Name, Attempt: step.Attempt, SandboxID: at.sandboxID,
		Image: c.Image, ImageRef: ref, SpecHash: specHash(c),
		Command: environment.Command, Args: environment.Args, WorkingDir: c.WorkingDir, Env: environment.Env,
		Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY, PIDTargetID: target,
		AddCapabilities: add, DropCapabilities: drop, Hostname: hostname,
		SharePID:     sharesPID(pod),
		HostPID:      pod.Spec.HostPID,
		HostIPC:      pod.Spec.HostIPC,
		Security:     security,
		Users:        at.users,
		Mounts:       append(m.mounts(pod, c, messagePath), mounts...),
		Resources:    computeResources(pod, c, m.Capacity),
		CgroupParent: at.cgroup, LogPath: logPath, TerminationMessageHostPath: messagePath,
	}, nil
}

// hostname is what the Pod's programs take for the machine's name.
func (m *Manager) hostname(pod *keelsonv1.Pod) (string, error) {
	if pod.Spec.HostNetwork {
		return m.Hostname, nil
	}
	return hostfiles.KernelHostname(pod, m.DNS.Domain)
}

func capabilities(c *corev1.Container) (add, drop []string) {
	if c.SecurityContext == nil || c.SecurityContext.Capabilities == nil {
		return nil, nil
	}
	for _, name := range c.SecurityContext.Capabilities.Add {
		add = append(add, string(name))
	}
	for _, name := range c.SecurityContext.Capabilities.Drop {
		drop = append(drop, string(name))
	}
	return add, drop
}

// targetID finds the container whose processes an ephemeral container is to see.
func (m *Manager) targetID(ctx context.Context, pod *keelsonv1.Pod, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	state, err := m.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		return "", fmt.Errorf("reading the Pod's containers: %w", err)
	}
	newest := newestOf(state.Containers, name)
	if newest == nil {
		return "", fmt.Errorf("unable to find target container %s", name)
	}
	return newest.ID, nil
}

// removeContainer removes a container that does not run, and its logs. The container
// goes last: the names of the rest follow from it.
func (m *Manager) removeContainer(ctx context.Context, id runtime.PodIdentity, c runtime.Container) error {
	var rotated []string
	if c.LogPath != "" {
		var err error
		if rotated, err = logs.Rotated(c.LogPath); err != nil {
			return err
		}
	}
	for _, path := range append(rotated, c.LogPath, m.logLink(id, c.Name, c.ID), c.TerminationMessageHostPath) {
		if path == "" {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing what container %s left: %w", c.Name, err)
		}
	}
	if err := m.Runtime.RemoveContainer(ctx, c.ID); err != nil {
		return fmt.Errorf("removing container %s: %w", c.Name, err)
	}
	return nil
}
