package images

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	firstDelay = 10 * time.Second
	maxDelay   = 5 * time.Minute
	// resetAfter is how long after a failure its delay no longer counts.
	resetAfter = 2 * maxDelay
)

type key struct {
	pod   types.UID
	image string
}

// failure is the last failed pull of a key.
type failure struct {
	delay   time.Duration
	retryAt time.Time
	message string
}

// nextDelay doubles from 10 s to 5 min.
func nextDelay(last time.Duration) time.Duration {
	if last == 0 {
		return firstDelay
	}
	return min(2*last, maxDelay)
}

func (f failure) expired(now time.Time) bool { return now.Sub(f.retryAt.Add(-f.delay)) > resetAfter }

type backOff struct {
	mu       sync.Mutex
	failures map[key]failure
}

// get returns the last failure, and whether its delay has not passed yet.
func (b *backOff) get(k key, now time.Time) (failure, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last, ok := b.failures[k]
	return last, ok && now.Before(last.retryAt)
}

// fail records a failure and returns when to try again.
func (b *backOff) fail(k key, now time.Time, message string) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.failures, func(_ key, f failure) bool { return f.expired(now) })
	delay := nextDelay(b.failures[k].delay)
	b.failures[k] = failure{delay: delay, retryAt: now.Add(delay), message: message}
	return now.Add(delay)
}

func (b *backOff) succeed(k key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.failures, k)
}

func (b *backOff) forget(pod types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.failures, func(k key, _ failure) bool { return k.pod == pod })
}
