// Package podworker runs one worker for each Pod UID and decides what the Pod needs
// next: run it, stop it, or free what it held.
//
// The decision follows from facts (deleted, gone, finished, stopped). The latest
// update wins; a request to stop cancels a running sync; a grace period only
// shrinks. The package knows no container runtime and no API: it sees a Syncer and a
// clock. It must never drop a Pod whose work failed: it tries again for ever, with a
// capped back-off. Nothing is on disk: after a crash every Pod of the API, and every
// Pod that only the runtime knows, is handed in again.
package podworker

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Syncer does the work. Every method may be repeated after it failed or was
// cancelled at any point.
type Syncer interface {
	// SyncPod brings the Pod's containers to what its spec asks for.
	SyncPod(ctx context.Context, pod *keelsonv1.Pod) (Result, error)

	// StopPod ends every container of the Pod and returns when none runs.
	StopPod(ctx context.Context, pod *keelsonv1.Pod, grace time.Duration) error

	// FinishPod frees what a stopped Pod held. With forget the Pod leaves the node
	// altogether; without, its containers stay for their logs.
	FinishPod(ctx context.Context, pod *keelsonv1.Pod, forget bool) error

	// RemoveOrphan ends and removes a Pod that only the runtime knows.
	RemoveOrphan(ctx context.Context, id runtime.PodIdentity) error
}

// Result is how SyncPod left the Pod.
type Result struct {
	// Finished: the Pod has ended by itself and nothing of it will start again.
	Finished bool
	// RetryAt is when to look again without being asked; zero means never.
	RetryAt time.Time
}

const (
	retryFirst = time.Second
	retryMax   = time.Minute
)

// Pool holds the workers; use New.
type Pool struct {
	ctx    context.Context
	syncer Syncer
	clock  clock.WithDelayedExecution
	// Left, unless nil, is told of each Pod of which nothing is left on the node. Set it
	// before the first Pod comes.
	Left func(uid types.UID)
	// Ended, unless nil, is told of each Pod of which nothing runs any more. Set it before
	// the first Pod comes.
	Ended func(uid types.UID)

	mu      sync.Mutex
	workers map[types.UID]*worker
	group   sync.WaitGroup
}

// worker is one Pod. Its goroutine lives only while there is work.
type worker struct {
	facts
	identity runtime.PodIdentity
	// pod is the newest API object, nil for a Pod that only the runtime knows.
	pod *keelsonv1.Pod
	// grace is the shortest period asked for so far, nil before the first.
	grace *time.Duration

	pending, running bool
	current          Work
	cancel           context.CancelFunc
	// left: the pool does not work on the Pod any more.
	left     bool
	failures int
	retry    clock.Timer
}

// New returns an empty pool whose work ends when ctx does.
func New(ctx context.Context, syncer Syncer, c clock.WithDelayedExecution) *Pool {
	return &Pool{ctx: ctx, syncer: syncer, clock: c, workers: map[types.UID]*worker{}}
}

// Update hands in the newest API object of a Pod of this node.
func (p *Pool) Update(pod *keelsonv1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.workers[pod.UID]
	if w == nil {
		w = &worker{identity: runtime.PodIdentity{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name}}
		p.workers[pod.UID] = w
	}
	if w.pod == nil {
		w.gone = false // the API has what was taken for an orphan
	}
	changed := significant(w.pod, pod)
	w.pod = pod
	w.deleted = w.deleted || !pod.DeletionTimestamp.IsZero()
	if changed {
		p.stopLocked(w)
		p.wakeLocked(w)
	}
}

// Gone says that the API no longer has the Pod; what runs of it is stopped.
func (p *Pool) Gone(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.workers[uid]
	if w == nil {
		return
	}
	w.gone = true
	p.stopLocked(w)
	p.wakeLocked(w)
}

// Orphan hands in a Pod that only the runtime knows; it is ended and removed. A Pod
// that has a worker already is left alone.
func (p *Pool) Orphan(id runtime.PodIdentity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers[id.UID] != nil {
		return
	}
	w := &worker{identity: id, facts: facts{gone: true}}
	p.workers[id.UID] = w
	p.wakeLocked(w)
}

// Wake looks at one Pod again, because something of it changed on the machine.
func (p *Pool) Wake(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.workers[uid]; w != nil {
		p.wakeLocked(w)
	}
}

// WakeAll looks at every Pod again.
func (p *Pool) WakeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		p.wakeLocked(w)
	}
}

// Has says that the pool works on the Pod; nothing of it may be swept.
func (p *Pool) Has(uid types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers[uid] != nil
}

// Wait returns when no worker runs; call it after the pool's context has ended.
func (p *Pool) Wait() { p.group.Wait() }

