package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// parallelWrites bounds the bindings and conditions on their way to the API server.
const parallelWrites = 16

// Options are what a scheduler can be told.
type Options struct {
	// SchedulerName is the spec.schedulerName it serves; a Pod without one counts as
	// default-scheduler's. Empty means default-scheduler.
	SchedulerName string
	// Clock is the time of backoff and conditions; nil means the real one.
	Clock clock.Clock
	// Rand breaks ties between equal Nodes; nil means a randomly seeded source.
	Rand *rand.Rand
}

// Add registers the scheduler with mgr; it runs on the leader.
func Add(mgr ctrl.Manager, o Options) error {
	if o.SchedulerName == "" {
		o.SchedulerName = keelsonv1.DefaultSchedulerName
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return mgr.Add(&scheduler{
		name:     o.SchedulerName,
		clock:    o.Clock,
		informer: mgr.GetCache(),
		client:   mgr.GetClient(),
		recorder: mgr.GetEventRecorder(o.SchedulerName),
		nodes:    newNodeCache(),
		queue:    newQueue(o.Clock),
		planner:  &planner{filters: filters(), scores: scores(), rand: o.Rand},
	})
}

type scheduler struct {
	name     string
	clock    clock.Clock
	informer cache.Informers
	client   client.Client
	recorder events.EventRecorder

	nodes   *nodeCache
	queue   *queue
	planner *planner
}

// NeedLeaderElection makes the manager run it on the leader only.
func (s *scheduler) NeedLeaderElection() bool { return true }

// Start places Pods until ctx ends.
func (s *scheduler) Start(ctx context.Context) error {
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithName("scheduler"))
	if err := s.watch(ctx); err != nil {
		return err
	}
	var writes sync.WaitGroup
	defer writes.Wait()
	slots := make(chan struct{}, parallelWrites)
	for {
		pod, err := s.queue.pop(ctx)
		if err != nil {
			return nil // pop fails only when ctx ends, which is how a runnable stops
		}
		write := s.schedule(ctx, pod)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		writes.Go(func() {
			defer func() { <-slots }()
			write()
		})
	}
}

// schedule decides about one Pod, counts the decision, and returns the write that
// carries it out.
func (s *scheduler) schedule(ctx context.Context, pod *PodInfo) (write func()) {
	logger := klog.FromContext(ctx).WithValues("pod", klog.KObj(pod.Pod))
	placement := s.planner.plan(pod, s.nodes.snapshot())
	if placement.Refusal != nil {
		logger.V(2).Info("No node fits", "reason", placement.Refusal.Message())
		return func() { s.refuse(ctx, logger, pod, placement.Refusal) }
	}
	s.nodes.assume(pod, placement.Node)
	return func() { s.bind(ctx, logger, pod, placement.Node) }
}

func (s *scheduler) bind(ctx context.Context, logger klog.Logger, pod *PodInfo, node string) {
	err := s.applyBinding(ctx, pod.Pod, node)
	switch {
	case err == nil:
		logger.V(2).Info("Bound", "node", node)
		eventScheduled(s.recorder, pod.Pod, node)
		// The assumption stays until the watch shows the Pod bound or gone.
	case apierrors.IsNotFound(err):
		s.nodes.forget(pod.Pod.UID)
		s.queue.remove(pod.Pod.UID)
	default:
		s.nodes.forget(pod.Pod.UID)
		s.queue.retry(pod.Pod.UID)
		// What this Pod seemed to hold is free for others again.
		s.queue.happened(podGone)
		if apierrors.IsConflict(err) {
			logger.V(2).Info("Somebody changed the Pod, placing it again", "node", node)
			return
		}
		logger.Error(err, "Binding failed, placing the Pod again")
		eventFailedBinding(s.recorder, pod.Pod, err)
	}
}

func (s *scheduler) refuse(ctx context.Context, logger klog.Logger, pod *PodInfo, refusal *Refusal) {
	message := refusal.Message()
	err := s.applyUnschedulable(ctx, pod.Pod, message)
	switch {
	case err == nil:
		eventFailedScheduling(s.recorder, pod.Pod, message)
		s.queue.refuse(pod.Pod.UID, refusal.helpedBy)
	case apierrors.IsNotFound(err):
		s.queue.remove(pod.Pod.UID)
	default:
		// The next attempt writes the condition again.
		s.queue.retry(pod.Pod.UID)
		if !apierrors.IsConflict(err) {
			logger.Error(err, "Could not say why the Pod waits")
		}
	}
}

// watch follows Nodes and Pods and returns when the present ones are known: before
// that, a Node would seem emptier than it is.
func (s *scheduler) watch(ctx context.Context) error {
	nodes, err := s.handle(ctx, &keelsonv1.Node{}, s.nodeHandler())
	if err != nil {
		return err
	}
	pods, err := s.handle(ctx, &keelsonv1.Pod{}, s.podHandler())
	if err != nil {
		return errors.Join(err, nodes.close())
	}
	context.AfterFunc(ctx, func() { _ = errors.Join(nodes.close(), pods.close()) })
	if !toolscache.WaitForCacheSync(ctx.Done(), nodes.HasSynced, pods.HasSynced) {
		return ctx.Err()
	}
	return nil
}

// registration is a handler that can be taken off its informer.
type registration struct {
	toolscache.ResourceEventHandlerRegistration
	informer cache.Informer
}

func (r registration) close() error {
	return r.informer.RemoveEventHandler(r.ResourceEventHandlerRegistration)
}

func (s *scheduler) handle(ctx context.Context, kind client.Object, handler toolscache.ResourceEventHandler) (registration, error) {
	informer, err := s.informer.GetInformer(ctx, kind)
	if err != nil {
		return registration{}, fmt.Errorf("watch %T: %w", kind, err)
	}
	handle, err := informer.AddEventHandler(handler)
	if err != nil {
		return registration{}, fmt.Errorf("follow %T: %w", kind, err)
	}
	return registration{handle, informer}, nil
}
