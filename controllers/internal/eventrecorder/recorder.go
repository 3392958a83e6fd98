// Package eventrecorder gives controllers a recorder that counts what repeats.
//
// The recorder of events.k8s.io takes an event for a repetition only while the object it
// is about has the same resourceVersion: an owner whose status changes between two
// attempts gets a new Event for each. The recorder of the core API, which upstream's
// controllers use, leaves the version out: one Event whose count goes up, ten similar ones
// combined into one, and a budget of 25 per object, of which one comes back every five
// minutes.
//
// It never waits for the API server, and may lose an event while that is away. What it has
// counted is in memory alone: a new process begins new Events.
package eventrecorder

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
)

// Provider makes recorders of the core API; every manager is one.
type Provider interface {
	GetEventRecorderFor(name string) record.EventRecorder
}

// New returns the recorder of the controller with this name, which users see as the
// source of its events.
func New(p Provider, name string) events.EventRecorder {
	return counting{p.GetEventRecorderFor(name)}
}

type counting struct{ inner record.EventRecorder }

// Eventf implements events.EventRecorder. The core API's events have neither related nor
// action where upstream's controllers write them.
func (c counting) Eventf(regarding, _ runtime.Object, eventtype, reason, _, note string, args ...any) {
	c.inner.Eventf(regarding, eventtype, reason, note, args...)
}
