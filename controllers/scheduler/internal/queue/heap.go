package queue

import "container/heap"

// entryHeap gives the least entry first and finds any of them again. Each entry is in
// one heap at most.
type entryHeap struct {
	less    func(a, b *entry) bool
	entries []*entry
}

func (h *entryHeap) Len() int           { return len(h.entries) }
func (h *entryHeap) Less(i, j int) bool { return h.less(h.entries[i], h.entries[j]) }

func (h *entryHeap) Swap(i, j int) {
	h.entries[i], h.entries[j] = h.entries[j], h.entries[i]
	h.entries[i].place, h.entries[j].place = i, j
}

// Push implements heap.Interface; use add.
func (h *entryHeap) Push(x any) {
	e, ok := x.(*entry)
	if !ok {
		return
	}
	e.place = len(h.entries)
	h.entries = append(h.entries, e)
}

// Pop implements heap.Interface; use take.
func (h *entryHeap) Pop() any {
	last := len(h.entries) - 1
	e := h.entries[last]
	h.entries[last] = nil
	h.entries = h.entries[:last]
	return e
}

func (h *entryHeap) add(e *entry)    { heap.Push(h, e) }
func (h *entryHeap) take(e *entry)   { heap.Remove(h, e.place) }
func (h *entryHeap) update(e *entry) { heap.Fix(h, e.place) }

func (h *entryHeap) first() *entry {
	if len(h.entries) == 0 {
		return nil
	}
	return h.entries[0]
}
