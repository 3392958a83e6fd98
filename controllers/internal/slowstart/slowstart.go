// Package slowstart runs many alike calls so that a common cause of failure costs
// few of them.
//
// A workload whose Pods are all refused (quota, policy, a broken webhook) must not
// send hundreds of requests that fail in the same way. The calls run in batches of
// 1, 2, 4, …; a batch that has a failure is the last one. The package keeps no
// state: the caller comes back later with what is still missing.
package slowstart

import (
	"context"
	"errors"
	"sync"
)

// MaxParallel bounds how many calls run at the same time, however large the batch:
// the API server serves everybody.
const MaxParallel = 64

// Run calls fn with 0, 1, … count-1, each once at most, and returns how many calls
// succeeded and all errors of the last batch, joined. It starts no further batch
// when ctx is done, and then reports the reason.
func Run(ctx context.Context, count int, fn func(ctx context.Context, i int) error) (succeeded int, err error) {
	for started, batch := 0, 1; started < count; batch *= 2 {
		if err := ctx.Err(); err != nil {
			return succeeded, err
		}
		size := min(batch, count-started)
		failures := parallel(ctx, started, size, fn)
		started += size
		succeeded += size - len(failures)
		if len(failures) > 0 {
			return succeeded, errors.Join(failures...)
		}
	}
	return succeeded, nil
}

// All calls fn with 0, 1, … count-1 in parallel, whatever fails, and returns all
// errors, joined: for calls that do not share a cause of failure.
func All(ctx context.Context, count int, fn func(ctx context.Context, i int) error) error {
	return errors.Join(parallel(ctx, 0, count, fn)...)
}

func parallel(ctx context.Context, from, count int, fn func(ctx context.Context, i int) error) []error {
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		failures []error
		slots    = make(chan struct{}, MaxParallel)
	)
	for i := range count {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := fn(ctx, from+i); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, err)
			}
		})
	}
	wg.Wait()
	return failures
}
