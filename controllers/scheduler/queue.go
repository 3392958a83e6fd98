package scheduler

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Waiting times, as upstream's.
const (
	initialBackoff = time.Second
	maxBackoff     = 10 * time.Second
	// flushAfter is how long a refused Pod waits at most without any helping event.
	flushAfter = 5 * time.Minute
)

// entry is one Pod in the queue.
type entry struct {
	info *PodInfo
	// attempts counts decisions that did not end in a binding.
	attempts int
	// sequence orders Pods of one priority by arrival.
	sequence uint64
	// state says where the entry is.
	state entryState
	// due is when a backing off or refused entry becomes active by itself.
	due time.Time
	// backoffUntil is the earliest time at which an event may make it active.
	backoffUntil time.Time
	// helpedBy are the events that a refused entry waits for.
	helpedBy change
	// missed collects the events that came while the entry was being decided.
	missed change
	// changed says that the Pod's spec changed while the entry was being decided.
	changed bool
}

type entryState uint8

const (
	active entryState = iota
	waiting
	inFlight
)

// queue holds the Pods to place: active ones in order of priority and arrival,
// waiting ones until their time or a helping event. Every method may be called
// from any goroutine.
type queue struct {
	clock clock.Clock

	mu       sync.Mutex
	entries  map[types.UID]*entry
	active   []*entry // in order; see push
	sequence uint64
	wake     chan struct{}
}

func newQueue(clk clock.Clock) *queue {
	return &queue{clock: clk, entries: map[types.UID]*entry{}, wake: make(chan struct{}, 1)}
}

// set adds a Pod or stores its newer version. A changed spec makes a waiting Pod
// active; a changed status does not.
func (q *queue) set(info *PodInfo) {
	q.mu.Lock()
	defer q.mu.Unlock()
	known, ok := q.entries[info.Pod.UID]
	if !ok {
		q.sequence++
		added := &entry{info: info, sequence: q.sequence}
		q.entries[info.Pod.UID] = added
		q.push(added)
		return
	}
	changed := specChanged(known.info.Pod, info.Pod)
	known.info = info
	switch {
	case !changed:
	case known.state == waiting:
		q.activate(known)
	case known.state == inFlight:
		known.changed = true
	}
}

// remove forgets a Pod that is bound, deleted or not ours any more.
func (q *queue) remove(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	known, ok := q.entries[uid]
	if !ok {
		return
	}
	delete(q.entries, uid)
	if known.state == active {
		q.active = slices.DeleteFunc(q.active, func(e *entry) bool { return e == known })
	}
}

// pop waits for a Pod to place. The caller ends with refuse, retry or remove.
func (q *queue) pop(ctx context.Context) (*PodInfo, error) {
	for {
		info, wait := q.tryPop()
		if info != nil {
			return info, nil
		}
		timer := q.clock.NewTimer(wait)
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
func (q *queue) tryPop() (*PodInfo, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	next := now.Add(flushAfter)
	if len(q.active) == 0 {
		for _, e := range q.entries {
			if e.state != waiting {
				continue
			}
			if !e.due.After(now) {
				q.activate(e)
			} else if e.due.Before(next) {
				next = e.due
			}
		}
	}
	if len(q.active) == 0 {
		return nil, next.Sub(now)
	}
	first := q.active[0]
	q.active[0] = nil
	q.active = q.active[1:]
	first.state, first.missed, first.changed = inFlight, 0, false
	return first.info, 0
}

// refuse makes a Pod wait that fits nowhere: for one of the changes in helpedBy, at
// most flushAfter. A helping event during the decision counts.
func (q *queue) refuse(uid types.UID, helpedBy change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.entries[uid]
	if !ok || e.state != inFlight {
		return
	}
	q.backOff(e)
	e.helpedBy = helpedBy
	if !e.changed && e.missed&helpedBy == 0 {
		e.due = q.clock.Now().Add(flushAfter)
	}
}

// retry makes a Pod wait whose binding failed, for its backoff only.
func (q *queue) retry(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := q.entries[uid]; ok && e.state == inFlight {
		q.backOff(e)
		e.helpedBy = 0
	}
}

// backOff puts an entry aside; it becomes active when its backoff ends.
func (q *queue) backOff(e *entry) {
	e.state = waiting
	e.backoffUntil = q.clock.Now().Add(backoff(e.attempts))
	e.due = e.backoffUntil
	e.attempts++
	q.signal()
}

// backoff doubles from initialBackoff to maxBackoff.
func backoff(attempts int) time.Duration {
	if attempts > 10 {
		return maxBackoff
	}
	return min(initialBackoff<<attempts, maxBackoff)
}

// happened tells the queue what may help refused Pods. They become active when
// their backoff is over.
func (q *queue) happened(changes change) {
	if changes == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	var helped []*entry
	for _, e := range q.entries {
		switch {
		case e.state == inFlight:
			e.missed |= changes
		case e.state == waiting && e.helpedBy&changes != 0:
			if e.backoffUntil.After(now) {
				e.due = e.backoffUntil
				q.signal()
			} else {
				helped = append(helped, e)
			}
		}
	}
	for _, e := range helped {
		q.activate(e)
	}
}

func (q *queue) activate(e *entry) {
	e.state = active
	q.push(e)
}

// push inserts in order. Pods mostly come in order, so this mostly appends.
func (q *queue) push(e *entry) {
	at, _ := slices.BinarySearchFunc(q.active, e, compareEntries)
	q.active = slices.Insert(q.active, at, e)
	q.signal()
}

func compareEntries(a, b *entry) int {
	return cmp.Or(cmp.Compare(priority(b.info.Pod), priority(a.info.Pod)), cmp.Compare(a.sequence, b.sequence))
}

func priority(pod *keelsonv1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
