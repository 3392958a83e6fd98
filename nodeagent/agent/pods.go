package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
)

// followPods hands every Pod of this node to its worker: first all that the API has
// now, then each change. It returns when the first list is handed over.
func (a *agent) followPods(ctx context.Context) error {
	if err := a.followServices(ctx); err != nil {
		return err
	}
	pods, err := a.api.cache.GetInformer(ctx, &keelsonv1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching Pods: %w", err)
	}
	if !a.api.cache.WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	var list keelsonv1.PodList
	if err := a.api.cache.List(ctx, &list); err != nil {
		return fmt.Errorf("listing the Pods of this node: %w", err)
	}
	var ours []*keelsonv1.Pod
	for _, pod := range admissionOrder(list.Items) {
		if a.learn(ctx, pod) {
			ours = append(ours, pod)
		}
	}
	a.startWeighing(ctx)
	a.startResizing(ctx)
	for _, pod := range ours {
		a.hand(pod) //nolint:contextcheck // what is watched for a Pod outlives this call
	}
	registration, err := pods.AddEventHandler(a.podHandler(ctx))
	if err != nil {
		return fmt.Errorf("watching Pods: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return ctx.Err()
	}
	a.condition.set(func(c *condition) { c.synced = true })
	a.ports.publish()
	a.static.mirrors.Changed(types.NamespacedName{})
	klog.FromContext(ctx).Info("Read the Pods of this node", "pods", len(list.Items))
	return nil
}

// admissionOrder puts Pods that ran before first: they keep their place.
func admissionOrder(pods []keelsonv1.Pod) []*keelsonv1.Pod {
	ordered := make([]*keelsonv1.Pod, len(pods))
	for i := range pods {
		ordered[i] = &pods[i]
	}
	slices.SortFunc(ordered, func(x, y *keelsonv1.Pod) int {
		return cmp.Or(
			cmp.Compare(notStarted(x), notStarted(y)),
			x.CreationTimestamp.Compare(y.CreationTimestamp.Time),
			cmp.Compare(x.UID, y.UID),
		)
	})
	return ordered
}

func notStarted(pod *keelsonv1.Pod) int {
	if pod.Status.StartTime.IsZero() {
		return 1
	}
	return 0
}

func (a *agent) podHandler(ctx context.Context) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			if pod, ok := object.(*keelsonv1.Pod); ok {
				a.observe(ctx, pod)
			}
		},
		UpdateFunc: func(before, object any) {
			pod, ok := object.(*keelsonv1.Pod)
			if !ok {
				return
			}
			// A Pod that was deleted and made again under its name may come as an update.
			if old, ok := before.(*keelsonv1.Pod); ok && old.UID != pod.UID {
				a.lost(ctx, old)
			}
			a.observe(ctx, pod)
		},
		DeleteFunc: func(object any) {
			if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = tombstone.Obj
			}
			if pod, ok := object.(*keelsonv1.Pod); ok {
				a.lost(ctx, pod)
			}
		},
	}
}

// observe handles one Pod as the API has it now.
func (a *agent) observe(ctx context.Context, pod *keelsonv1.Pod) {
	if a.learn(ctx, pod) {
		a.retryResizes(ctx)
		a.hand(pod) //nolint:contextcheck // what is watched for a Pod outlives this call
	}
}

// learn notes what a Pod takes of the node, and says whether it is for a worker.
func (a *agent) learn(ctx context.Context, pod *keelsonv1.Pod) bool {
	if a.isMirror(pod) {
		a.static.mirrors.Observe(pod)
		return false
	}
	known := a.pool.Has(pod.UID)
	if !known && !pod.DeletionTimestamp.IsZero() && !slices.Contains(pod.Finalizers, keelsonv1.PodFinalizer) {
		return false // this node is done with it; others still hold it
	}
	a.writer.Observe(pod)
	if !known {
		a.metrics.seen(pod)
		a.admit(ctx, pod)
	} else {
		a.recheck(ctx, pod)
	}
	given, resize := a.resizes.observe(pod)
	if !resize && a.manager.PendingResize(pod.UID) != (lifecycle.PendingResize{}) {
		a.manager.PendResize(pod.UID, lifecycle.PendingResize{}) // it was taken back
	}
	a.admitted.refresh(given)
	a.weighBurstable(ctx)
	return true
}

// hand gives a Pod to its worker, with the resources that it was given.
func (a *agent) hand(pod *keelsonv1.Pod) {
	a.ports.setPod(pod)
	a.trackObjects(pod)
	given, _ := a.resizes.observe(pod)
	a.pool.Update(given)
}

