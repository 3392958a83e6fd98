package garbagecollector

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// absentOwnersKept bounds the memory of absent owners. A thousand Pods of one
	// deleted owner ask for it once.
	absentOwnersKept = 500
	// reportsKept bounds the memory of references that an event has named.
	reportsKept = 500
)

// ownerKey is one reference as seen from one namespace. A UID never comes back, so
// one found absent stays so.
type ownerKey struct {
	resource        schema.GroupResource
	namespace, name string
	uid             types.UID
}

// report is one reference of one object.
type report struct{ dependent, owner types.UID }

// recent remembers the last keys that were added.
type recent[K comparable] struct {
	mu    sync.Mutex
	known map[K]struct{}
	order []K
	next  int
}

func newRecent[K comparable](size int) *recent[K] {
	return &recent[K]{known: map[K]struct{}{}, order: make([]K, size)}
}

func (r *recent[K]) has(key K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.known[key]
	return known
}

// add remembers key, and says whether it is new.
func (r *recent[K]) add(key K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.known[key]; known {
		return false
	}
	delete(r.known, r.order[r.next])
	r.order[r.next] = key
	r.known[key] = struct{}{}
	r.next = (r.next + 1) % len(r.order)
	return true
}
