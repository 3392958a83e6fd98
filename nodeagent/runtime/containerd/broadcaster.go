package containerd

import (
	"context"
	"sync"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// maxQueue bounds what waits for a slow subscriber; beyond, one Resync replaces it.
const maxQueue = 4096

// broadcaster hands every event to every subscriber without waiting for any.
type broadcaster struct {
	mu          sync.Mutex
	subscribers map[*subscriber]bool
}

type subscriber struct {
	mu    sync.Mutex
	queue []runtime.Event
	wake  chan struct{}
}

func (b *broadcaster) subscribe(ctx context.Context) <-chan runtime.Event {
	s := &subscriber{wake: make(chan struct{}, 1)}
	b.mu.Lock()
	if b.subscribers == nil {
		b.subscribers = map[*subscriber]bool{}
	}
	b.subscribers[s] = true
	b.mu.Unlock()

	out := make(chan runtime.Event)
	go func() {
		defer close(out)
		defer func() {
			b.mu.Lock()
			delete(b.subscribers, s)
			b.mu.Unlock()
		}()
		s.deliver(ctx, out)
	}()
	return out
}

func (b *broadcaster) publish(event runtime.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subscribers {
		s.add(event)
	}
}

func (s *subscriber) add(event runtime.Event) {
	s.mu.Lock()
	if len(s.queue) >= maxQueue {
		s.queue = append(s.queue[:0], runtime.Event{Type: runtime.Resync})
	} else {
		s.queue = append(s.queue, event)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscriber) deliver(ctx context.Context, out chan<- runtime.Event) {
	for {
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, event := range batch {
			select {
			case out <- event:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}
