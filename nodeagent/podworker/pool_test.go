package podworker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// script is a Syncer that notes its calls and answers as told.
type script struct {
	mu    sync.Mutex
	calls []string
	// take is how long a call of that name lasts; it ends early when cancelled.
	take map[string]time.Duration
	// fail lists the errors of the next calls of that name.
	fail   map[string][]error
	result Result
}

func (s *script) do(ctx context.Context, name, detail string) error {
	s.mu.Lock()
	s.calls = append(s.calls, name+detail)
	var err error
	if queue := s.fail[name]; len(queue) > 0 {
		err, s.fail[name] = queue[0], queue[1:]
	}
	take := s.take[name]
	s.mu.Unlock()
	if take > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(take):
		}
	}
	return err
}

func (s *script) SyncPod(ctx context.Context, pod *keelsonv1.Pod) (Result, error) {
	err := s.do(ctx, "sync", fmt.Sprintf(" generation %d", pod.Generation))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result, err
}

func (s *script) StopPod(ctx context.Context, _ *keelsonv1.Pod, grace time.Duration) error {
	return s.do(ctx, "stop", fmt.Sprintf(" %v", grace))
}

func (s *script) FinishPod(ctx context.Context, _ *keelsonv1.Pod, forget bool) error {
	return s.do(ctx, "finish", map[bool]string{true: " forget", false: " keep"}[forget])
}

func (s *script) RemoveOrphan(ctx context.Context, id runtime.PodIdentity) error {
	return s.do(ctx, "orphan", " "+id.Name)
}

