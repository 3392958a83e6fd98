package images

import (
	"context"

	"k8s.io/client-go/util/flowcontrol"
)

// Limits bound what registries are asked; the zero value bounds nothing. Whoever comes
// when a limit is reached waits.
type Limits struct {
	// slots has room for each pull that may run at once; nil: any number.
	slots chan struct{}
	rate  flowcontrol.RateLimiter
}

// NewLimits lets parallel pulls run at once, 0 for any number, and as many begin each
// second as perSecond says, 0 for any number, or burst after a pause.
func NewLimits(parallel int, perSecond float32, burst int) Limits {
	var l Limits
	if parallel > 0 {
		l.slots = make(chan struct{}, parallel)
	}
	if perSecond > 0 {
		l.rate = flowcontrol.NewTokenBucketRateLimiter(perSecond, burst)
	}
	return l
}

// enter waits until a pull may begin; leave is to be called at its end. The error is
// that ctx ended first.
func (l Limits) enter(ctx context.Context) (leave func(), err error) {
	leave = func() {}
	if l.slots != nil {
		select {
		case l.slots <- struct{}{}:
			leave = func() { <-l.slots }
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if l.rate != nil {
		if err := l.rate.Wait(ctx); err != nil {
			leave()
			return nil, err
		}
	}
	return leave, nil
}
