package cli

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGarbageFollowsTheHeap(t *testing.T) {
	tests := map[string]struct {
		live uint64
		want int
	}{
		"nothing in use":              {0, 40},
		"an idle cluster":             {20 << 20, 40},
		"where the line begins":       {32 << 20, 40},
		"between":                     {80 << 20, 70},
		"just below the large heap":   {128<<20 - 1, 90},
		"a large heap has Go's own":   {128 << 20, 100},
		"the heap of a large cluster": {4 << 30, 100},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := computeGarbagePercent(tt.live); got != tt.want {
				t.Errorf("%d bytes: %d, want %d", tt.live, got, tt.want)
			}
		})
	}
}

// TestGarbageIsTuned lets the heap grow and shrink, and waits for the collector to follow.
func TestGarbageIsTuned(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "")
	tuneGarbage()
	large := make([]byte, 200<<20)
	waitForPercent(t, largeHeapPercent)
	runtime.KeepAlive(large)
	waitForPercent(t, smallHeapPercent)
}

func waitForPercent(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		runtime.GC()
		percent := debug.SetGCPercent(want) // tells, and would hide nothing: it is compared first
		if percent == want {
			return
		}
		debug.SetGCPercent(percent)
		runtime.Gosched()
	}
	t.Fatalf("GOGC did not become %d", want)
}

func TestGarbageIsLeftAlone(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "77")
	tuneGarbage()
	if got := debug.SetGCPercent(77); got != 77 {
		t.Errorf("GOGC=77 in the environment became %d", got)
	}
}
