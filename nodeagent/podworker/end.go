package podworker

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// End has a Pod looked at again at once, because it is to end: what is being done for it
// is given up, and its containers get grace at most.
func (p *Pool) End(uid types.UID, grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.workers[uid]
	if w == nil {
		return
	}
	shorter := w.grace == nil || grace < *w.grace
	if shorter {
		w.grace = &grace
	}
	p.wakeLocked(w)
	if w.cancel != nil && (w.current == WorkSync || w.current == WorkTerminating && shorter) {
		w.cancel()
	}
}

// Stopped says that nothing of the Pod runs.
func (p *Pool) Stopped(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.workers[uid]
	return w == nil || w.stopped
}