// stopLocked applies a newer reason to stop: it ends a running sync, and a running
// stop that was given more time than is left now.
func (p *Pool) stopLocked(w *worker) {
	if w.work() != WorkTerminating {
		return
	}
	shorter := p.shrinkGraceLocked(w)
	if w.cancel != nil && (w.current == WorkSync || w.current == WorkTerminating && shorter) {
		w.cancel()
	}
}

// shrinkGraceLocked recomputes the grace period and says whether it became shorter.
func (p *Pool) shrinkGraceLocked(w *worker) bool {
	if w.pod == nil {
		return false
	}
	grace := GracePeriod(w.pod)
	if w.grace != nil && grace >= *w.grace {
		return false
	}
	w.grace = &grace
	return true
}

func (p *Pool) wakeLocked(w *worker) {
	w.pending = true
	if w.retry != nil {
		w.retry.Stop()
		w.retry = nil
	}
	if w.running || p.ctx.Err() != nil {
		return
	}
	w.running = true
	p.group.Go(func() { p.run(w) })
}

// run works until nothing is pending.
func (p *Pool) run(w *worker) {
	for {
		job, ok := p.take(w)
		if !ok {
			return
		}
		result, err := p.perform(job)
		p.complete(w, job, result, err)
		if p.Ended != nil && p.Stopped(w.identity.UID) {
			p.Ended(w.identity.UID)
		}
		if p.Left != nil && p.hasLeft(w) {
			p.Left(w.identity.UID)
		}
	}
}

func (p *Pool) hasLeft(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.left
}

// job is one call of the Syncer.
type job struct {
	work     Work
	ctx      context.Context
	cancel   context.CancelFunc
	identity runtime.PodIdentity
	pod      *keelsonv1.Pod
	grace    time.Duration
	forget   bool
}

func (p *Pool) take(w *worker) (job, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.pending || p.ctx.Err() != nil {
		w.running = false
		return job{}, false
	}
	w.pending = false
	w.current = w.work()
	if w.current == WorkTerminating {
		p.shrinkGraceLocked(w)
	}
	ctx, cancel := context.WithCancel(klog.NewContext(p.ctx, klog.FromContext(p.ctx).WithValues(
		"pod", klog.KRef(w.identity.Namespace, w.identity.Name), "podUID", w.identity.UID)))
	w.cancel = cancel
	return job{
		work: w.current, ctx: ctx, cancel: cancel, identity: w.identity, pod: w.pod,
		grace: ptr.Deref(w.grace, 0), forget: w.forget(),
	}, true
}

func (p *Pool) perform(j job) (Result, error) {
	switch {
	case j.pod == nil:
		return Result{}, p.syncer.RemoveOrphan(j.ctx, j.identity)
	case j.work == WorkSync:
		return p.syncer.SyncPod(j.ctx, j.pod)
	case j.work == WorkTerminating:
		return Result{}, p.syncer.StopPod(j.ctx, j.pod, j.grace)
	default:
		return Result{}, p.syncer.FinishPod(j.ctx, j.pod, j.forget)
	}
}

// complete turns the outcome into facts and decides when to look again.
func (p *Pool) complete(w *worker, j job, result Result, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cancelled := j.ctx.Err() != nil
	j.cancel()
	w.cancel = nil
	if err != nil {
		if cancelled {
			return // by a newer update, which is pending, or because the agent ends
		}
		w.failures++
		delay := min(retryFirst<<min(w.failures-1, 10), retryMax)
		klog.FromContext(j.ctx).Error(err, "Pod work failed, will retry", "work", j.work, "retryIn", delay)
		p.retryLocked(w, delay)
		return
	}
	w.failures = 0
	switch {
	case j.pod == nil:
		p.dropOrphanLocked(w)
	case j.work == WorkSync:
		p.completeSyncLocked(w, result)
	case j.work == WorkTerminating:
		w.stopped, w.pending = true, true
	case j.forget:
		p.dropLocked(w)
	}
}

// dropLocked forgets a Pod of which nothing is left.
func (p *Pool) dropLocked(w *worker) {
	w.pending, w.left = false, true
	delete(p.workers, w.identity.UID)
}

func (p *Pool) completeSyncLocked(w *worker, result Result) {
	switch {
	case result.Finished:
		w.finished, w.pending = true, true
	case !result.RetryAt.IsZero():
		p.retryLocked(w, max(result.RetryAt.Sub(p.clock.Now()), 0))
	}
}

// dropOrphanLocked forgets a removed orphan, unless the API has named it meanwhile:
// then it is worked on from the start.
func (p *Pool) dropOrphanLocked(w *worker) {
	if w.pod != nil {
		w.pending = true
		return
	}
	p.dropLocked(w)
}

// retryLocked wakes w after delay unless something wakes it before.
func (p *Pool) retryLocked(w *worker, delay time.Duration) {
	if w.pending {
		return
	}
	var timer clock.Timer
	timer = p.clock.AfterFunc(delay, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if w.retry == timer {
			w.retry = nil
			p.wakeLocked(w)
		}
	})
	w.retry = timer
}
