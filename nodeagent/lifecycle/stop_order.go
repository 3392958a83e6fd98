package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/hooks"
	"github.com/keelson-dev/keelson/nodeagent/podworker"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// Hooks runs what containers want done when they start and stop; *hooks.Runner does.
type Hooks interface {
	Run(ctx context.Context, target hooks.Target, hook *corev1.LifecycleHandler) error
}

// minimumGrace is what a container gets to end by itself although its hook, or others
// before it, have used up the time.
const minimumGrace = 2 * time.Second

// stopOrder lets sidecars end after the Pod's own containers, the last one first.
type stopOrder struct {
	// ended is closed for each container that runs no more.
	ended map[string]chan struct{}
	// before names the containers that end before the sidecar.
	before map[string][]string
}

func newStopOrder(spec *corev1.PodSpec, running []runtime.Container) stopOrder {
	o := stopOrder{ended: map[string]chan struct{}{}, before: map[string][]string{}}
	for _, c := range running {
		o.ended[c.Name] = make(chan struct{})
	}
	var earlier []string
	for i := range spec.Containers {
		earlier = append(earlier, spec.Containers[i].Name)
	}
	for i := range slices.Backward(spec.InitContainers) {
		if c := &spec.InitContainers[i]; status.IsSidecar(c) {
			o.before[c.Name] = slices.Clone(earlier)
			earlier = append(earlier, c.Name)
		}
	}
	return o
}

// await returns when it is the container's turn, and at the latest when ctx ends.
func (o stopOrder) await(ctx context.Context, name string) {
	for _, earlier := range o.before[name] {
		ended := o.ended[earlier]
		if ended == nil {
			continue // it does not run
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

// stopContainers ends every container of a Pod within grace, in order, after the hooks.
func (m *Manager) stopContainers(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState, grace time.Duration) error {
	running := slices.DeleteFunc(slices.Clone(state.Containers), func(c runtime.Container) bool {
		return c.State != runtime.Running && c.State != runtime.Unknown
	})
	order := newStopOrder(&pod.Spec, running)
	errs := make([]error, len(running))
	var group sync.WaitGroup
	for i, c := range running {
		group.Go(func() {
			errs[i] = m.stopContainer(ctx, pod, c, grace, order.await)
			if errs[i] == nil {
				close(order.ended[c.Name])
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// stopContainer runs the container's hook, awaits its turn, and stops it with what is
// left of grace. await may be nil.
func (m *Manager) stopContainer(ctx context.Context, pod *keelsonv1.Pod, c runtime.Container, grace time.Duration,
	await func(ctx context.Context, name string),
) error {
	began := m.Clock.Now()
	if grace > 0 {
		waiting, cancel := context.WithTimeout(ctx, grace)
		if c.State == runtime.Running {
			m.runPreStop(ctx, waiting, pod, c)
		}
		if await != nil {
			await(waiting, c.Name)
		}
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		if spent := m.Clock.Since(began).Truncate(time.Second); spent > 0 {
			grace = max(grace-spent, minimumGrace)
		}
	}
	if err := m.Runtime.StopContainer(ctx, c.ID, grace); err != nil {
		return fmt.Errorf("stopping container %s: %w", c.Name, err)
	}
	return nil
}

// runPreStop runs the container's hook until it is over or its time is. A Pod that is
// given less time while the hook runs runs it again with what is left, as upstream.
func (m *Manager) runPreStop(stop, hook context.Context, pod *keelsonv1.Pod, c runtime.Container) {
	spec := containerSpec(&pod.Spec, c.Name)
	if spec == nil || spec.Lifecycle == nil || spec.Lifecycle.PreStop == nil {
		return
	}
	err := m.Hooks.Run(hook, m.hookTarget(pod, spec, c.ID), spec.Lifecycle.PreStop)
	if err == nil || stop.Err() != nil {
		return
	}
	klog.FromContext(stop).V(1).Info("PreStop hook failed", "container", c.Name, "err", err)
	// What went wrong may hold secrets of the container: the event does not say it.
	m.Recorder.Record(pod, Note{c.Name, corev1.EventTypeWarning, eventFailedPreStop, "PreStopHook failed"})
}

// runPostStart runs the hook of a container that has just started. One that fails ends
// the container.
func (m *Manager) runPostStart(ctx context.Context, pod *keelsonv1.Pod, c *corev1.Container, id string) error {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	err := m.Hooks.Run(ctx, m.hookTarget(pod, c, id), c.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	klog.FromContext(ctx).Info("PostStart hook failed, ending the container", "container", c.Name, "containerID", id, "err", err)
	m.Recorder.Record(pod, Note{c.Name, corev1.EventTypeWarning, eventFailedPostStart, "PostStartHook failed"})
	m.Recorder.Record(pod, Note{c.Name, corev1.EventTypeNormal, eventKilling, eventFailedPostStart})
	m.setWaiting(pod.UID, c.Name, &corev1.ContainerStateWaiting{Reason: reasonPostStartError, Message: err.Error()})
	running := runtime.Container{ID: id, Name: c.Name, State: runtime.Running}
	if stopErr := m.stopContainer(ctx, pod, running, podworker.GracePeriod(pod), nil); stopErr != nil {
		return errors.Join(err, stopErr)
	}
	return &hookError{err}
}

// hookError says that a container was ended because of its hook.
type hookError struct{ err error }

func (e *hookError) Error() string { return e.err.Error() }

func (e *hookError) Unwrap() error { return e.err }

func (m *Manager) hookTarget(pod *keelsonv1.Pod, c *corev1.Container, id string) hooks.Target {
	previous := m.previousStatus(pod)
	return hooks.Target{ID: id, Container: c, Pod: podText(pod), PodIP: m.podIP(pod, &previous), Fallback: func(message string) {
		m.Recorder.Record(pod, Note{Type: corev1.EventTypeWarning, Reason: eventHTTPFallback, Message: message})
	}}
}
