package status

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

const (
	// quietDelay is how long a change that nobody waits for may gather others.
	quietDelay = 500 * time.Millisecond

	writers    = 4
	retryFirst = 100 * time.Millisecond
	retryMax   = 10 * time.Second
)

// Writer brings the newest status of each Pod of this node to the API: the latest
// wins, several changes become one patch, and nothing is sent when the API has it
// already. While the API does not answer it keeps the newest status and tries again
// for ever. It never creates and never deletes a Pod.
type Writer struct {
	client client.Client
	queue  workqueue.TypedRateLimitingInterface[types.UID]

	mu      sync.Mutex
	entries map[types.UID]*entry
}

type entry struct {
	// writing is held while a patch for this Pod is under way.
	writing sync.Mutex
	// inAPI is the newest object known; it is shared and never changed. It is nil for a
	// static Pod that the API does not show.
	inAPI *keelsonv1.Pod
	// static: inAPI is only a mirror of the Pod.
	static bool
	// wanted is nil until Set was called.
	wanted *corev1.PodStatus
}

// NewWriter returns a Writer; Run makes it write.
func NewWriter(c client.Client, clk clock.WithTicker) *Writer {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](retryFirst, retryMax)
	return &Writer{
		client: c,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(limiter,
			workqueue.TypedRateLimitingQueueConfig[types.UID]{Name: "pod-status", Clock: clk}),
		entries: map[types.UID]*entry{},
	}
}

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for w.writeNext(ctx) {
			}
		})
	}
	<-ctx.Done()
	w.queue.ShutDown()
	group.Wait()
}

// Observe takes note of what the API holds.
func (w *Writer) Observe(pod *keelsonv1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[pod.UID]
	if e == nil {
		w.entries[pod.UID] = &entry{inAPI: pod}
		return
	}
	if newer(e.inAPI, pod) {
		e.inAPI = pod
	}
	if e.wanted != nil {
		w.queue.AddAfter(pod.UID, quietDelay) // someone else may have changed the status
	}
}

// newer says that b is not older than a; versions that cannot be compared count as
// newer.
func newer(a, b *keelsonv1.Pod) bool {
	order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err != nil || order <= 0
}

// Get returns the status last set, or what the mirror of a static Pod says.
func (w *Writer) Get(uid types.UID) (corev1.PodStatus, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := w.entries[uid]; {
	case e == nil:
	case e.wanted != nil:
		return *e.wanted, true
	case e.static && e.inAPI != nil:
		return e.inAPI.Status.PodStatus, true // what an earlier agent has said
	}
	return corev1.PodStatus{}, false
}

// Set replaces the status of pod. What somebody waits for is written at once, the
// rest within half a second.
func (w *Writer) Set(pod *keelsonv1.Pod, s corev1.PodStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[pod.UID]
	if e == nil {
		e = &entry{inAPI: pod}
		w.entries[pod.UID] = e
	}
	e.wanted = &s
	if e.inAPI == nil {
		return
	}
	if urgent(&e.inAPI.Status.PodStatus, &s) {
		w.queue.Add(pod.UID)
	} else {
		w.queue.AddAfter(pod.UID, quietDelay)
	}
}

// Forget drops a Pod that left the node.
func (w *Writer) Forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.entries, uid)
}

// Flush writes the status last set, and returns when the API has it or has no such
// Pod.
func (w *Writer) Flush(ctx context.Context, pod *keelsonv1.Pod) error {
	return w.write(ctx, pod.UID)
}

func (w *Writer) writeNext(ctx context.Context) bool {
	uid, shutdown := w.queue.Get()
	if shutdown {
		return false
	}
	defer w.queue.Done(uid)
	err := w.write(ctx, uid)
	switch {
	case err == nil:
		w.queue.Forget(uid)
	case apierrors.IsConflict(err):
		w.queue.AddRateLimited(uid) // somebody else wrote; the newer object is known now
	case ctx.Err() == nil:
		klog.FromContext(ctx).Error(err, "Cannot write Pod status, will retry", "podUID", uid)
		w.queue.AddRateLimited(uid)
	}
	return true
}

// write sends one patch when there is something to say.
func (w *Writer) write(ctx context.Context, uid types.UID) error {
	w.mu.Lock()
	e := w.entries[uid]
	w.mu.Unlock()
	if e == nil {
		return nil
	}
	e.writing.Lock()
	defer e.writing.Unlock()

	w.mu.Lock()
	inAPI, wanted := e.inAPI, e.wanted
	w.mu.Unlock()
	if wanted == nil || inAPI == nil {
		return nil
	}
	pod := render(inAPI, *wanted)
	if equality.Semantic.DeepEqual(pod.Status, inAPI.Status) {
		return nil
	}
	// The list of conditions is replaced as a whole, so nobody may have written since.
	// The patch is made from the kind itself: the API server need not look for unknown
	// fields, which costs it a sixth of the write.
	err := w.client.Status().Patch(ctx, pod, client.MergeFromWithOptions(inAPI, client.MergeFromWithOptimisticLock{}),
		client.FieldValidation(metav1.FieldValidationIgnore))
	switch {
	case err == nil:
		w.learn(e, pod)
		return nil
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsConflict(err):
		gone, getErr := w.refresh(ctx, e)
		if gone {
			return nil
		}
		if getErr != nil {
			return getErr
		}
		return err
	default:
		return fmt.Errorf("patching the status of Pod %s: %w", klog.KObj(pod), err)
	}
}

