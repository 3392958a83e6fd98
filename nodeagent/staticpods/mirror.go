package staticpods

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	mirrorRetryFirst = time.Second
	mirrorRetryMax   = time.Minute
)

// MirrorOptions are what Mirrors works with.
type MirrorOptions struct {
	Client client.Client
	Clock  clock.WithTicker
	// Set holds the static Pods. It must call Changed.
	Set *Set
	// Node returns the own Node, nil until it is registered.
	Node func() *keelsonv1.Node
	// Synced says that the Pods of this node have been read from the API once.
	Synced func() bool
	// Attach says which object of the API shows the status of a static Pod, nil for none.
	Attach func(static *keelsonv1.Pod, mirror *keelsonv1.Pod)
	// Refused is told once why the API server does not take the mirror of a Pod.
	Refused func(static *keelsonv1.Pod, err error)
}

// Mirrors keeps one object in the API for each static Pod, and none for others.
type Mirrors struct {
	MirrorOptions
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu sync.Mutex
	// seen are the mirrors of this node in the API.
	seen map[types.NamespacedName]*keelsonv1.Pod
	// problems are why a mirror could not be made, as they were said.
	problems map[types.NamespacedName]string
}

// NewMirrors returns Mirrors; Follow and Run make it work.
func NewMirrors(o MirrorOptions) *Mirrors {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](mirrorRetryFirst, mirrorRetryMax)
	return &Mirrors{MirrorOptions: o, seen: map[types.NamespacedName]*keelsonv1.Pod{}, problems: map[types.NamespacedName]string{},
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(limiter,
			workqueue.TypedRateLimitingQueueConfig[types.NamespacedName]{Name: "mirror-pods", Clock: o.Clock})}
}

// Observe takes note of a mirror as the API has it now.
func (m *Mirrors) Observe(mirror *keelsonv1.Pod) {
	m.mu.Lock()
	m.seen[nameOf(mirror)] = mirror
	m.mu.Unlock()
	m.Changed(nameOf(mirror))
}

// Lost takes note of a mirror that the API no longer has.
func (m *Mirrors) Lost(mirror *keelsonv1.Pod) {
	m.mu.Lock()
	if known := m.seen[nameOf(mirror)]; known != nil && known.UID == mirror.UID {
		delete(m.seen, nameOf(mirror))
	}
	m.mu.Unlock()
	m.Changed(nameOf(mirror))
}

// Changed looks at the Pod of a name again; the empty name means all.
func (m *Mirrors) Changed(name types.NamespacedName) {
	if name.Name != "" {
		m.queue.Add(name)
		return
	}
	m.mu.Lock()
	names := slices.Collect(maps.Keys(m.seen))
	m.mu.Unlock()
	for _, pod := range m.Set.List() {
		names = append(names, nameOf(pod))
	}
	for _, name := range names {
		m.queue.Add(name)
	}
}

// Run works until ctx ends.
func (m *Mirrors) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, m.queue.ShutDown)
	defer stop()
	for {
		name, shutdown := m.queue.Get()
		if shutdown {
			return
		}
		err := m.sync(ctx, name)
		if err == nil {
			m.queue.Forget(name)
		} else if ctx.Err() == nil {
			m.queue.AddRateLimited(name)
		}
		m.queue.Done(name)
	}
}

// mirrorStep is what a mirror needs next.
type mirrorStep string

const (
	mirrorKeep    mirrorStep = "Keep"
	mirrorCreate  mirrorStep = "Create"
	mirrorDelete  mirrorStep = "Delete"
	mirrorRelease mirrorStep = "Release" // it is being deleted, and waits for us
	mirrorAwait   mirrorStep = "Await"   // the watch brings what is missing
)

// mirrorFacts are what the step follows from.
type mirrorFacts struct {
	static *keelsonv1.Pod
	// ending: the static Pod was told to end. expected: one of its name is to follow.
	ending, expected bool
	// synced: the API has been read; complete: every source of manifests, too.
	synced, complete bool
	node             *keelsonv1.Node
	mirror           *keelsonv1.Pod
}

// planMirror decides about one name.
func planMirror(f mirrorFacts) mirrorStep {
	switch {
	case f.mirror != nil && !f.mirror.DeletionTimestamp.IsZero():
		if slices.Contains(f.mirror.Finalizers, keelsonv1.PodFinalizer) {
			return mirrorRelease
		}
		return mirrorAwait // of another's finalizer
	case f.static == nil && f.mirror == nil:
		return mirrorKeep
	case f.static == nil:
		if f.complete && !f.expected {
			return mirrorDelete
		}
		return mirrorAwait
	case f.mirror == nil:
		if f.ending || f.node == nil || f.node.UID == "" || !f.synced {
			return mirrorAwait
		}
		return mirrorCreate
	case shows(f.mirror, f.static) || f.ending:
		return mirrorKeep
	default:
		return mirrorDelete
	}
}

