// Package eviction ends Pods before the node runs short of memory, disk or process IDs,
// and Pods that have more on disk than they may. Thresholds, order, messages and
// conditions are those of upstream's kubelet (pkg/kubelet/eviction).
//
// decide, rank, explain and overLimit are pure; Manager measures and acts, through
// functions that it is given. It ends one Pod at a time, and only after images and dead
// containers were removed in vain; critical Pods never. It keeps in memory since when
// something is short: after a crash grace periods and the conditions' transition begin
// anew.
package eviction

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	// interval is how often the node is looked at, as upstream.
	interval = 10 * time.Second
	// cleanedTimeout is how long an evicted Pod may take to be gone before the node is
	// looked at again, cleanedRecheck how often that is asked.
	cleanedTimeout = 30 * time.Second
	cleanedRecheck = time.Second
	// hardGrace is what a Pod gets to stop that is ended at once.
	hardGrace = time.Second
)

// Part is something of a Pod that can be measured; disks cost most.
type Part int

// The parts.
const (
	PartMemory Part = 1 << iota
	PartProcesses
	PartDisk
)

// Look is what the node has.
type Look struct {
	Observations Observations
	// DedicatedImageFs: images and writable layers lie on another file system than volumes
	// and logs.
	DedicatedImageFs bool
}

// Eviction ends a Pod.
type Eviction struct {
	Pod     *keelsonv1.Pod
	Message string
	// Annotations are those of the event.
	Annotations map[string]string
	// Grace is the most that the Pod gets to stop.
	Grace time.Duration
	// Disruption: the node was short, the Pod did nothing wrong itself.
	Disruption bool
}

// Options are what a Manager works with.
type Options struct {
	Thresholds []Threshold
	// Transition is how long a condition stays true after the shortage is over, MaxGrace
	// the most that a Pod gets to stop at a soft threshold.
	Transition, MaxGrace time.Duration

	// Observe measures the node.
	Observe func(ctx context.Context) (Look, error)
	// Measure measures parts of a Pod; nil when nothing is known of it.
	Measure func(ctx context.Context, pod *keelsonv1.Pod, parts Part) *Usage
	// Pods are those that hold something of the node and are not being ended.
	Pods func() []*keelsonv1.Pod
	// Static says that a Pod comes from the node's own files: such Pods are critical.
	Static func(pod *keelsonv1.Pod) bool
	// Evict has a Pod ended; it need not wait. Cleaned says that nothing of it runs.
	Evict   func(ctx context.Context, e Eviction)
	Cleaned func(pod *keelsonv1.Pod) bool
	// ReclaimContainers removes dead containers, ReclaimImages unused images.
	ReclaimContainers, ReclaimImages func(ctx context.Context) error
	// Warn records a warning about the Node.
	Warn func(reason, message string)
	// Changed is called when the conditions have.
	Changed func()
	// Count counts an eviction by signal.
	Count func(signal string)
	Clock clock.WithTicker
}

// Manager looks after the node.
type Manager struct {
	Options
	memory memory

	mu         sync.Mutex
	conditions []corev1.NodeConditionType
}

// New returns a Manager.
func New(o Options) *Manager { return &Manager{Options: o} }

// Conditions are those of the Node that are true; nil before the first look.
func (m *Manager) Conditions() []corev1.NodeConditionType {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.conditions)
}

