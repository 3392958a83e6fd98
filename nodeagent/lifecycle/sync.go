package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/podworker"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// SyncPod implements podworker.Syncer: it reads what runs, plans, executes the plan
// and sets the status that results.
func (m *Manager) SyncPod(ctx context.Context, pod *keelsonv1.Pod) (podworker.Result, error) {
	state, err := m.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		return podworker.Result{}, fmt.Errorf("reading the Pod's containers: %w", err)
	}
	m.syncProbes(pod, state)
	m.endOverdue(pod)
	if m.MayStart != nil && !m.MayStart(pod.UID) {
		return podworker.Result{}, nil // no status: after a crash the Pod is admitted again
	}
	if m.recall(pod.UID).failure != nil {
		m.publish(ctx, pod, state, false)
		return podworker.Result{Finished: true}, nil
	}
	p := computePlan(facts{pod: pod, state: state, previous: m.previousStatus(pod), backoff: m.holdOff(pod), health: m.Probes.Health,
		dead: m.Dead, capacity: m.Capacity, now: m.Clock.Now()})
	if p.Finished {
		m.publish(ctx, pod, state, false)
		return podworker.Result{Finished: true}, nil
	}
	m.applyWaits(pod, &p)
	m.publish(ctx, pod, state, false)

	retryAt, err := m.applyPlan(ctx, pod, state, &p)
	if len(p.Start) > 0 || len(p.Stop) > 0 || len(p.Resize) > 0 || p.NewSandbox || m.recall(pod.UID).resize.started {
		state, stateErr := m.Runtime.Pod(ctx, pod.UID)
		if stateErr != nil {
			return podworker.Result{}, errors.Join(err, fmt.Errorf("reading the Pod's containers: %w", stateErr))
		}
		m.syncProbes(pod, state)
		m.concludeResize(pod, state)
		m.publish(ctx, pod, state, false)
	}
	for _, w := range p.Waits {
		retryAt = earlier(retryAt, w.Until)
	}
	retryAt = earlier(retryAt, m.deadline(pod))
	return podworker.Result{RetryAt: retryAt}, err
}

// showBackOffAfter is how long a failed pull shows as ErrImagePull before it shows as
// ImagePullBackOff.
const showBackOffAfter = 3 * time.Second

// applyPlan executes p and says when to look again.
func (m *Manager) applyPlan(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState, p *plan) (time.Time, error) {
	if len(p.Reset) > 0 {
		return m.reset(ctx, pod, p.Reset)
	}
	if err := m.applyStops(ctx, pod, p); err != nil {
		return time.Time{}, err
	}
	if err := m.applyRemovals(ctx, pod, p); err != nil {
		return time.Time{}, err
	}
	resizeErr := m.applyResize(ctx, pod, state, p)
	retryAt, err := m.applyRest(ctx, pod, state, p)
	return retryAt, errors.Join(resizeErr, err)
}

// applyRest starts what the plan says, or keeps what a running Pod lives on.
func (m *Manager) applyRest(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState, p *plan) (time.Time, error) {
	if len(p.Start) == 0 {
		if _, err := m.attach(ctx, pod); err != nil { // an adopted Pod's address becomes known again
			return time.Time{}, err
		}
		return m.setUpVolumes(ctx, pod)
	}

	pullCtx, stopPulls := context.WithCancel(ctx)
	defer stopPulls()
	pulls, err := m.startPulls(pullCtx, pod, p.Start)
	if err != nil {
		return time.Time{}, err
	}
	filesAt, err := m.setUpVolumes(ctx, pod)
	if err != nil {
		return time.Time{}, err
	}
	at, err := m.ensureSandbox(ctx, pod, state, p)
	if err != nil {
		return time.Time{}, err
	}
	retryAt, err := m.applyStarts(ctx, pod, p.Start, at, pulls)
	return earlier(retryAt, filesAt), err
}

// place is where containers start.
type place struct {
	sandboxID  string
	cgroup     string
	attachment Attachment
	// users are the sandbox's own IDs, nil for the machine's.
	users *userns.Range
}

// pull is an image on its way, with those of the container's volumes; the channel
// delivers once.
type pull struct {
	image   runtime.Image
	volumes []*volumePull
	err     error
}

// startPulls gets all images at once, beside the sandbox.
func (m *Manager) startPulls(ctx context.Context, pod *keelsonv1.Pod, steps []startStep) ([]<-chan pull, error) {
	pulls := make([]<-chan pull, len(steps))
	credentials := m.pullCredentials(ctx, pod)
	volumes, err := m.startVolumePulls(ctx, pod, steps, credentials)
	if err != nil {
		return nil, err
	}
	for i, step := range steps {
		done := make(chan pull, 1)
		pulls[i] = done
		go func() {
			image, err := m.Images.Ensure(ctx, images.Request{
				Pod: pod.UID, Image: step.Container.Image, Policy: step.Container.ImagePullPolicy, Credentials: credentials,
			}, func(e images.Event) {
				m.Recorder.Record(pod, Note{step.Container.Name, e.Type, e.Reason, e.Message})
			})
			needed, volumeErr := volumes.wait(step.Container)
			if err == nil && volumeErr != nil {
				m.noteVolumeImage(pod, step.Container.Name, volumeErr)
				err = volumeErr
			}
			done <- pull{image, needed, err}
		}()
	}
	return pulls, nil
}