// shows says that mirror is the mirror of static as its manifest is now.
func shows(mirror, static *keelsonv1.Pod) bool {
	return mirror.Annotations[corev1.MirrorPodAnnotationKey] == static.Annotations[HashAnnotation]
}

func (m *Mirrors) sync(ctx context.Context, name types.NamespacedName) error {
	static, ending := m.Set.Get(name)
	m.mu.Lock()
	mirror := m.seen[name]
	m.mu.Unlock()
	synced := m.Synced()
	step := planMirror(mirrorFacts{static: static, ending: ending, expected: m.Set.expected(name),
		synced: synced, complete: synced && m.Set.Complete(), node: m.Node(), mirror: mirror})
	if static == nil {
		m.settled(name)
	} else {
		attached := mirror
		if mirror != nil && !shows(mirror, static) {
			attached = nil
		}
		m.Attach(static, attached)
	}
	var err error
	switch step {
	case mirrorCreate:
		err = m.create(ctx, static)
	case mirrorDelete:
		err = m.delete(ctx, mirror)
	case mirrorRelease:
		err = m.release(ctx, mirror)
	case mirrorKeep, mirrorAwait:
	}
	return err
}

// renderMirror is the object that shows static: nothing but where it comes from differs.
func renderMirror(static *keelsonv1.Pod, node *keelsonv1.Node) *keelsonv1.Pod {
	mirror := static.DeepCopy()
	mirror.ObjectMeta = metav1.ObjectMeta{
		Namespace: static.Namespace, Name: static.Name, Labels: mirror.Labels, Annotations: mirror.Annotations,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: keelsonv1.GroupVersion.String(), Kind: "Node", Name: node.Name, UID: node.UID, Controller: new(true),
		}},
	}
	mirror.Annotations[corev1.MirrorPodAnnotationKey] = static.Annotations[HashAnnotation]
	mirror.Status = keelsonv1.PodStatus{}
	return mirror
}

func (m *Mirrors) create(ctx context.Context, static *keelsonv1.Pod) error {
	mirror, name := renderMirror(static, m.Node()), nameOf(static)
	err := m.Client.Create(ctx, mirror)
	if err == nil {
		klog.FromContext(ctx).Info("Created the mirror of a static Pod", "pod", klog.KObj(static), "podUID", static.UID)
		m.settled(name)
		m.mu.Lock()
		if m.seen[name] == nil { // the watch brings it, and whatever follows
			m.seen[name] = mirror
		}
		m.mu.Unlock()
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	err = fmt.Errorf("creating the mirror of static Pod %s: %w", klog.KObj(static), err)
	m.mu.Lock()
	known := m.problems[name] == err.Error()
	m.problems[name] = err.Error()
	m.mu.Unlock()
	if !known {
		klog.FromContext(ctx).Error(err, "The API does not show a static Pod, which runs all the same; will retry", "pod", klog.KObj(static))
		if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown { // an answer, not its lack
			m.Refused(static, err)
		}
	}
	return err
}

func (m *Mirrors) settled(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.problems, name)
}

// delete removes exactly this object: another may have its name by now.
func (m *Mirrors) delete(ctx context.Context, mirror *keelsonv1.Pod) error {
	err := m.Client.Delete(ctx, mirror, client.GracePeriodSeconds(0), client.Preconditions{UID: &mirror.UID})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // the watch says what is there
	}
	if err != nil {
		err = fmt.Errorf("deleting mirror Pod %s: %w", klog.KObj(mirror), err)
		klog.FromContext(ctx).Error(err, "Cannot delete the mirror of a static Pod that is gone, will retry")
		return err
	}
	klog.FromContext(ctx).Info("Deleted a mirror Pod", "pod", klog.KObj(mirror), "podUID", mirror.UID)
	return nil
}

// release lets a mirror go that somebody gave the finalizer of Pods that run.
func (m *Mirrors) release(ctx context.Context, mirror *keelsonv1.Pod) error {
	freed := mirror.DeepCopy()
	freed.Finalizers = slices.DeleteFunc(freed.Finalizers, func(f string) bool { return f == keelsonv1.PodFinalizer })
	err := m.Client.Patch(ctx, freed, client.MergeFromWithOptions(mirror, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("releasing mirror Pod %s: %w", klog.KObj(mirror), err)
	}
	return nil
}
