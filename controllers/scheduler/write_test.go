package scheduler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2/ktesting"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// newTestScheduler has one Node, and the Pod p in its queue and in the API; every
// write fails with failure unless that is nil.
func newTestScheduler(t *testing.T, pod *podMaker, failure error) (*scheduler, *events.FakeRecorder) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	stored := pod.obj()
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
	s := &scheduler{
		clock: clk, client: c, recorder: recorder, nodes: newNodeCache(), queue: newQueue(clk), planner: newTestPlanner(1),
	}
	s.nodes.setNode(makeNode("n").room("1", "1Gi", "10").obj())
	s.queue.set(NewPodInfo(stored))
	return s, recorder
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
			s, recorder := newTestScheduler(t, makePod("p").asks(tc.cpu, "1Mi"), tc.failure)
			pod, err := s.queue.pop(ctx)
			if err != nil {
				t.Fatal(err)
			}

			s.schedule(ctx, pod)()

			if held := s.nodes.snapshot().Nodes()[0].pods == 1; held != tc.wantHeld {
				t.Errorf("the node counts the Pod: %t, want %t", held, tc.wantHeld)
			}
			if _, queued := s.queue.entries[pod.Pod.UID]; queued != tc.wantQueued {
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
