package slowstart

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func TestRunStopsAfterTheFirstFailingBatch(t *testing.T) {
	tests := map[string]struct {
		count         int
		fail          func(i int) bool
		wantCalls     int
		wantSucceeded int
		wantErrors    int
	}{
		"nothing to do":                      {count: 0, fail: never},
		"all succeed":                        {count: 10, fail: never, wantCalls: 10, wantSucceeded: 10},
		"the first fails: one call":          {count: 500, fail: from(0), wantCalls: 1, wantErrors: 1},
		"a batch of two: the batch finishes": {count: 500, fail: from(1), wantCalls: 3, wantSucceeded: 1, wantErrors: 2},
		"one of a batch of four":             {count: 500, fail: only(4), wantCalls: 7, wantSucceeded: 6, wantErrors: 1},
		"the last, smaller batch":            {count: 4, fail: only(3), wantCalls: 4, wantSucceeded: 3, wantErrors: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			succeeded, err := Run(t.Context(), tc.count, func(_ context.Context, i int) error {
				calls.Add(1)
				if tc.fail(i) {
					return fmt.Errorf("call %d refused", i)
				}
				return nil
			})
			if got := int(calls.Load()); got != tc.wantCalls {
				t.Errorf("%d calls, want %d", got, tc.wantCalls)
			}
			if succeeded != tc.wantSucceeded {
				t.Errorf("succeeded = %d, want %d", succeeded, tc.wantSucceeded)
			}
			if got := countErrors(err); got != tc.wantErrors {
				t.Errorf("%d errors joined in %v, want %d", got, err, tc.wantErrors)
			}
		})
	}
}

func TestRunStopsWhenTheContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int32
	succeeded, err := Run(ctx, 100, func(_ context.Context, i int) error {
		calls.Add(1)
		if i == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
	if succeeded != 3 || calls.Load() != 3 {
		t.Errorf("succeeded %d of %d calls, want the first two batches (3)", succeeded, calls.Load())
	}
}

func TestAllTriesEverything(t *testing.T) {
	var calls atomic.Int32
	err := All(t.Context(), 100, func(_ context.Context, i int) error {
		calls.Add(1)
		if i%2 == 0 {
			return errors.New("refused")
		}
		return nil
	})
	if calls.Load() != 100 || countErrors(err) != 50 {
		t.Errorf("%d calls, %d errors; want 100 and 50", calls.Load(), countErrors(err))
	}
}

func TestRunNeverCallsTwiceNorTooManyAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(0, 600).Draw(t, "count")
		failing := rapid.SliceOfDistinct(rapid.IntRange(0, 600), rapid.ID[int]).Draw(t, "failing")
		var mu sync.Mutex
		seen := map[int]bool{}
		running, most := 0, 0
		succeeded, err := Run(context.Background(), count, func(_ context.Context, i int) error {
			mu.Lock()
			if seen[i] || i < 0 || i >= count {
				t.Errorf("call %d is out of range or repeated", i)
			}
			seen[i] = true
			running++
			most = max(most, running)
			mu.Unlock()
			runtime.Gosched()
			mu.Lock()
			running--
			mu.Unlock()
			if slices.Contains(failing, i) {
				return errors.New("refused")
			}
			return nil
		})
		if most > MaxParallel {
			t.Fatalf("%d calls at once", most)
		}
		if succeeded+countErrors(err) != len(seen) {
			t.Fatalf("%d succeeded and %d failed, but %d were called", succeeded, countErrors(err), len(seen))
		}
		if err == nil && succeeded != count {
			t.Fatalf("no error, but %d of %d succeeded", succeeded, count)
		}
	})
}

func never(int) bool            { return false }
func from(n int) func(int) bool { return func(i int) bool { return i >= n } }
func only(n int) func(int) bool { return func(i int) bool { return i == n } }
func countErrors(err error) int {
	if err == nil {
		return 0
	}
	return strings.Count(err.Error(), "refused")
}
