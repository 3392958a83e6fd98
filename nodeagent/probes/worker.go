package probes

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Reasons of events, as upstream.
const (
	eventUnhealthy    = "Unhealthy"
	eventProbeWarning = "ProbeWarning"
)

// worker runs one probe of one running container.
type worker struct {
	manager   *Manager
	container *container
	kind      Kind
	spec      *corev1.Probe

	// last is the latest outcome and inRow how often in a row it came.
	last  bool
	inRow int32
}

func (w *worker) run(ctx context.Context) {
	if w.kind != Startup {
		select {
		case <-ctx.Done():
			return
		case <-w.container.started:
		}
	}
	if !w.sleep(ctx, w.firstDelay()) {
		return
	}
	ticker := w.manager.Clock.NewTicker(period(w.spec))
	defer ticker.Stop()
	for w.probe(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

func period(spec *corev1.Probe) time.Duration {
	return time.Duration(max(spec.PeriodSeconds, 1)) * time.Second
}

// firstDelay is the rest of the initial delay. The probes of a container that was
// adopted begin somewhere within their period, the same for the same container: an
// agent that starts does not ask all containers at once.
func (w *worker) firstDelay() time.Duration {
	_, t := w.manager.aim(w.container)
	delay := t.StartedAt.Add(time.Duration(w.spec.InitialDelaySeconds) * time.Second).Sub(w.manager.Clock.Now())
	if w.container.adopted {
		h := fnv.New32a()
		h.Write([]byte(t.ID + string(w.kind)))
		delay = max(delay, time.Duration(float64(period(w.spec))*float64(h.Sum32())/math.MaxUint32))
	}
	return delay
}

func (w *worker) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := w.manager.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

// probe asks once and says whether to go on: a probe that decided that the container
// has started, or that it must end, is done.
func (w *worker) probe(ctx context.Context) bool {
	pod, t := w.manager.aim(w.container)
	asked := w.manager.Clock.Now()
	found, err := w.manager.checker.checkWithRetries(ctx, w.spec, t)
	if ctx.Err() != nil {
		return false
	}
	if observe := w.manager.Observe; observe != nil {
		observe(Observation{
			Pod: pod, Container: t.Container.Name, Kind: w.kind, Took: w.manager.Clock.Since(asked),
			Failed: err == nil && found.outcome == failure, Unknown: err != nil,
		})
	}
	log := klog.FromContext(ctx).WithValues("pod", klog.KObj(pod), "container", t.Container.Name, "probe", w.kind)
	switch {
	case err != nil:
		log.V(1).Info("Probe could not be made", "err", err)
		w.record(pod, t, eventUnhealthy, fmt.Sprintf("%s probe errored and resulted in %s state: %v", w.kind, "unknown", err))
		return true // it says nothing about the container
	case found.outcome == failure:
		log.V(1).Info("Probe failed", "output", found.output)
		w.record(pod, t, eventUnhealthy, fmt.Sprintf("%s probe failed: %s", w.kind, found.output))
	case found.outcome == warning:
		w.record(pod, t, eventProbeWarning, fmt.Sprintf("%s probe warning: %s", w.kind, found.output))
	}
	return w.count(ctx, found.outcome != failure)
}

func (w *worker) record(pod *keelsonv1.Pod, t Target, reason, message string) {
	w.manager.Record(pod, t.Container.Name, corev1.EventTypeWarning, reason, message)
}

// count applies the thresholds to one more outcome.
func (w *worker) count(ctx context.Context, success bool) bool {
	if w.inRow > 0 && w.last == success {
		w.inRow++
	} else {
		w.last, w.inRow = success, 1
	}
	if success && w.inRow < w.spec.SuccessThreshold || !success && w.inRow < w.spec.FailureThreshold {
		return true
	}
	w.manager.conclude(ctx, w.container, w.kind, success)
	return w.kind == Readiness || w.kind == Liveness && success
}
