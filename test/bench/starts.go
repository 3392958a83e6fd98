package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Starts are the times of single Pods, each from the moment before its creation was
// sent to the moment the watch showed the step.
type Starts struct {
	Created Distribution `json:"createdSeconds"` // the answer to the creation
	Bound   Distribution `json:"boundSeconds"`   // spec.nodeName is set
	Running Distribution `json:"runningSeconds"` // status.phase is Running
	Ready   Distribution `json:"readySeconds"`   // condition Ready is True
	Gone    Distribution `json:"goneSeconds"`    // from the deletion to the end of the object
}

// Distribution are measured times, in the order in which they were measured.
type Distribution []float64

// quantile is the smallest value that at least a part q of all does not exceed.
func (d Distribution) quantile(q float64) float64 {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// startPods starts and ends Pods one after another. A first one, which is not counted,
// brings the image.
func (w *workload) startPods(ctx context.Context, n int) (*Starts, error) {
	if err := w.startPod(ctx, "warm-up", &Starts{}); err != nil {
		return nil, err
	}
	s := &Starts{}
	for i := range n {
		if err := w.startPod(ctx, fmt.Sprintf("start-%d", i), s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (w *workload) startPod(ctx context.Context, name string, into *Starts) error {
	pod, err := w.pod(name)
	if err != nil {
		return err
	}
	var created, bound, running, ready time.Duration
	clock := time.Now()
	create := func() error {
		clock = time.Now()
		_, err := w.pods().Create(ctx, pod, metav1.CreateOptions{})
		created = time.Since(clock)
		return err
	}
	err = follow(ctx, w.pods(), create, func(_ watch.EventType, pod *corev1.Pod) bool {
		if pod.Name != name {
			return false
		}
		note(&bound, clock, pod.Spec.NodeName != "")
		note(&running, clock, pod.Status.Phase == corev1.PodRunning)
		note(&ready, clock, isReady(pod))
		return ready > 0
	})
	if err != nil {
		return fmt.Errorf("start Pod %s: %w", name, err)
	}
	gone, err := w.endPod(ctx, name)
	if err != nil {
		return fmt.Errorf("end Pod %s: %w", name, err)
	}
	into.add(created, bound, running, ready, gone)
	return nil
}

func (s *Starts) add(created, bound, running, ready, gone time.Duration) {
	for d, took := range map[*Distribution]time.Duration{
		&s.Created: created, &s.Bound: bound, &s.Running: running, &s.Ready: ready, &s.Gone: gone,
	} {
		*d = append(*d, took.Seconds())
	}
}

// note keeps the first time at which something held.
func note(first *time.Duration, clock time.Time, holds bool) {
	if holds && *first == 0 {
		*first = time.Since(clock)
	}
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (w *workload) endPod(ctx context.Context, name string) (took time.Duration, err error) {
	clock := time.Now()
	remove := func() error { return w.pods().Delete(ctx, name, metav1.DeleteOptions{}) }
	err = follow(ctx, w.pods(), remove, func(event watch.EventType, pod *corev1.Pod) bool {
		return event == watch.Deleted && pod.Name == name
	})
	return time.Since(clock), err
}