// applyStarts starts containers in the order of the spec; one that fails does not
// hold up the next.
func (m *Manager) applyStarts(ctx context.Context, pod *keelsonv1.Pod, steps []startStep, at place, pulls []<-chan pull) (time.Time, error) {
	var retryAt time.Time
	var errs []error
	for i, step := range steps {
		got := <-pulls[i]
		name := step.Container.Name
		if ctx.Err() != nil {
			return time.Time{}, ctx.Err()
		}
		err := got.err
		if err == nil {
			err = m.mountImages(ctx, pod, name, got.volumes)
		}
		if err == nil {
			err = m.startContainer(ctx, pod, step, at, got.image)
		}
		var image *images.Error
		var start *runtime.StartError
		var hook *hookError
		switch {
		case err == nil:
			m.setWaiting(pod.UID, name, nil)
			if step.Sidecar {
				retryAt = earlier(retryAt, m.Clock.Now()) // the next one may follow
			}
		case errors.As(err, &image):
			m.setWaiting(pod.UID, name, &corev1.ContainerStateWaiting{Reason: image.Reason, Message: image.Message})
			retryAt = earlier(retryAt, image.RetryAt)
			if image.Reason == images.ReasonErrImagePull {
				retryAt = earlier(retryAt, m.Clock.Now().Add(showBackOffAfter))
			}
		case errors.As(err, &start), errors.As(err, &hook):
			retryAt = earlier(retryAt, m.Clock.Now()) // it has ended: the next sync holds it off
		default:
			errs = append(errs, fmt.Errorf("container %s: %w", name, err))
		}
	}
	return retryAt, errors.Join(errs...)
}

// applyWaits records why containers do not start now, and drops reasons that no
// longer hold.
func (m *Manager) applyWaits(pod *keelsonv1.Pod, p *plan) {
	before := m.recall(pod.UID).waiting
	for name := range before {
		if !slices.ContainsFunc(p.Start, func(s startStep) bool { return s.Container.Name == name }) {
			m.setWaiting(pod.UID, name, nil)
		}
	}
	for _, w := range p.Waits {
		m.setWaiting(pod.UID, w.Name, &w.Waiting)
		if before[w.Name] != w.Waiting {
			m.Recorder.Record(pod, Note{w.Name, corev1.EventTypeWarning, eventBackOff,
				fmt.Sprintf("Back-off restarting failed container %s in pod %s", w.Name, podText(pod))})
		}
	}
}

func (m *Manager) applyStops(ctx context.Context, pod *keelsonv1.Pod, p *plan) error {
	var errs []error
	for _, s := range p.Stop {
		m.Recorder.Record(pod, Note{s.Container.Name, corev1.EventTypeNormal, eventKilling, s.Message})
		if err := m.stopContainer(ctx, pod, s.Container, s.Grace, nil); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) applyRemovals(ctx context.Context, pod *keelsonv1.Pod, p *plan) error {
	for _, c := range p.RemoveContainers {
		if err := m.removeContainer(ctx, identity(pod), c); err != nil {
			return err
		}
	}
	for _, id := range p.RemoveSandboxes {
		if err := m.removeSandbox(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// holdOff pauses a container that keeps ending: 10 s, doubling to 5 min, forgotten
// after it ran for 10 min.
func (m *Manager) holdOff(pod *keelsonv1.Pod) holdOff {
	return func(c *corev1.Container, ended *runtime.Container) (time.Time, time.Duration) {
		key := backoffKey(pod, c)
		since := m.endOf(pod.UID, ended)
		if !m.backoff.IsInBackOffSince(key, since) {
			return time.Time{}, 0
		}
		delay := m.backoff.Get(key)
		return since.Add(delay), delay
	}
}

// previousStatus is the last status set here, else the one in the API.
func (m *Manager) previousStatus(pod *keelsonv1.Pod) corev1.PodStatus {
	if s, ok := m.Status.Get(pod.UID); ok {
		return s
	}
	return pod.Status.PodStatus
}

// publish computes and sets the status.
func (m *Manager) publish(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState, terminal bool) {
	memory := m.recall(pod.UID)
	in := status.Input{
		Pod: pod, Previous: m.previousStatus(pod), State: m.withMessages(ctx, pod, state),
		RuntimeName: m.RuntimeName, Waiting: memory.waiting, Terminal: terminal, Failure: memory.failure,
		Health: m.health, Resize: m.resizeStatus(pod, state), HostIPs: m.HostIPs, Now: metav1.NewTime(m.Clock.Now()),
	}
	if memory.attachment != nil && len(state.Sandboxes) > 0 {
		in.PodIPs = memory.attachment.IPs()
	}
	s := status.Compute(in)
	if before := in.Previous.Phase; before != s.Phase {
		klog.FromContext(ctx).V(2).Info("Pod changed phase", "from", before, "to", s.Phase, "reason", s.Reason)
		if m.PhaseChanged != nil {
			m.PhaseChanged(pod.UID, before, s.Phase)
		}
	}
	m.Status.Set(pod, s)
}

func identity(pod *keelsonv1.Pod) runtime.PodIdentity {
	return runtime.PodIdentity{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name}
}

func podText(pod *keelsonv1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
