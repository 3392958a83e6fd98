package containerd

import "sync"

// trust tells whether the table holds all that containerd holds: it was compared, and
// since then a subscription has delivered every event.
type trust struct {
	mu sync.Mutex
	// subscription numbers the current one, 0 when there is none; a doubt renumbers it.
	subscription, last int
	compared           bool
}

func (t *trust) holds() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.subscription != 0 && t.compared
}

// subscribed says that events are delivered from now on.
func (t *trust) subscribed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.subscription, t.compared = t.last, false
}

// broken says that events may be missed from now on.
func (t *trust) broken() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscription, t.compared = 0, false
}

// doubt says that an event could not be dealt with. A comparison that has begun does
// not count.
func (t *trust) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subscription != 0 {
		t.last++
		t.subscription, t.compared = t.last, false
	}
}

// begin is called before a comparison, end with its result after a good one.
func (t *trust) begin() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.subscription
}

func (t *trust) end(subscription int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if subscription == t.subscription && subscription != 0 {
		t.compared = true
	}
}
