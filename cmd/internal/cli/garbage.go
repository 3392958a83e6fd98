package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// A component on an idle cluster holds some ten MiB, of which Go's default lets it keep
// as much again in garbage; what a large cluster fills gets the default, because each
// collection then costs real time.
const (
	smallHeap, smallHeapPercent = 32 << 20, 40
	largeHeap, largeHeapPercent = 128 << 20, 100
)

// tuneGarbage lets garbage grow in relation to what is in use: little while that is
// little. It leaves a process alone whose environment sets GOGC.
func tuneGarbage() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(smallHeapPercent)
	afterCollection(smallHeapPercent)
}

// afterCollection looks again when the garbage collector finds the object that it leaves
// behind: once for each collection, without a timer.
func afterCollection(percent int) {
	sentinel := new([16]byte) // not a tiny one: those are collected together
	runtime.SetFinalizer(sentinel, func(*[16]byte) {
		next := computeGarbagePercent(liveHeap())
		if next != percent {
			debug.SetGCPercent(next)
		}
		afterCollection(next)
	})
}

// computeGarbagePercent is GOGC for a heap of which live bytes are in use: a straight
// line between the small heap and the large one, in steps of ten so that it rests.
func computeGarbagePercent(live uint64) int {
	switch {
	case live <= smallHeap:
		return smallHeapPercent
	case live >= largeHeap:
		return largeHeapPercent
	}
	share := float64(live-smallHeap) / (largeHeap - smallHeap)
	return smallHeapPercent + int(share*(largeHeapPercent-smallHeapPercent)/10)*10
}

// liveHeap is what the last collection found in use, in bytes.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
