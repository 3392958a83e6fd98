// Package runner paces one worker: changes that come close together are handled
// together, a failure is tried again for ever with growing pauses, and a check runs
// now and then without any change. It holds nothing that outlives the process.
package runner

import (
	"context"
	"time"

	"k8s.io/utils/clock"
)

// Options configure a Runner.
type Options struct {
	// Sync does the work; check is set when it is due without a change. It is never
	// called twice at the same time.
	Sync func(ctx context.Context, check bool) error
	// MinInterval is the shortest time from the end of a call to the start of the next.
	MinInterval time.Duration
	// CheckInterval returns the time from the end of a successful call to a check.
	CheckInterval func() time.Duration
	// MinBackoff and MaxBackoff bound the pause after failures, which doubles.
	MinBackoff, MaxBackoff time.Duration
	Clock                  clock.Clock
}

// Runner calls Sync soon after Trigger.
type Runner struct {
	options Options
	wake    chan struct{}
}

// New returns a runner that Run starts.
func New(o Options) *Runner {
	return &Runner{options: o, wake: make(chan struct{}, 1)}
}

// Trigger asks for a call of Sync. It never blocks; calls before the worker gets to it
// count as one.
func (r *Runner) Trigger() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. Errors are the business of Sync to report; here they only
// decide when it is called again.
func (r *Runner) Run(ctx context.Context) {
	failures := 0
	earliest := r.options.Clock.Now()
	due := r.options.CheckInterval()
	for {
		check, ok := r.waitForWork(ctx, due)
		if !ok || !r.waitUntil(ctx, earliest) {
			return
		}
		// What was asked for during the pause is covered by this call.
		select {
		case <-r.wake:
		default:
		}
		if err := r.options.Sync(ctx, check); err != nil {
			failures++
			due = r.backoff(failures)
		} else {
			failures = 0
			due = r.options.CheckInterval()
		}
		earliest = r.options.Clock.Now().Add(r.options.MinInterval)
	}
}

// waitForWork returns when Trigger was called or, as a check, after the time.
func (r *Runner) waitForWork(ctx context.Context, due time.Duration) (check, ok bool) {
	timer := r.options.Clock.NewTimer(due)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, false
	case <-r.wake:
		return false, true
	case <-timer.C():
		return true, true
	}
}

func (r *Runner) waitUntil(ctx context.Context, t time.Time) bool {
	wait := t.Sub(r.options.Clock.Now())
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := r.options.Clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

func (r *Runner) backoff(failures int) time.Duration {
	pause := r.options.MinBackoff
	for range failures - 1 {
		if pause *= 2; pause >= r.options.MaxBackoff {
			return r.options.MaxBackoff
		}
	}
	return pause
}