// admit checks a Pod that this process sees for the first time. One that has started
// before keeps its place.
func (a *agent) admit(ctx context.Context, pod *keelsonv1.Pod) {
	if terminal(pod) || !pod.DeletionTimestamp.IsZero() {
		return
	}
	r := a.options.checkAllowed(pod)
	if r == nil && pod.Status.StartTime.IsZero() {
		r = a.checkPlace(ctx, pod)
	}
	if r != nil {
		a.refuse(ctx, pod, r)
		return
	}
	a.resizes.admit(ctx, pod)
	given, _ := a.resizes.observe(pod)
	a.admitted.add(given)
}

// checkPlace refuses a Pod for which there is no place on this node as it is now.
func (a *agent) checkPlace(ctx context.Context, pod *keelsonv1.Pod) *refusal {
	if r := checkAppArmor(pod, a.appArmor); r != nil {
		return r
	}
	if r := a.checkPressure(pod); r != nil {
		return r
	}
	r, lacks := admitPod(pod, a.admitted.list(), a.nodeAnyway())
	if len(lacks) > 0 {
		r = a.makeRoom(ctx, pod, lacks)
	}
	return r
}

// recheck ends an admitted Pod that has come to ask for what it may not. The API lets nobody
// change a Pod so far; without its webhook it would.
func (a *agent) recheck(ctx context.Context, pod *keelsonv1.Pod) {
	held := a.admitted.get(pod.UID)
	if held == nil || held.Generation == pod.Generation {
		return
	}
	if r := a.options.checkAllowed(pod); r != nil {
		a.refuse(ctx, pod, r)
		a.admitted.remove(pod.UID)
	}
}

// refuse makes a Pod fail.
func (a *agent) refuse(ctx context.Context, pod *keelsonv1.Pod, r *refusal) {
	klog.FromContext(ctx).Info("Refused a Pod", "pod", klog.KObj(pod), "reason", r.Reason, "message", r.Message)
	a.manager.Reject(pod.UID, r.Reason, "Pod was rejected: "+r.Message)
	a.manager.Recorder.Record(pod, lifecycle.Note{Type: corev1.EventTypeWarning, Reason: r.Reason, Message: r.Message})
}

// lost handles a Pod that the API no longer has.
func (a *agent) lost(ctx context.Context, pod *keelsonv1.Pod) {
	if a.isMirror(pod) {
		a.static.mirrors.Lost(pod)
		return
	}
	a.admitted.remove(pod.UID)
	a.resizes.forget(pod.UID)
	a.awaited.forget(pod.UID)
	a.weighBurstable(ctx)
	a.metrics.forget(pod)
	a.retryResizes(ctx)
	a.ports.forget(pod.UID)
	a.forgetObjects(pod.UID)
	if a.pool.Has(pod.UID) {
		a.pool.Gone(pod.UID)
	} else {
		a.writer.Forget(pod.UID)
	}
}

func terminal(pod *keelsonv1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// admittedPods are the Pods that hold resources of this node.
type admittedPods struct {
	mu   sync.Mutex
	pods map[types.UID]*keelsonv1.Pod
	// burstable is what the burstable ones ask for, in thousandths of a CPU.
	burstable int64
}

func newAdmittedPods() *admittedPods { return &admittedPods{pods: map[types.UID]*keelsonv1.Pod{}} }

func (p *admittedPods) add(pod *keelsonv1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putLocked(pod.UID, pod)
}

// putLocked replaces what is known of a Pod; nil is nothing.
func (p *admittedPods) putLocked(uid types.UID, pod *keelsonv1.Pod) {
	p.burstable += burstableMilli(pod) - burstableMilli(p.pods[uid])
	if pod == nil {
		delete(p.pods, uid)
	} else {
		p.pods[uid] = pod
	}
}

// refresh takes note of a change; a Pod that has ended holds nothing any more.
func (p *admittedPods) refresh(pod *keelsonv1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pods[pod.UID] == nil {
		return
	}
	if terminal(pod) {
		p.putLocked(pod.UID, nil)
	} else {
		p.putLocked(pod.UID, pod)
	}
}

// others are the Pods that hold resources beside one of them.
func (p *admittedPods) others(uid types.UID) []*keelsonv1.Pod {
	return slices.DeleteFunc(p.list(), func(pod *keelsonv1.Pod) bool { return pod.UID == uid })
}

func (p *admittedPods) remove(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putLocked(uid, nil)
}

// get returns nil for a Pod that holds nothing.
func (p *admittedPods) get(uid types.UID) *keelsonv1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pods[uid]
}

func (p *admittedPods) list() []*keelsonv1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	pods := make([]*keelsonv1.Pod, 0, len(p.pods))
	for _, pod := range p.pods {
		pods = append(pods, pod)
	}
	return pods
}
