package status

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// server is an API with one Pod; calls are counted and can fail.
type server struct {
	client.Client
	patches int
	fail    []error
}

func newServer(t *testing.T, pod *keelsonv1.Pod) (*server, *keelsonv1.Pod) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := keelsonv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	s := &server{}
	count := func() error {
		s.patches++
		if len(s.fail) == 0 {
			return nil
		}
		err := s.fail[0]
		s.fail = s.fail[1:]
		return err
	}
	s.Client = interceptor.NewClient(
		fake.NewClientBuilder().WithScheme(scheme).WithObjects(pod).WithStatusSubresource(pod).Build(),
		interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if err := count(); err != nil {
					return err
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
	return s, s.read(t, pod)
}

func (s *server) read(t *testing.T, pod *keelsonv1.Pod) *keelsonv1.Pod {
	t.Helper()
	got := &keelsonv1.Pod{}
	if err := s.Get(t.Context(), client.ObjectKeyFromObject(pod), got); err != nil {
		t.Fatal(err)
	}
	return got
}

// change lets another writer change the Pod.
func (s *server) change(t *testing.T, pod *keelsonv1.Pod, change func(*keelsonv1.Pod)) {
	t.Helper()
	got := s.read(t, pod)
	change(got)
	var err error
	if finalizers := got.Finalizers; len(finalizers) != len(pod.Finalizers) || !slices.Equal(finalizers, pod.Finalizers) {
		err = s.Update(t.Context(), got)
	} else {
		err = s.Status().Update(t.Context(), got)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func runningStatus(pod *keelsonv1.Pod) corev1.PodStatus {
	return Compute(Input{Pod: pod, Now: now})
}

func TestFlushWritesOnceAndOnlyWhatChanged(t *testing.T) {
	s, pod := newServer(t, makePod("a"))
	w := NewWriter(s, clock.RealClock{})
	w.Observe(pod)
	w.Set(pod, runningStatus(pod))
	for range 3 {
		if err := w.Flush(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	if s.patches != 1 {
		t.Errorf("%d patches", s.patches)
	}
	got := s.read(t, pod)
	if got.Status.Summary.Status != "ContainerCreating" || got.Status.Summary.Ready != "0/1" || len(got.Status.Conditions) != 5 {
		t.Errorf("got %+v", got.Status)
	}
}

func TestConditionsOfOthersStay(t *testing.T) {
	s, pod := newServer(t, makePod("a"))
	w := NewWriter(s, clock.RealClock{})
	w.Observe(pod)
	// Another writer comes in between, so the first patch meets a conflict.
	s.change(t, pod, func(p *keelsonv1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: "example.com/gate", Status: corev1.ConditionTrue}}
	})
	w.Set(pod, runningStatus(pod))
	if err := w.Flush(t.Context(), pod); !apierrors.IsConflict(err) {
		t.Fatalf("first flush: %v", err)
	}
	if err := w.Flush(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	got := s.read(t, pod)
	if findCondition(got.Status.Conditions, "example.com/gate") == nil || findCondition(got.Status.Conditions, corev1.PodReady) == nil {
		t.Errorf("conditions: %+v", got.Status.Conditions)
	}
}

func TestOutageKeepsTheNewestStatus(t *testing.T) {
	s, pod := newServer(t, makePod("a"))
	for range 5 {
		s.fail = append(s.fail, errors.New("connection refused"))
	}
	w := NewWriter(s, clock.RealClock{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		w.Run(ctx)
		close(done)
	}()
	w.Observe(pod)
	first, last := runningStatus(pod), runningStatus(pod)
	first.Phase, last.Phase = corev1.PodRunning, corev1.PodSucceeded
	w.Set(pod, first)
	w.Set(pod, last)
	err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return s.read(t, pod).Status.Phase == corev1.PodSucceeded, nil
	})
	cancel()
	<-done
	if err != nil || s.patches != 6 {
		t.Errorf("%v after %d patches", err, s.patches)
	}
}

func TestFlushOfAPodThatIsGone(t *testing.T) {
	s, pod := newServer(t, makePod("a"))
	w := NewWriter(s, clock.RealClock{})
	w.Observe(pod)
	w.Set(pod, runningStatus(pod))
	if err := s.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context(), pod); err != nil {
		t.Error(err)
	}
	if err := w.Release(t.Context(), pod); err != nil {
		t.Error(err)
	}
}

func TestReleaseRemovesOnlyOurFinalizer(t *testing.T) {
	pod := makePod("a")
	pod.Finalizers = []string{"example.com/first", keelsonv1.PodFinalizer}
	s, pod := newServer(t, pod)
	w := NewWriter(s, clock.RealClock{})
	w.Observe(pod)
	if err := w.Release(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if got := s.read(t, pod).Finalizers; !slices.Equal(got, []string{"example.com/first"}) {
		t.Errorf("finalizers %v", got)
	}
}

func TestReleaseThatIsRefusedLooksAgain(t *testing.T) {
	pod := makePod("a")
	pod.Finalizers = []string{"example.com/first", keelsonv1.PodFinalizer}
	s, pod := newServer(t, pod)
	w := NewWriter(s, clock.RealClock{})
	w.Observe(pod)
	s.change(t, pod, func(p *keelsonv1.Pod) { p.Finalizers = []string{keelsonv1.PodFinalizer, "example.com/new"} })
	refusing := 0
	w.client = interceptor.NewClient(s.Client.(client.WithWatch), interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			err := c.Patch(ctx, o, p, opts...)
			if err != nil { // what the API server answers when a test of the patch fails
				refusing++
				return apierrors.NewGenericServerResponse(422, "patch", schema.GroupResource{}, o.GetName(), err.Error(), 0, false)
			}
			return nil
		},
	})
	if err := w.Release(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if got := s.read(t, pod).Finalizers; !slices.Equal(got, []string{"example.com/new"}) || refusing != 1 {
		t.Errorf("finalizers %v, %d refusals", got, refusing)
	}
}