// Run looks at the node until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	ticker := m.Clock.NewTicker(interval)
	defer ticker.Stop()
	for {
		evicted, err := m.round(ctx)
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot look for shortages of this node, will retry")
		}
		if len(evicted) > 0 {
			m.await(ctx, evicted)
			if ctx.Err() == nil {
				continue // at once: one may not have been enough
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// await returns when nothing of the Pods runs, or that takes too long.
func (m *Manager) await(ctx context.Context, pods []*keelsonv1.Pod) {
	timeout := m.Clock.NewTimer(cleanedTimeout)
	defer timeout.Stop()
	recheck := m.Clock.NewTicker(cleanedRecheck)
	defer recheck.Stop()
	for slices.ContainsFunc(pods, func(p *keelsonv1.Pod) bool { return !m.Cleaned(p) }) {
		select {
		case <-ctx.Done():
			return
		case <-timeout.C():
			klog.FromContext(ctx).Info("An evicted Pod takes long to stop", "pods", klog.KObjSlice(pods))
			return
		case <-recheck.C():
		}
	}
}

// round looks once and acts; it returns the Pods that it ended.
func (m *Manager) round(ctx context.Context) ([]*keelsonv1.Pod, error) {
	look, err := m.Observe(ctx)
	if err != nil {
		return nil, fmt.Errorf("measuring the node: %w", err)
	}
	var v verdict
	v, m.memory = decide(m.memory, m.Thresholds, look.Observations, m.Transition, m.Clock.Now())
	m.publish(ctx, v.Conditions)
	if evicted := m.enforceLimits(ctx, look); len(evicted) > 0 {
		return evicted, nil
	}
	if len(v.Active) == 0 {
		return nil, nil
	}
	return m.relieve(ctx, look, v)
}

func (m *Manager) publish(ctx context.Context, conditions []corev1.NodeConditionType) {
	m.mu.Lock()
	changed, first := !slices.Equal(m.conditions, conditions), m.conditions == nil
	m.conditions = append([]corev1.NodeConditionType{}, conditions...) // not nil: they are known now
	m.mu.Unlock()
	if changed {
		klog.FromContext(ctx).Info("What this node is short of has changed", "conditions", conditions)
	}
	if changed || first {
		m.Changed()
	}
}

// enforceLimits ends every Pod that has grown beyond a limit of its own.
func (m *Manager) enforceLimits(ctx context.Context, look Look) []*keelsonv1.Pod {
	var evicted []*keelsonv1.Pod
	for _, pod := range m.Pods() {
		if !HasLimits(pod) || m.isCritical(pod) {
			continue
		}
		usage := m.Measure(ctx, pod, PartDisk)
		if usage == nil {
			continue
		}
		if kind, message := overLimit(pod, usage, look.DedicatedImageFs); kind != "" {
			m.evict(ctx, kind, Eviction{Pod: pod, Message: message, Grace: hardGrace})
			evicted = append(evicted, pod)
		}
	}
	return evicted
}

// relieve frees what is short: by removing what nobody needs, else by ending a Pod.
func (m *Manager) relieve(ctx context.Context, look Look, v verdict) ([]*keelsonv1.Pod, error) {
	log, first := klog.FromContext(ctx), v.Active[0]
	short := resourceOf(first.Signal)
	log.Info("This node is short of something", "resource", short, "signal", first.Signal, "available", look.Observations[first.Signal].Available)
	m.Warn("EvictionThresholdMet", fmt.Sprintf("Attempting to reclaim %s", short))
	if enough, err := m.reclaim(ctx, first.Signal, look.DedicatedImageFs); enough || err != nil {
		return nil, err
	}
	candidates := m.candidates(ctx, first.Signal)
	rank(candidates, first.Signal, look.DedicatedImageFs)
	for _, c := range candidates {
		if m.isCritical(c.Pod) {
			log.Info("Cannot evict a critical Pod", "pod", klog.KObj(c.Pod))
			continue
		}
		message, annotations := explain(c, short, v.Active, look.Observations)
		m.evict(ctx, string(first.Signal), Eviction{
			Pod: c.Pod, Message: message, Annotations: annotations, Grace: m.grace(first, c.Pod), Disruption: true,
		})
		return []*keelsonv1.Pod{c.Pod}, nil
	}
	log.Info("No Pod can be evicted", "resource", short)
	return nil, nil
}

// grace is what a Pod gets to stop.
func (m *Manager) grace(t Threshold, pod *keelsonv1.Pod) time.Duration {
	if t.hard() {
		return hardGrace
	}
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return min(m.MaxGrace, time.Duration(*s)*time.Second)
	}
	return m.MaxGrace
}

func (m *Manager) evict(ctx context.Context, signal string, e Eviction) {
	klog.FromContext(ctx).Info("Evicting a Pod", "pod", klog.KObj(e.Pod), "podUID", e.Pod.UID, "reason", e.Message, "signal", signal)
	m.Count(signal)
	m.Evict(ctx, e)
}

// reclaim removes what nobody needs from the disk that is short, and says that it was
// enough.
func (m *Manager) reclaim(ctx context.Context, s Signal, dedicatedImageFs bool) (bool, error) {
	if conditionOf(s) != corev1.NodeDiskPressure || dedicatedImageFs && areasOf(s, true) != areaRootfs {
		return false, nil
	}
	for _, free := range []func(context.Context) error{m.ReclaimContainers, m.ReclaimImages} {
		if err := free(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot free everything that nobody needs")
		}
	}
	look, err := m.Observe(ctx)
	if err != nil {
		return false, fmt.Errorf("measuring the node: %w", err)
	}
	return len(crossedThresholds(m.Thresholds, look.Observations, true)) == 0, nil
}

func (m *Manager) candidates(ctx context.Context, s Signal) []Candidate {
	part := PartDisk
	switch conditionOf(s) {
	case corev1.NodeMemoryPressure:
		part = PartMemory
	case corev1.NodePIDPressure:
		part = PartProcesses
	}
	var candidates []Candidate
	for _, pod := range m.Pods() {
		candidates = append(candidates, Candidate{Pod: pod, Usage: m.Measure(ctx, pod, part)})
	}
	return candidates
}
