package catalog

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// Key names an object; Namespace is empty for a Namespace.
type Key struct{ Namespace, Name string }

// entry is what a table keeps of an object.
type entry[T any] interface {
	// terms are what the object is found under beside its own name.
	terms() []string
	equal(T) bool
}

// table is the store of a reflector: it keeps little of each object, indexed.
type table[T entry[T]] struct {
	// convert makes the entry of an object; nil entries are not kept.
	convert func(object any) (T, bool)
	clock   clock.PassiveClock

	synced   atomic.Bool
	modified atomic.Int64

	mu     sync.RWMutex
	items  map[Key]T
	byTerm map[string]map[Key]T
}

func newTable[T entry[T]](c clock.PassiveClock, convert func(any) (T, bool)) *table[T] {
	t := &table[T]{convert: convert, clock: c}
	t.items, t.byTerm = map[Key]T{}, map[string]map[Key]T{}
	return t
}

// get returns the entry with that name.
func (t *table[T]) get(key Key) (T, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	item, ok := t.items[key]
	return item, ok
}

// find returns the entries under a term, in the order of their names so that answers
// do not depend on chance.
func (t *table[T]) find(term string) []T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	found := t.byTerm[term]
	if len(found) == 0 {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(found), Key.compare)
	items := make([]T, 0, len(keys))
	for _, key := range keys {
		items = append(items, found[key])
	}
	return items
}

// Add implements cache.ReflectorStore.
func (t *table[T]) Add(object any) error { return t.set(object) }

// Update implements cache.ReflectorStore.
func (t *table[T]) Update(object any) error { return t.set(object) }

func (t *table[T]) set(object any) error {
	key, err := keyOf(object)
	if err != nil {
		return err
	}
	item, keep := t.convert(object)
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.items[key]
	if known && keep && before.equal(item) {
		return nil
	}
	t.dropLocked(key)
	if keep {
		t.putLocked(key, item)
	}
	if known || keep {
		t.touch()
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (t *table[T]) Delete(object any) error {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	key, err := keyOf(object)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.items[key]; known {
		t.dropLocked(key)
		t.touch()
	}
	return nil
}

// Replace implements cache.ReflectorStore: it is called with everything there is.
func (t *table[T]) Replace(objects []any, _ string) error {
	items := make(map[Key]T, len(objects))
	for _, object := range objects {
		key, err := keyOf(object)
		if err != nil {
			return err
		}
		if item, keep := t.convert(object); keep {
			items[key] = item
		}
	}
	t.mu.Lock()
	t.items, t.byTerm = make(map[Key]T, len(items)), make(map[string]map[Key]T, len(items))
	for key, item := range items {
		t.putLocked(key, item)
	}
	t.mu.Unlock()
	t.touch()
	t.synced.Store(true)
	return nil
}

// Resync implements cache.ReflectorStore; there is nobody to tell again.
func (t *table[T]) Resync() error { return nil }

func (t *table[T]) putLocked(key Key, item T) {
	t.items[key] = item
	for _, term := range item.terms() {
		if t.byTerm[term] == nil {
			t.byTerm[term] = map[Key]T{}
		}
		t.byTerm[term][key] = item
	}
}

func (t *table[T]) dropLocked(key Key) {
	before, known := t.items[key]
	if !known {
		return
	}
	delete(t.items, key)
	for _, term := range before.terms() {
		delete(t.byTerm[term], key)
		if len(t.byTerm[term]) == 0 {
			delete(t.byTerm, term)
		}
	}
}

func (t *table[T]) touch() { t.modified.Store(t.clock.Now().Unix()) }

func (t *table[T]) lastModified() time.Time { return time.Unix(t.modified.Load(), 0) }

func keyOf(object any) (Key, error) {
	m, err := meta.Accessor(object)
	if err != nil {
		return Key{}, fmt.Errorf("name a %T: %w", object, err)
	}
	return Key{m.GetNamespace(), m.GetName()}, nil
}
