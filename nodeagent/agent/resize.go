package agent

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/allocation"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
)

// resizes knows what each Pod of this node was given, and which of them wait for more.
type resizes struct {
	// turn is held while somebody gives resources away.
	turn sync.Mutex

	mu    sync.Mutex
	store allocation.Store
	// given is of Pods that were admitted; waiting are the newest Pods of the API that ask
	// for something else.
	given   map[types.UID]allocation.Allocation
	waiting map[types.UID]*keelsonv1.Pod
	// ready: all Pods of this node are known, so what is free is.
	ready bool
}

func newResizes(podsDir string) *resizes {
	return &resizes{store: allocation.Store{PodsDir: podsDir},
		given: map[types.UID]allocation.Allocation{}, waiting: map[types.UID]*keelsonv1.Pod{}}
}

// admit notes what a Pod is given that this process sees for the first time: what it asks
// for, or, if it has started before, what it was given then.
func (r *resizes) admit(ctx context.Context, pod *keelsonv1.Pod) {
	given := allocation.Of(pod)
	if !pod.Status.StartTime.IsZero() {
		given = allocation.FromStatus(pod)
		if saved, err := r.store.Load(pod.UID); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot read what a Pod was given, its status says it", "pod", klog.KObj(pod))
		} else if saved != nil {
			given = *saved
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.given[pod.UID] = given
}

// observe returns the Pod with what it was given, and whether it asks for something else.
func (r *resizes) observe(pod *keelsonv1.Pod) (given *keelsonv1.Pod, differs bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.given[pod.UID]
	if !ok {
		return pod, false
	}
	given, differs = a.Apply(pod)
	if differs && !terminal(pod) && pod.DeletionTimestamp.IsZero() {
		r.waiting[pod.UID] = pod
	} else {
		delete(r.waiting, pod.UID)
	}
	return given, differs
}

func (r *resizes) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.given, uid)
	delete(r.waiting, uid)
}

// ordered lists the resizes that wait, who comes first first; none before all Pods of this
// node are known.
func (r *resizes) ordered() []allocation.Waiting {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready {
		return nil
	}
	var all []allocation.Waiting
	for uid, asked := range r.waiting {
		given, _ := r.given[uid].Apply(asked)
		all = append(all, allocation.Waiting{Given: given, Asked: asked})
	}
	allocation.Order(all)
	return all
}

// grant notes that the Pod is given what it asks for; it is on disk before anything is
// done about it.
func (r *resizes) grant(pod *keelsonv1.Pod) error {
	a := allocation.Of(pod)
	// A Pod that waits for its first container has no folder yet: nothing of it has
	// resources either, and its spec says what it gets.
	if err := r.store.Save(pod.UID, a); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.given[pod.UID] = a
	delete(r.waiting, pod.UID)
	return nil
}

// startResizing says that all Pods of this node are known.
func (a *agent) startResizing(ctx context.Context) {
	a.resizes.mu.Lock()
	a.resizes.ready = true
	a.resizes.mu.Unlock()
	a.retryResizes(ctx)
}

// retryResizes gives Pods what they ask for and what is free now. It is called when a Pod
// asks for something else, and when one has left, ended or given something back; when
// nobody waits it costs nothing.
func (a *agent) retryResizes(ctx context.Context) {
	a.resizes.turn.Lock()
	defer a.resizes.turn.Unlock()
	for again := true; again; {
		again = false
		for _, w := range a.resizes.ordered() {
			if a.tryResize(ctx, w.Asked) {
				again = true // it may have given something back: look from the start
				break
			}
		}
	}
}

// tryResize says whether the Pod was given what it asks for.
func (a *agent) tryResize(ctx context.Context, asked *keelsonv1.Pod) bool {
	log := klog.FromContext(ctx).WithValues("pod", klog.KObj(asked))
	if lacks := shortages(asked, a.admitted.others(asked.UID), a.nodeAnyway().Status.Allocatable); len(lacks) > 0 {
		a.deferResize(asked, lacks[0].refusal())
		return false
	}
	if err := a.resizes.grant(asked); err != nil {
		log.Error(err, "Cannot keep what a Pod is given, will retry")
		return false
	}
	log.Info("Resizing a Pod", "generation", asked.Generation)
	a.manager.StartResize(asked)
	a.admitted.refresh(asked)
	a.weighBurstable(ctx)
	a.pool.Update(asked)
	a.pool.Wake(asked.UID)
	return true
}

// deferResize shows why a Pod has to wait, once for each reason and generation.
func (a *agent) deferResize(asked *keelsonv1.Pod, r *refusal) {
	if a.manager.PendingResize(asked.UID) == (lifecycle.PendingResize{Reason: corev1.PodReasonDeferred, Message: r.Message, Generation: asked.Generation}) {
		return
	}
	fresh := a.manager.PendingResize(asked.UID).Generation != asked.Generation
	a.manager.PendResize(asked.UID, lifecycle.PendingResize{Reason: corev1.PodReasonDeferred, Message: r.Message, Generation: asked.Generation})
	if fresh {
		a.manager.Recorder.Record(asked, lifecycle.Note{Type: corev1.EventTypeWarning, Reason: "ResizeDeferred",
			Message: lifecycle.ResizeMessage("Pod resize Deferred", asked, r.Message)})
	}
	a.pool.Wake(asked.UID)
}
