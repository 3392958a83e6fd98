package queue

import (
	"context"
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

const (
	// FlushAfter is how long a refused Pod waits at most without any helping event;
	// upstream's.
	FlushAfter = 5 * time.Minute
	// keptEvents bounds what is remembered of events that come while a Pod is being
	// decided; after more of them the Pod is tried again.
	keptEvents = 200
)

// Options are the waiting times.
type Options struct {
	Clock clock.Clock
	// InitialBackoff doubles with each refusal up to MaxBackoff.
	InitialBackoff, MaxBackoff time.Duration
}

// Queue is the Pods to place. Every method may be called from any goroutine.
type Queue struct {
	options Options

	mu      sync.Mutex
	entries map[types.UID]*entry
	// active entries by priority and arrival; waiting ones by when they are due.
	active, waiting entryHeap
	// byEvent are waiting entries by the single kinds of events that may help them.
	byEvent  [plugins.EventKinds]map[*entry]struct{}
	inFlight map[*entry]struct{}
	sequence uint64
	wake     chan struct{}
}

// entry is one Pod in the queue.
type entry struct {
	info *state.PodInfo
	// attempts counts decisions that did not end in a binding.
	attempts int
	// sequence orders Pods of one priority by arrival.
	sequence uint64
	state    entryState
	place    int
	// due is when a waiting entry becomes active by itself.
	due time.Time
	// backoffUntil is the earliest time at which an event may make it active.
	backoffUntil time.Time
	// wakers know which events help a refused entry.
	wakers []plugins.Waker
	// missed collects the events that came while the entry was being decided; overflow
	// says that there were more.
	missed   []*plugins.Event
	overflow bool
	// changed says that the Pod itself changed while it was being decided.
	changed bool
}

type entryState uint8

const (
	active entryState = iota
	waiting
	inFlight
)

// New returns an empty queue.
func New(o Options) *Queue {
	q := &Queue{options: o, entries: map[types.UID]*entry{}, inFlight: map[*entry]struct{}{}, wake: make(chan struct{}, 1)}
	q.active.less = before
	q.waiting.less = func(a, b *entry) bool { return a.due.Before(b.due) }
	for i := range q.byEvent {
		q.byEvent[i] = map[*entry]struct{}{}
	}
	return q
}

// before is upstream's PrioritySort.
func before(a, b *entry) bool {
	if pa, pb := a.info.Priority(), b.info.Priority(); pa != pb {
		return pa > pb
	}
	return a.sequence < b.sequence
}

// Set adds a Pod or stores its newer version. A change that placing depends on makes a
// waiting Pod active; a changed status does not.
func (q *Queue) Set(info *state.PodInfo) {
	q.mu.Lock()
	defer q.mu.Unlock()
	known, ok := q.entries[info.Pod.UID]
	if !ok {
		q.sequence++
		added := &entry{info: info, sequence: q.sequence}
		q.entries[info.Pod.UID] = added
		q.activate(added)
		return
	}
	changed := Changed(known.info.Pod, info.Pod)
	known.info = info
	switch {
	case !changed:
	case known.state == waiting:
		q.stopWaiting(known)
		q.activate(known)
	case known.state == active:
		q.active.update(known)
	default:
		known.changed = true
	}
}

// Changed tells whether anything changed that placing the Pod depends on.
func Changed(before, after *keelsonv1.Pod) bool {
	return before.UID != after.UID || before.Generation != after.Generation || !maps.Equal(before.Labels, after.Labels)
}

// Pod returns the newest version of a queued Pod, or nil.
func (q *Queue) Pod(uid types.UID) *state.PodInfo {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := q.entries[uid]; ok {
		return e.info
	}
	return nil
}

// Remove forgets a Pod that is bound, deleted or not ours any more, and returns it as it
// was last known, or nil.
func (q *Queue) Remove(uid types.UID) *state.PodInfo {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.entries[uid]
	if !ok {
		return nil
	}
	delete(q.entries, uid)
	switch e.state {
	case active:
		q.active.take(e)
	case waiting:
		q.stopWaiting(e)
	default:
		delete(q.inFlight, e)
	}
	return e.info
}

// Pop waits for a Pod to place. The caller ends with Refuse, Retry or Remove.
func (q *Queue) Pop(ctx context.Context) (*state.PodInfo, error) {
	for {
		info, wait := q.tryPop()
		if info != nil {
			return info, nil
		}
		timer := q.options.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-q.wake:
			timer.Stop()
		case <-timer.C():
		}
	}
}

// tryPop returns the first active Pod, or how long to wait for the next.
func (q *Queue) tryPop() (*state.PodInfo, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.options.Clock.Now()
	for next := q.waiting.first(); next != nil && !next.due.After(now); next = q.waiting.first() {
		q.stopWaiting(next)
		q.activate(next)
	}
	if e := q.active.first(); e != nil {
		q.active.take(e)
		e.state, e.missed, e.overflow, e.changed = inFlight, nil, false, false
		q.inFlight[e] = struct{}{}
		return e.info, 0
	}
	if next := q.waiting.first(); next != nil {
		return nil, next.due.Sub(now)
	}
	return nil, FlushAfter
}

// Refuse makes a Pod wait that fits nowhere: for an event of which one of wakers says
// that it helps, at most FlushAfter. A helping event during the decision counts.
func (q *Queue) Refuse(uid types.UID, wakers []plugins.Waker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.entries[uid]
	if !ok || e.state != inFlight {
		return
	}
	e.wakers = wakers
	q.backOff(e, !e.changed && !e.overflow && !e.anyMissedHelps())
}

func (e *entry) anyMissedHelps() bool {
	for _, event := range e.missed {
		if e.helpedBy(event) {
			return true
		}
	}
	return false
}

// Retry makes a Pod wait whose binding failed, for its backoff only.
func (q *Queue) Retry(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := q.entries[uid]; ok && e.state == inFlight {
		e.wakers = nil
		q.backOff(e, false)
	}
}

// backOff puts an entry aside until its backoff ends, or for an event to help it.
func (q *Queue) backOff(e *entry, forEvents bool) {
	now := q.options.Clock.Now()
	delete(q.inFlight, e)
	e.missed = nil
	e.backoffUntil = now.Add(q.backoff(e.attempts))
	e.attempts++
	e.due = e.backoffUntil
	if forEvents {
		e.due = now.Add(FlushAfter)
		for kind := range q.byEvent {
			if e.events()&(1<<kind) != 0 {
				q.byEvent[kind][e] = struct{}{}
			}
		}
	}
	e.state = waiting
	q.waiting.add(e)
	q.signal()
}

func (q *Queue) backoff(attempts int) time.Duration {
	backoff := q.options.InitialBackoff
	for ; attempts > 0 && backoff < q.options.MaxBackoff; attempts-- {
		backoff *= 2
	}
	return min(backoff, q.options.MaxBackoff)
}

func (q *Queue) stopWaiting(e *entry) {
	q.waiting.take(e)
	q.stopListening(e)
}

func (q *Queue) stopListening(e *entry) {
	for kind := range q.byEvent {
		delete(q.byEvent[kind], e)
	}
}

func (q *Queue) activate(e *entry) {
	e.state = active
	q.active.add(e)
	q.signal()
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
