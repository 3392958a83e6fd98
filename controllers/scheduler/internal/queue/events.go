package queue

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
)

// Happened tells the queue of an event of one or several kinds. Refused Pods that it may
// help become active when their backoff is over. It costs as much as there are Pods
// that wait for such an event.
func (q *Queue) Happened(event *plugins.Event) {
	if event.Kind == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for e := range q.inFlight {
		e.note(event)
	}
	now := q.options.Clock.Now()
	for kind := range q.byEvent {
		if event.Kind&(1<<kind) == 0 {
			continue
		}
		for e := range q.byEvent[kind] {
			if !e.helpedBy(event) {
				continue
			}
			if e.backoffUntil.After(now) {
				q.stopListening(e)
				e.due = e.backoffUntil
				q.waiting.update(e)
				q.signal()
				continue
			}
			q.stopWaiting(e)
			q.activate(e)
		}
	}
}

func (e *entry) note(event *plugins.Event) {
	if len(e.missed) == keptEvents {
		e.overflow = true
		return
	}
	e.missed = append(e.missed, event)
}

func (e *entry) events() plugins.EventKind {
	var kinds plugins.EventKind
	for _, waker := range e.wakers {
		kinds |= waker.Events()
	}
	return kinds
}

// helpedBy asks each plug-in about each kind that it wants to know of.
func (e *entry) helpedBy(event *plugins.Event) bool {
	for _, waker := range e.wakers {
		for kind := plugins.EventKind(1); kind <= event.Kind; kind <<= 1 {
			if event.Kind&waker.Events()&kind == 0 {
				continue
			}
			single := *event
			single.Kind = kind
			if waker.Helps(e.info, &single) {
				return true
			}
		}
	}
	return false
}

// Activate makes a waiting Pod active at once, or as soon as its present decision ends.
func (q *Queue) Activate(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, ok := q.entries[uid]
	if !ok {
		return
	}
	switch e.state {
	case waiting:
		q.stopWaiting(e)
		q.activate(e)
	case inFlight:
		e.changed = true
	}
}
