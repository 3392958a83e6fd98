// Package repeats keeps controllers that try again for ever from saying again and again
// why it failed: a cluster in which nothing happens is not written to.
//
// It never holds back what is new: another text, another reason, or anything that is no
// warning. What it remembers is in memory alone; a new process says everything once.
package repeats

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
)

const (
	// Period is the time after which a warning is given again though nothing has changed.
	// Events live for an hour: while the cause lasts there is always one.
	Period = 15 * time.Minute
	// kept bounds the memory; what falls out of it is said again.
	kept = 4096
)

// subject is what a warning is about.
type subject struct {
	uid    types.UID
	reason string
}

type warning struct {
	note string
	at   time.Time
}

// Recorder passes events on, but no warning that it passed on within the last Period.
type Recorder struct {
	events.EventRecorder
	clock clock.PassiveClock

	mu    sync.Mutex
	given map[subject]warning
	order []subject
	next  int
}

var _ events.EventRecorder = (*Recorder)(nil)

// Spare returns a Recorder in front of recorder.
func Spare(recorder events.EventRecorder, c clock.PassiveClock) *Recorder {
	return &Recorder{EventRecorder: recorder, clock: c, given: map[subject]warning{}, order: make([]subject, kept)}
}

// Eventf implements events.EventRecorder.
func (r *Recorder) Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any) {
	object, err := meta.Accessor(regarding)
	if eventtype == corev1.EventTypeWarning && err == nil && !r.isNew(subject{object.GetUID(), reason}, fmt.Sprintf(note, args...)) {
		return
	}
	r.EventRecorder.Eventf(regarding, related, eventtype, reason, action, note, args...)
}

// isNew remembers a warning, and says whether it has to be given.
func (r *Recorder) isNew(about subject, note string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	last, known := r.given[about]
	if known && last.note == note && now.Sub(last.at) < Period {
		return false
	}
	if !known {
		delete(r.given, r.order[r.next])
		r.order[r.next] = about
		r.next = (r.next + 1) % len(r.order)
	}
	r.given[about] = warning{note, now}
	return true
}
