package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/controllers/internal/repeats"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/planner"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/queue"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulerconfig"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// parallelWrites bounds the bindings and conditions on their way to the API server.
const parallelWrites = 16

// Options are what a scheduler can be told.
type Options struct {
	// SchedulerName is the spec.schedulerName it serves when ConfigFile is empty; a Pod
	// without one counts as default-scheduler's. Empty means default-scheduler.
	SchedulerName string
	// ConfigFile is the path of a KubeSchedulerConfiguration; empty means the defaults.
	ConfigFile string
	// Clock is the time of backoff and conditions; nil means the real one.
	Clock clock.Clock
	// Rand breaks ties between equal Nodes; nil means a randomly seeded source.
	Rand *rand.Rand
}

// CheckConfig reads a configuration file and returns what is wrong with it.
func CheckConfig(path string) error {
	_, err := schedulerconfig.Load(path)
	return err
}

// Add registers the scheduler with mgr; it runs on the leader.
func Add(mgr ctrl.Manager, o Options) error {
	config := schedulerconfig.Default(o.SchedulerName)
	if o.ConfigFile != "" {
		var err error
		if config, err = schedulerconfig.Load(o.ConfigFile); err != nil {
			return err
		}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	s := &scheduler{
		clock:    o.Clock,
		informer: mgr.GetCache(),
		cached:   mgr.GetCache(),
		client:   mgr.GetClient(),
		live:     mgr.GetAPIReader(),
		cache:    state.NewCache(),
		snapshot: state.NewSnapshot(),
		queue:    queue.New(queue.Options{Clock: o.Clock, InitialBackoff: config.InitialBackoff, MaxBackoff: config.MaxBackoff}),
		profiles: map[string]*profile{},
	}
	for i := range config.Profiles {
		p, err := config.Profiles[i].Build(workloads{s.cached})
		if err != nil {
			return err
		}
		s.profiles[p.SchedulerName] = &profile{
			Planner:  &planner.Planner{Profile: *p, Rand: o.Rand},
			recorder: repeats.Spare(mgr.GetEventRecorder(p.SchedulerName), o.Clock),
		}
	}
	return mgr.Add(s)
}

type scheduler struct {
	clock    clock.Clock
	informer cache.Informers
	// cached reads what informers hold; its results must not be changed. live reads the
	// API server.
	cached, live client.Reader
	client       client.Client

	cache *state.Cache
	// snapshot is for the goroutine that decides.
	snapshot *state.Snapshot
	queue    *queue.Queue
	// profiles are by schedulerName.
	profiles map[string]*profile
}

// profile is how the Pods of one schedulerName are placed.
type profile struct {
	*planner.Planner
	recorder events.EventRecorder
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
		pod, err := s.queue.Pop(ctx)
		if err != nil {
			return nil // Pop fails only when ctx ends, which is how a runnable stops
		}
		write := s.schedule(ctx, pod)
		if write == nil {
			continue
		}
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
// carries it out, if any.
func (s *scheduler) schedule(ctx context.Context, pod *state.PodInfo) (write func()) {
	logger := klog.FromContext(ctx).WithValues("pod", klog.KObj(pod.Pod))
	profile := s.profileOf(pod.Pod)
	if profile == nil {
		s.queue.Remove(pod.Pod.UID)
		return nil
	}
	if profile.Profile.Gates && len(pod.Pod.Spec.SchedulingGates) > 0 {
		return func() { s.gate(ctx, logger, pod) }
	}
	s.cache.Update(s.snapshot)
	placement := profile.Plan(pod, s.snapshot)
	if placement.Refusal == nil {
		s.cache.Assume(pod, placement.Node)
		return func() { s.bind(ctx, logger, profile, pod, placement.Node) }
	}
	outcome := profile.Preempt(pod, s.snapshot, placement.Refusal, s.budgets(ctx, profile))
	r := &refusal{profile: profile, pod: pod, why: placement.Refusal, outcome: outcome}
	placement.Refusal.Preemption = outcome.Message
	if outcome.Preemption != nil {
		r.outranked = outrankedOn(s.snapshot, pod, outcome.Preemption.Node)
		s.cache.Nominate(pod, outcome.Preemption.Node)
	} else if !outcome.KeepNomination {
		s.cache.Nominate(pod, "")
	}
	logger.V(2).Info("No node fits", "reason", placement.Refusal.Message())
	return func() { s.refuse(ctx, logger, r) }
}

// watch follows all that placing depends on and returns when the present state is
// known: before that, a Node would seem emptier than it is.
func (s *scheduler) watch(ctx context.Context) error {
	watches := []struct {
		kind    client.Object
		handler toolscache.ResourceEventHandler
	}{
		{&corev1.Namespace{}, s.namespaceHandler()},
		{&keelsonv1.Node{}, s.nodeHandler()},
		{&keelsonv1.Pod{}, s.podHandler()},
	}
	// Read when a decision needs them.
	for _, kind := range []client.Object{
		&keelsonv1.Service{}, &keelsonv1.ReplicationController{}, &appsv1.ReplicaSet{}, &appsv1.StatefulSet{},
		&policyv1.PodDisruptionBudget{},
	} {
		if _, err := s.informer.GetInformer(ctx, kind); err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	var registrations []registration
	var synced []toolscache.InformerSynced
	closeAll := func() error {
		var errs []error
		for _, r := range registrations {
			errs = append(errs, r.close())
		}
		return errors.Join(errs...)
	}
	for _, w := range watches {
		r, err := s.handle(ctx, w.kind, w.handler)
		if err != nil {
			return errors.Join(err, closeAll())
		}
		registrations, synced = append(registrations, r), append(synced, r.HasSynced)
	}
	context.AfterFunc(ctx, func() { _ = closeAll() })
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
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

// profileOf is nil for a Pod of another scheduler.
func (s *scheduler) profileOf(pod *keelsonv1.Pod) *profile {
	name := pod.Spec.SchedulerName
	if name == "" {
		name = keelsonv1.DefaultSchedulerName
	}
	return s.profiles[name]
}

func (s *scheduler) wakers(r *refusal) []plugins.Waker {
	if r.why.Nodes == 0 {
		return []plugins.Waker{plugins.AnyNewNode()}
	}
	var wakers []plugins.Waker
	for _, name := range r.why.Plugins() {
		if filter := r.profile.Profile.Filter(name); filter != nil {
			wakers = append(wakers, filter)
		}
	}
	return wakers
}
