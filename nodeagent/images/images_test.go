package images

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	byTag    = "reg.example/app:1"
	byDigest = "reg.example/app@sha256:0123456789012345678901234567890123456789012345678901234567890123"
)

// store is an image service: pulls take a second and fail as told.
type store struct {
	mu         sync.Mutex
	local      map[string]runtime.Image
	pulls      int
	cancelled  int
	pullErr    error
	inspectErr error
}

func (s *store) Image(_ context.Context, ref string) (*runtime.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if image, ok := s.local[ref]; ok {
		return &image, s.inspectErr
	}
	return nil, s.inspectErr
}

func (s *store) Pull(ctx context.Context, ref string, _ *runtime.Credential) (runtime.Image, error) {
	s.mu.Lock()
	s.pulls++
	err := s.pullErr
	s.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		s.mu.Lock()
		s.cancelled++
		s.mu.Unlock()
		return runtime.Image{}, ctx.Err()
	}
	return runtime.Image{Ref: ref, Size: 42}, err
}

// ask calls Ensure for Pod "uid" and returns all that it said.
func ask(m *Manager, image string, policy corev1.PullPolicy) ([]Event, *Error) {
	var events []Event
	_, err := m.Ensure(context.Background(), Request{Pod: "uid", Image: image, Policy: policy}, func(e Event) { events = append(events, e) })
	var waiting *Error
	if errors.As(err, &waiting) {
		return events, waiting
	}
	if err != nil {
		panic(err)
	}
	return events, nil
}

func TestEnsure(t *testing.T) {
	pulling := normal(EventPulling, `Pulling image "reg.example/app:1"`)
	pulled := normal(EventPulled, `Successfully pulled image "reg.example/app:1" in 1s (1s including waiting). Image size: 42 bytes.`)
	present := func(ref string) Event {
		return normal(EventPulled, `Container image "`+ref+`" already present on machine`)
	}
	tests := map[string]struct {
		image      string
		policy     corev1.PullPolicy
		present    bool
		pullErr    error
		inspectErr error
		wantPulls  int
		want       []Event
		wantErr    *Error
	}{
		"Always pulls what is here":            {image: byTag, policy: corev1.PullAlways, present: true, wantPulls: 1, want: []Event{pulling, pulled}},
		"Always does not pull a digest again":  {image: byDigest, policy: corev1.PullAlways, present: true, want: []Event{present(byDigest)}},
		"IfNotPresent uses what is here":       {image: byTag, policy: corev1.PullIfNotPresent, present: true, want: []Event{present(byTag)}},
		"IfNotPresent pulls what is not":       {image: byTag, policy: corev1.PullIfNotPresent, wantPulls: 1, want: []Event{pulling, pulled}},
		"Never uses what is here":              {image: byTag, policy: corev1.PullNever, present: true, want: []Event{present(byTag)}},
		"no policy and a tag is IfNotPresent":  {image: byTag, present: true, want: []Event{present(byTag)}},
		"no policy and a digest is not pulled": {image: byDigest, present: true, want: []Event{present(byDigest)}},
		"Never refuses what is not here": {
			image: byTag, policy: corev1.PullNever,
			want: []Event{
				warning(EventNeverPull, `Container image "reg.example/app:1" is not present with pull policy of Never`),
				warning(EventFailed, "Error: ErrImageNeverPull"),
			},
			wantErr: &Error{Reason: ReasonErrNeverPull, Message: `Container image "reg.example/app:1" is not present with pull policy of Never`},
		},
		"a name that is none": {
			image: "UPPER:1",
			want: []Event{
				warning(EventInspectFailed, `Failed to apply default image tag "UPPER:1": couldn't parse image name "UPPER:1": invalid reference format: repository name (library/UPPER) must be lowercase`),
				warning(EventFailed, "Error: InvalidImageName"),
			},
			wantErr: &Error{Reason: ReasonInvalidName, Message: `Failed to apply default image tag "UPPER:1": couldn't parse image name "UPPER:1": invalid reference format: repository name (library/UPPER) must be lowercase`},
		},
		"a pull that fails": {
			image: byTag, pullErr: errors.New("reg.example/app:1: not found"), wantPulls: 1,
			want: []Event{
				pulling,
				warning(EventFailed, `Failed to pull image "reg.example/app:1": reg.example/app:1: not found`),
				warning(EventFailed, "Error: ErrImagePull"),
			},
			wantErr: &Error{Reason: ReasonErrImagePull, Message: "reg.example/app:1: not found"},
		},
		"a runtime that does not answer": {
			image: byTag, inspectErr: errors.New("cannot reach containerd"),
			want: []Event{
				warning(EventInspectFailed, `Failed to inspect image "reg.example/app:1": cannot reach containerd`),
				warning(EventFailed, "Error: ImageInspectError"),
			},
			wantErr: &Error{Reason: ReasonInspectError, Message: `Failed to inspect image "reg.example/app:1": cannot reach containerd`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := &store{pullErr: test.pullErr, inspectErr: test.inspectErr}
				if test.present {
					service.local = map[string]runtime.Image{test.image: {Ref: test.image}}
				}
				events, err := ask(NewManager(service, clock.RealClock{}), test.image, test.policy)
				if diff := cmp.Diff(test.want, events); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(test.wantErr, err, cmpopts.IgnoreFields(Error{}, "RetryAt"), cmpopts.IgnoreUnexported(Error{})); diff != "" {
					t.Errorf("error (-want +got):\n%s", diff)
				}
				if err != nil && time.Until(err.RetryAt) != 10*time.Second {
					t.Errorf("retry in %v, want 10s", time.Until(err.RetryAt))
				}
				if service.pulls != test.wantPulls {
					t.Errorf("%d pulls, want %d", service.pulls, test.wantPulls)
				}
			})
		})
	}
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &store{pullErr: errors.New("not found")}
		m := NewManager(service, clock.RealClock{})
		wants := []int{10, 20, 40, 80, 160, 300, 300}
		for i, seconds := range wants {
			if _, err := ask(m, byTag, corev1.PullAlways); err.Reason != ReasonErrImagePull {
				t.Fatalf("try %d: %v", i, err)
			}
			events, err := ask(m, byTag, corev1.PullAlways)
			if err.Reason != ReasonImagePullBackOff || err.Message != `Back-off pulling image "reg.example/app:1": ErrImagePull: not found` {
				t.Fatalf("back-off %d: %v", i, err)
			}
			wantEvents := []Event{normal(EventBackOff, `Back-off pulling image "reg.example/app:1"`), warning(EventFailed, "Error: ImagePullBackOff")}
			if diff := cmp.Diff(wantEvents, events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if got := time.Until(err.RetryAt); got != time.Duration(seconds)*time.Second {
				t.Errorf("failure %d: retry in %v, want %ds", i, got, seconds)
			}
			time.Sleep(time.Until(err.RetryAt))
		}
		if service.pulls != len(wants) {
			t.Errorf("%d pulls, want %d", service.pulls, len(wants))
		}
		time.Sleep(resetAfter)
		if _, err := ask(m, byTag, corev1.PullAlways); time.Until(err.RetryAt) != firstDelay {
			t.Errorf("after a long time: retry in %v", time.Until(err.RetryAt))
		}
		m.Forget("uid")
		service.pullErr = nil
		if _, err := ask(m, byTag, corev1.PullAlways); err != nil {
			t.Errorf("after Forget: %v", err)
		}
	})
}

func TestOnePullForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &store{}
		m := NewManager(service, clock.RealClock{})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := ask(m, byTag, corev1.PullAlways); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if service.pulls != 1 {
			t.Errorf("%d pulls for twenty containers", service.pulls)
		}
	})
}

func TestPullEndsWhenNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &store{}
		m := NewManager(service, clock.RealClock{})
		ctx, cancel := context.WithCancel(t.Context())
		ensure := func(ctx context.Context) error {
			_, err := m.Ensure(ctx, Request{Image: byTag, Policy: corev1.PullAlways}, func(Event) {})
			return err
		}
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- ensure(ctx) }()
		synctest.Wait()
		go func() { second <- ensure(t.Context()) }()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		if err := <-second; err != nil {
			t.Errorf("who stayed got %v", err)
		}
		if service.cancelled != 0 {
			t.Error("the pull was cancelled though somebody waited")
		}

		alone, leave := context.WithCancel(t.Context())
		go func() { first <- ensure(alone) }()
		synctest.Wait()
		leave()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who was alone got %v", err)
		}
		synctest.Wait()
		if service.cancelled != 1 {
			t.Error("the pull went on for nobody")
		}
	})
}

func TestDefaultPolicy(t *testing.T) {
	tests := map[string]corev1.PullPolicy{
		"app": corev1.PullAlways, "app:latest": corev1.PullAlways, "reg:5000/app": corev1.PullAlways,
		"app:1": corev1.PullIfNotPresent, byDigest: corev1.PullIfNotPresent,
		"app:latest@sha256:0123456789012345678901234567890123456789012345678901234567890123": corev1.PullIfNotPresent,
	}
	for image, want := range tests {
		if got := DefaultPolicy(image); got != want {
			t.Errorf("DefaultPolicy(%q) = %s, want %s", image, got, want)
		}
	}
}
