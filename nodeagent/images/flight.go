package images

import (
	"context"
	"sync"
	"time"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// result is how a pull ended.
type result struct {
	image runtime.Image
	err   error
	took  time.Duration
}

// flight is a pull in progress. It is cancelled when nobody waits for it any more.
type flight struct {
	done    chan struct{}
	result  result
	cancel  context.CancelFunc
	waiting int
}

// flights runs one pull per image for all who wait for it.
type flights struct {
	mu      sync.Mutex
	running map[string]*flight
}

// join waits for the image's pull, which it starts when there is none. The error is
// that ctx ended first.
func (f *flights) join(ctx context.Context, image string, pull func(context.Context) result) (result, error) {
	joined := f.enter(ctx, image, pull)
	defer f.leave(image, joined)
	select {
	case <-joined.done:
		return joined.result, nil
	case <-ctx.Done():
		return result{}, ctx.Err()
	}
}

func (f *flights) enter(ctx context.Context, image string, pull func(context.Context) result) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if found, ok := f.running[image]; ok {
		found.waiting++
		return found
	}
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started := &flight{done: make(chan struct{}), cancel: cancel, waiting: 1}
	f.running[image] = started
	go func() {
		defer close(started.done)
		defer cancel()
		started.result = pull(shared)
		f.end(image, started)
	}()
	return started
}

func (f *flights) leave(image string, joined *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	joined.waiting--
	if joined.waiting == 0 && f.running[image] == joined { // a newcomer starts afresh
		delete(f.running, image)
		joined.cancel()
	}
}

func (f *flights) end(image string, ended *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[image] == ended {
		delete(f.running, image)
	}
}
