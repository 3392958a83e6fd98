package scheduler

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2/ktesting"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/planner"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/queue"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulerconfig"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// newTestScheduler has one Node, and the Pod p in its queue and in the API; every
// write fails with failure unless that is nil.
func newTestScheduler(t *testing.T, pod *schedulertest.Pod, failure error) (*scheduler, *events.FakeRecorder) {
	t.Helper()
	scheme := newTestScheme()
	stored := pod.Obj()
	stored.Namespace = "default"
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(stored).WithStatusSubresource(stored).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			if failure != nil {
				return failure
			}
			return c.Patch(ctx, o, patch, options...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, _ string, o client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			if failure != nil {
				return failure
			}
			return c.Status().Patch(ctx, o, patch, options...)
		},
	}).Build()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(stored), stored); err != nil {
		t.Fatal(err)
	}
	recorder := events.NewFakeRecorder(10)
	clk := clocktesting.NewFakeClock(time.Unix(1_000_000, 0))
	s := newIdleScheduler()
	s.clock, s.client, s.live = clk, c, c
	s.profiles[corev1.DefaultSchedulerName].recorder = recorder
	s.cache.SetNode(schedulertest.MakeNode("n").Room("1", "1Gi", "10").Obj())
	s.queue.Set(state.NewPodInfo(stored))
	return s, recorder
}

// newIdleScheduler has the default profile and nobody to talk to.
func newIdleScheduler() *scheduler {
	config := schedulerconfig.Default("")
	built, err := config.Profiles[0].Build(nil)
	if err != nil {
		panic(err)
	}
	noBudgets := fake.NewClientBuilder().WithScheme(newTestScheme()).Build()
	return &scheduler{
		clock: clock.RealClock{}, cached: noBudgets, cache: state.NewCache(), snapshot: state.NewSnapshot(),
		queue: queue.New(queue.Options{Clock: clock.RealClock{}, InitialBackoff: config.InitialBackoff, MaxBackoff: config.MaxBackoff}),
		profiles: map[string]*profile{corev1.DefaultSchedulerName: {
			Planner: &planner.Planner{Profile: *built, Rand: rand.New(rand.NewPCG(1, 1))}, recorder: events.NewFakeRecorder(100),
		}},
	}
}

func newTestScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(keelsonv1.AddToScheme(scheme))
	utilruntime.Must(policyv1.AddToScheme(scheme))
	utilruntime.Must(appsv1.AddToScheme(scheme))
	return scheme
}

func countedOn(s *scheduler, node string) int {
	s.cache.Update(s.snapshot)
	return len(s.snapshot.Node(node).Pods)
}

func TestWhatAWriteLeavesBehind(t *testing.T) {
	pods := schema.GroupResource{Group: keelsonv1.GroupName, Resource: "pods"}
	long := errors.New(strings.Repeat("x", 5000))
	small, huge := "100m", "100"
	tests := map[string]struct {
		cpu     string
		failure error
		// wantHeld: the Node counts the Pod; wantQueued: it will be placed again.
		wantHeld, wantQueued bool
		wantEvent            string
	}{
		"bound":                         {small, nil, true, true, "Scheduled"},
		"gone while it was bound":       {small, apierrors.NewNotFound(pods, "p"), false, false, ""},
		"changed while it was bound":    {small, apierrors.NewConflict(pods, "p", errors.New("newer")), false, true, ""},
		"the binding is refused":        {small, apierrors.NewInternalError(long), false, true, "FailedScheduling"},
		"refused":                       {huge, nil, false, true, "FailedScheduling"},
		"gone while it was refused":     {huge, apierrors.NewNotFound(pods, "p"), false, false, ""},
		"changed while it was refused":  {huge, apierrors.NewConflict(pods, "p", errors.New("newer")), false, true, ""},
		"the condition is not accepted": {huge, apierrors.NewInternalError(long), false, true, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, ctx := ktesting.NewTestContext(t)
			s, recorder := newTestScheduler(t, schedulertest.MakePod("p").Asks(tc.cpu, "1Mi"), tc.failure)
			pod, err := s.queue.Pop(ctx)
			if err != nil {
				t.Fatal(err)
			}

			s.schedule(ctx, pod)()

			if held := countedOn(s, "n") == 1; held != tc.wantHeld {
				t.Errorf("the node counts the Pod: %t, want %t", held, tc.wantHeld)
			}
			if queued := s.queue.Pod(pod.Pod.UID) != nil; queued != tc.wantQueued {
				t.Errorf("the queue knows the Pod: %t, want %t", queued, tc.wantQueued)
			}
			event := ""
			select {
			case event = <-recorder.Events:
			default:
			}
			if !strings.Contains(event, tc.wantEvent) || (tc.wantEvent == "") != (event == "") {
				t.Errorf("event %q, want %q", event, tc.wantEvent)
			}
			if len(event) > 1024 {
				t.Errorf("an event of %d bytes is refused by the API server", len(event))
			}
		})
	}
}
