package runner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"
)

type call struct {
	At    time.Duration
	Check bool
}

// runFor returns the calls of Sync within the time; trigger runs beside.
func runFor(t *testing.T, total time.Duration, trigger func(r *Runner), sync func(n int) error) []call {
	t.Helper()
	var calls []call
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := New(Options{
			MinInterval: 100 * time.Millisecond, CheckInterval: func() time.Duration { return 30 * time.Second },
			MinBackoff: time.Second, MaxBackoff: 4 * time.Second, Clock: clock.RealClock{},
			Sync: func(_ context.Context, check bool) error {
				calls = append(calls, call{time.Since(start), check})
				return sync(len(calls))
			},
		})
		ctx, cancel := context.WithTimeout(t.Context(), total)
		defer cancel()
		go trigger(r)
		r.Run(ctx)
	})
	return calls
}

func TestChangesCloseTogetherAreOneCall(t *testing.T) {
	got := runFor(t, time.Second, func(r *Runner) {
		for range 20 {
			r.Trigger()
			time.Sleep(10 * time.Millisecond)
		}
	}, func(int) error { return nil })
	want := []call{{At: 0}, {At: 100 * time.Millisecond}, {At: 200 * time.Millisecond}}
	if len(got) < 2 || len(got) > 3 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("calls %v, want %v (the last one may be spared)", got, want)
	}
}

func TestChecksComeWithoutChanges(t *testing.T) {
	got := runFor(t, 70*time.Second, func(*Runner) {}, func(int) error { return nil })
	if diff := cmp.Diff([]call{{30 * time.Second, true}, {60 * time.Second, true}}, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestFailuresAreTriedAgainWithGrowingPauses(t *testing.T) {
	got := runFor(t, 16*time.Second, (*Runner).Trigger, func(n int) error {
		if n <= 5 {
			return errors.New("no")
		}
		return nil
	})
	want := []call{{0, false}, {1 * time.Second, true}, {3 * time.Second, true}, {7 * time.Second, true}, {11 * time.Second, true}, {15 * time.Second, true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
