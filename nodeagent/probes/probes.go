// Package probes asks running containers whether they have started, live and are ready.
//
// One goroutine belongs to each probe of a running container: it ends with the
// container, and another attempt has probes of its own. The Manager keeps what the
// probes found and says when that changes; it never stops, starts or writes anything
// itself. Nothing is on disk: after a crash the first Sync takes over what the Pod's
// status said, so that a restart of the agent makes no container unready, and old
// containers are probed again spread over one period.
package probes

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Kind is what a probe finds out; the names are upstream's, as in events.
type Kind string

// The kinds of probes.
const (
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
	Startup   Kind = "Startup"
)

var kinds = []Kind{Startup, Readiness, Liveness}

func (k Kind) spec(c *corev1.Container) *corev1.Probe {
	switch k {
	case Liveness:
		return c.LivenessProbe
	case Readiness:
		return c.ReadinessProbe
	default:
		return c.StartupProbe
	}
}

// Target is a running container.
type Target struct {
	// ID is the runtime's.
	ID        string
	Container *corev1.Container
	StartedAt time.Time
	// PodIP is where network probes go that name no host.
	PodIP string
	// WasStarted and WasReady are what the Pod's status last said of this very
	// container. They count until its probes have found something.
	WasStarted, WasReady bool
}

// Health is what the probes of a container have found so far.
type Health struct {
	Started, Ready bool
	// Failed is Liveness or Startup when that probe says that the container must end.
	Failed Kind
}

// Executor runs commands in containers; runtime.Streamer is one.
type Executor interface {
	Exec(ctx context.Context, containerID string, command []string, streams runtime.Streams) error
}

// Record writes an event about a container.
type Record func(pod *keelsonv1.Pod, container, eventType, reason, message string)

// Options are what a Manager works with.
type Options struct {
	Executor Executor
	Clock    clock.WithTicker
	Record   Record
	// Changed is told when the Health of a container of the Pod has changed. It must
	// not wait for the Manager.
	Changed func(uid types.UID)
	// Observe is told of every probe that was made; nil when nobody counts. It must not
	// wait.
	Observe func(Observation)
}

// Observation is one probe that was made.
type Observation struct {
	Pod       *keelsonv1.Pod
	Container string
	Kind      Kind
	// Failed: the container did not pass. Unknown: the probe could not be made.
	Failed, Unknown bool
	Took            time.Duration
}

// Manager probes containers until its context ends; use New.
type Manager struct {
	Options
	ctx     context.Context //nolint:containedctx // the life of the probes, as with podworker.Pool
	checker checker
	group   sync.WaitGroup

	mu         sync.Mutex
	pods       map[types.UID]map[string]*container
	containers map[string]*container
}

// container is one running container that has probes.
type container struct {
	ctx    context.Context //nolint:containedctx // it ends the container's probes
	cancel context.CancelFunc
	// stopAlive ends those that could demand a restart.
	stopAlive context.CancelFunc
	// adopted: it ran before this agent knew of it.
	adopted bool
	started chan struct{}

	// Guarded by Manager.mu.
	pod    *keelsonv1.Pod
	target Target
	health Health
}

// New returns a Manager that probes nothing yet.
func New(ctx context.Context, o Options) *Manager {
	return &Manager{Options: o, ctx: ctx, checker: newChecker(o.Executor),
		pods: map[types.UID]map[string]*container{}, containers: map[string]*container{}}
}

// Wait returns when no probe runs any more; call it after the context has ended.
func (m *Manager) Wait() { m.group.Wait() }

// Sync makes targets the containers of the Pod that are probed. Probes of containers
// that are there already go on.
func (m *Manager) Sync(pod *keelsonv1.Pod, targets []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.pods[pod.UID]
	now := map[string]*container{}
	for _, t := range targets {
		if !hasProbes(t.Container) {
			continue
		}
		c := known[t.ID]
		if c == nil {
			c = m.addLocked(pod, t)
		}
		c.pod, c.target = pod, t
		now[t.ID] = c
	}
	for id, c := range known {
		if now[id] == nil {
			c.cancel()
			delete(m.containers, id)
		}
	}
	if len(now) == 0 {
		delete(m.pods, pod.UID)
		return
	}
	m.pods[pod.UID] = now
}

func hasProbes(c *corev1.Container) bool {
	return c.LivenessProbe != nil || c.ReadinessProbe != nil || c.StartupProbe != nil
}

func (m *Manager) addLocked(pod *keelsonv1.Pod, t Target) *container {
	c := &container{pod: pod, target: t, adopted: t.WasStarted || t.WasReady, started: make(chan struct{})}
	c.health = Health{
		Started: t.Container.StartupProbe == nil || t.WasStarted,
		Ready:   t.Container.ReadinessProbe == nil || t.WasReady,
	}
	if c.health.Started {
		close(c.started)
	}
	c.ctx, c.cancel = context.WithCancel(m.ctx)
	alive, stopAlive := context.WithCancel(c.ctx)
	c.stopAlive = stopAlive
	m.containers[t.ID] = c
	for _, kind := range kinds {
		if kind.spec(t.Container) == nil || kind == Startup && c.health.Started {
			continue
		}
		w := &worker{manager: m, container: c, kind: kind, spec: kind.spec(t.Container)}
		ctx := alive
		if kind == Readiness {
			ctx = c.ctx
		}
		m.group.Go(func() { w.run(ctx) })
	}
	return c
}

// Health returns what is known of a running container. One without probes has started
// and is ready; one that waits for its startup probe is not ready.
func (m *Manager) Health(id string) Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.containers[id]
	if c == nil {
		return Health{Started: true, Ready: true}
	}
	h := c.health
	h.Ready = h.Ready && h.Started
	return h
}

// Terminating ends the probes of a Pod that could demand a restart. Readiness goes on
// being watched until the containers have ended.
func (m *Manager) Terminating(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.pods[uid] {
		c.stopAlive()
		c.health.Failed = ""
	}
}

// Forget ends all probes of a Pod.
func (m *Manager) Forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, c := range m.pods[uid] {
		c.cancel()
		delete(m.containers, id)
	}
	delete(m.pods, uid)
}

// aim returns what to probe now.
func (m *Manager) aim(c *container) (*keelsonv1.Pod, Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return c.pod, c.target
}

// conclude takes note of what a probe found once its threshold was reached.
func (m *Manager) conclude(ctx context.Context, c *container, kind Kind, success bool) {
	m.mu.Lock()
	if ctx.Err() != nil {
		m.mu.Unlock()
		return // the container is being stopped, or is gone
	}
	before := c.health
	switch {
	case kind == Readiness:
		c.health.Ready = success
	case !success:
		c.health.Failed = kind
	case kind == Startup && !c.health.Started:
		c.health.Started = true
		close(c.started)
	}
	changed, uid := c.health != before, c.pod.UID
	m.mu.Unlock()
	if changed {
		m.Changed(uid)
	}
}