// render returns the object as it should be: what the agent says, the conditions of
// others, and the columns that follow.
func render(inAPI *keelsonv1.Pod, wanted corev1.PodStatus) *keelsonv1.Pod {
	pod := inAPI.DeepCopy()
	conditions := mergeConditions(wanted.Conditions, pod.Status.Conditions)
	pod.Status.PodStatus = *wanted.DeepCopy()
	pod.Status.Conditions = conditions
	pod.Status.Summary = summary.Pod(pod)
	return pod
}

func (w *Writer) learn(e *entry, pod *keelsonv1.Pod) {
	pod.ManagedFields = nil
	w.mu.Lock()
	defer w.mu.Unlock()
	if newer(e.inAPI, pod) {
		e.inAPI = pod
	}
}

// refresh reads the object from the API; gone says that it is no more.
func (w *Writer) refresh(ctx context.Context, e *entry) (gone bool, err error) {
	w.mu.Lock()
	known := e.inAPI
	w.mu.Unlock()
	pod := &keelsonv1.Pod{}
	err = w.client.Get(ctx, client.ObjectKeyFromObject(known), pod)
	switch {
	case apierrors.IsNotFound(err), err == nil && pod.UID != known.UID:
		return true, nil
	case err != nil:
		return false, fmt.Errorf("reading Pod %s after a conflict: %w", klog.KObj(known), err)
	}
	w.learn(e, pod)
	return false, nil
}

// Release removes the finalizer keelson.dev/pod, with a patch that holds only if it is
// still where it was and the object is still this Pod.
func (w *Writer) Release(ctx context.Context, pod *keelsonv1.Pod) error {
	w.mu.Lock()
	e := w.entries[pod.UID]
	if e == nil {
		e = &entry{inAPI: pod}
	}
	known := e.inAPI
	w.mu.Unlock()
	if known == nil {
		return nil
	}

	err := w.removeFinalizer(ctx, known)
	if !refused(err) {
		return client.IgnoreNotFound(err)
	}
	gone, err := w.refresh(ctx, e)
	if gone || err != nil {
		return err
	}
	w.mu.Lock()
	known = e.inAPI
	w.mu.Unlock()
	return client.IgnoreNotFound(w.removeFinalizer(ctx, known))
}

// refused says that the API server found the object different from what the patch
// tests for.
func refused(err error) bool {
	status, ok := err.(apierrors.APIStatus)
	return ok && (status.Status().Code == http.StatusUnprocessableEntity || status.Status().Code == http.StatusConflict)
}

type patchOperation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

func (w *Writer) removeFinalizer(ctx context.Context, pod *keelsonv1.Pod) error {
	i := slices.Index(pod.Finalizers, keelsonv1.PodFinalizer)
	if i < 0 {
		return nil
	}
	path := fmt.Sprintf("/metadata/finalizers/%d", i)
	patch, err := json.Marshal([]patchOperation{
		{Op: "test", Path: "/metadata/uid", Value: pod.UID},
		{Op: "test", Path: path, Value: keelsonv1.PodFinalizer},
		{Op: "remove", Path: path},
	})
	if err != nil {
		return err
	}
	// Of the answer only the error is of use.
	target := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	target.SetGroupVersionKind(keelsonv1.GroupVersion.WithKind("Pod"))
	return w.client.Patch(ctx, target, client.RawPatch(types.JSONPatchType, patch), client.FieldValidation(metav1.FieldValidationIgnore))
}

// urgent says that somebody waits for the change: the phase, readiness, or what a
// container does. A container that is being created is what everybody expects.
func urgent(inAPI, wanted *corev1.PodStatus) bool {
	if inAPI.Phase != wanted.Phase || isReady(inAPI) != isReady(wanted) {
		return true
	}
	return changed(inAPI.ContainerStatuses, wanted.ContainerStatuses) ||
		changed(inAPI.InitContainerStatuses, wanted.InitContainerStatuses) ||
		changed(inAPI.EphemeralContainerStatuses, wanted.EphemeralContainerStatuses)
}

// changed says that a container does something else now.
func changed(inAPI, wanted []corev1.ContainerStatus) bool {
	for i := range wanted {
		if doing(find(inAPI, wanted[i].Name)) != doing(&wanted[i]) {
			return true
		}
	}
	return false
}

func isReady(s *corev1.PodStatus) bool {
	c := findCondition(s.Conditions, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// doing names what a container does; being created counts as nothing.
func doing(s *corev1.ContainerStatus) string {
	switch {
	case s == nil:
		return ""
	case s.State.Running != nil:
		return "running " + s.ContainerID
	case s.State.Terminated != nil:
		return "ended " + s.ContainerID
	case s.State.Waiting != nil && s.State.Waiting.Reason != reasonContainerCreating && s.State.Waiting.Reason != reasonPodInitializing:
		return "waiting " + s.State.Waiting.Reason
	default:
		return ""
	}
}