func (s *script) set(change func(*script)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// play runs story on a pool in fake time and compares the calls.
func play(t *testing.T, s *script, want []string, story func(p *Pool)) {
	t.Helper()
	if s.fail == nil {
		s.fail = map[string][]error{}
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := New(ctx, s, clock.RealClock{})
		story(p)
		synctest.Wait()
		cancel()
		p.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if diff := cmp.Diff(want, s.calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func makePod(generation int64) *keelsonv1.Pod {
	return &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "uid", Generation: generation}}
}

func deleted(pod *keelsonv1.Pod) *keelsonv1.Pod {
	pod.DeletionTimestamp = new(metav1.Now())
	return pod
}

func withGrace(pod *keelsonv1.Pod, seconds string) *keelsonv1.Pod {
	pod.Annotations = map[string]string{keelsonv1.DeletionGracePeriodAnnotation: seconds}
	return pod
}

const uid = types.UID("uid")

func TestLatestUpdateWins(t *testing.T) {
	s := &script{take: map[string]time.Duration{"sync": time.Second}}
	play(t, s, []string{"sync generation 1", "sync generation 4"}, func(p *Pool) {
		p.Update(makePod(1))
		synctest.Wait()
		for g := range int64(3) {
			p.Update(makePod(g + 2))
		}
		time.Sleep(3 * time.Second)
	})
}

func TestOwnStatusWritesWakeNobody(t *testing.T) {
	play(t, &script{}, []string{"sync generation 1"}, func(p *Pool) {
		p.Update(makePod(1))
		synctest.Wait()
		again := makePod(1)
		again.ResourceVersion, again.Status.Phase = "2", "Running"
		p.Update(again)
	})
}

func TestDeletionCancelsASync(t *testing.T) {
	s := &script{take: map[string]time.Duration{"sync": time.Hour}}
	play(t, s, []string{"sync generation 1", "stop 30s", "finish forget"}, func(p *Pool) {
		p.Update(makePod(1))
		synctest.Wait()
		p.Update(deleted(makePod(1)))
		synctest.Wait()
		if p.Has(uid) {
			t.Error("the worker is still there")
		}
	})
}

func TestGraceOnlyShrinks(t *testing.T) {
	s := &script{take: map[string]time.Duration{"stop": 20 * time.Second}}
	play(t, s, []string{"sync generation 1", "stop 30s", "stop 5s", "finish forget"}, func(p *Pool) {
		p.Update(makePod(1))
		synctest.Wait()
		p.Update(deleted(makePod(1)))
		synctest.Wait()
		p.Update(withGrace(deleted(makePod(1)), "5"))
		synctest.Wait()
		p.Update(withGrace(deleted(makePod(1)), "25")) // longer: the running stop goes on
		time.Sleep(time.Minute)
	})
}

func TestFailuresAreRetriedForEverWithACap(t *testing.T) {
	boom := errors.New("boom")
	s := &script{fail: map[string][]error{}}
	for range 9 {
		s.fail["sync"] = append(s.fail["sync"], boom)
	}
	start := time.Time{}
	var pauses []time.Duration
	want := make([]string, 10)
	for i := range want {
		want[i] = "sync generation 1"
	}
	play(t, s, want, func(p *Pool) {
		start = time.Now()
		seen := 1
		p.Update(makePod(1))
		for len(pauses) < 9 {
			synctest.Wait()
			s.mu.Lock()
			if len(s.calls) > seen {
				pauses, seen = append(pauses, time.Since(start)), len(s.calls)
				start = time.Now()
			}
			s.mu.Unlock()
			time.Sleep(time.Second)
		}
	})
	const second, minute = time.Second, time.Minute
	wantPauses := []time.Duration{second, 2 * second, 4 * second, 8 * second, 16 * second, 32 * second, minute, minute, minute}
	if diff := cmp.Diff(wantPauses, pauses); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}

func TestFinishedPodIsKeptUntilItIsDeleted(t *testing.T) {
	s := &script{result: Result{Finished: true}}
	play(t, s, []string{"sync generation 1", "stop 30s", "finish keep", "finish forget"}, func(p *Pool) {
		p.Update(makePod(1))
		synctest.Wait()
		if !p.Has(uid) {
			t.Error("a finished Pod was forgotten")
		}
		p.Update(deleted(makePod(1)))
	})
}

func TestPodThatTheAPILost(t *testing.T) {
	play(t, &script{}, []string{"sync generation 1", "stop 30s", "finish forget"}, func(p *Pool) {
		p.Update(makePod(1))
		synctest.Wait()
		p.Gone(uid)
	})
}

func TestOrphan(t *testing.T) {
	s := &script{fail: map[string][]error{"orphan": {errors.New("boom")}}}
	play(t, s, []string{"orphan left", "orphan left"}, func(p *Pool) {
		p.Orphan(runtime.PodIdentity{UID: uid, Name: "left"})
		p.Orphan(runtime.PodIdentity{UID: uid, Name: "left"}) // seen twice
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if p.Has(uid) {
			t.Error("the orphan still has a worker")
		}
	})
}

func TestOrphanThatTheAPINames(t *testing.T) {
	orphan := runtime.PodIdentity{UID: uid, Name: "p"}
	tests := map[string]struct {
		fail  []error
		story func(p *Pool)
		want  []string
	}{
		"runs afresh": {
			story: func(p *Pool) { p.Update(makePod(1)) },
			want:  []string{"orphan p", "sync generation 1"},
		},
		"runs although its removal failed": {
			fail:  []error{errors.New("boom")},
			story: func(p *Pool) { p.Update(makePod(1)) },
			want:  []string{"orphan p", "sync generation 1"},
		},
		"is gone again": {
			story: func(p *Pool) {
				p.Update(makePod(1))
				p.Gone(uid)
			},
			want: []string{"orphan p", "stop 30s", "finish forget"},
		},
		"is being deleted": {
			story: func(p *Pool) { p.Update(deleted(makePod(1))) },
			want:  []string{"orphan p", "stop 30s", "finish forget"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := &script{fail: map[string][]error{"orphan": tt.fail}, take: map[string]time.Duration{"orphan": time.Second}}
			play(t, s, tt.want, func(p *Pool) {
				p.Orphan(orphan)
				synctest.Wait()
				tt.story(p)
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestOrphanWithAWorkerIsLeftAlone(t *testing.T) {
	play(t, &script{}, []string{"sync generation 1"}, func(p *Pool) {
		p.Update(makePod(1))
		p.Orphan(runtime.PodIdentity{UID: uid, Name: "p"})
	})
}

func TestRetryAt(t *testing.T) {
	s := &script{}
	play(t, s, []string{"sync generation 1", "sync generation 1"}, func(p *Pool) {
		s.set(func(s *script) { s.result.RetryAt = time.Now().Add(10 * time.Second) })
		p.Update(makePod(1))
		synctest.Wait()
		s.set(func(s *script) { s.result.RetryAt = time.Time{} })
		time.Sleep(9 * time.Second)
		synctest.Wait()
		s.set(func(s *script) {
			if len(s.calls) != 1 {
				t.Errorf("calls before the time: %v", s.calls)
			}
		})
		time.Sleep(2 * time.Second)
	})
}

func TestWakeRunsAtOnceAndReplacesTheRetry(t *testing.T) {
	s := &script{}
	play(t, s, []string{"sync generation 1", "sync generation 1"}, func(p *Pool) {
		s.set(func(s *script) { s.result.RetryAt = time.Now().Add(10 * time.Second) })
		p.Update(makePod(1))
		synctest.Wait()
		s.set(func(s *script) { s.result.RetryAt = time.Time{} })
		p.Wake(uid)
		p.Wake("unknown")
		time.Sleep(time.Minute)
	})
}

func TestNothingRunsAfterTheAgentEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{take: map[string]time.Duration{"sync": time.Hour}}
		ctx, cancel := context.WithCancel(t.Context())
		p := New(ctx, s, clock.RealClock{})
		p.Update(makePod(1))
		synctest.Wait()
		cancel()
		p.Wait()
		p.Update(makePod(2))
		p.WakeAll()
		p.Wait()
		if diff := cmp.Diff([]string{"sync generation 1"}, s.calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestGracePeriod(t *testing.T) {
	tests := map[string]struct {
		spec       *int64
		annotation string
		want       time.Duration
	}{
		"the default":                  {nil, "", 30 * time.Second},
		"the spec's":                   {new(int64(7)), "", 7 * time.Second},
		"a negative spec":              {new(int64(-1)), "", time.Second},
		"shortened":                    {new(int64(7)), "3", 3 * time.Second},
		"kill at once":                 {nil, "0", 0},
		"never lengthened":             {new(int64(7)), "9", 7 * time.Second},
		"negative annotation":          {nil, "-3", time.Second},
		"garbage annotation":           {nil, "1m", 30 * time.Second},
		"so long that it overflows":    {new(int64(1 << 62)), "", time.Duration(maxGraceSeconds) * time.Second},
		"annotation beyond an integer": {nil, "99999999999999999999", 30 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := makePod(1)
			pod.Spec.TerminationGracePeriodSeconds = tt.spec
			if tt.annotation != "" {
				withGrace(pod, tt.annotation)
			}
			if got := GracePeriod(pod); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
