package podautoscaler

import (
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// memory is what the process knows of all autoscalers. It is lost with the process, as
// upstream's is: the first recommendation of the next one is the number that it finds.
type memory struct {
	mu    sync.Mutex
	known map[types.NamespacedName]*remembered
}

// remembered belongs to the one worker that reconciles the autoscaler, but for selector,
// which others look at under the lock.
type remembered struct {
	uid      types.UID
	history  history
	selector labels.Selector
}

func newMemory() *memory { return &memory{known: map[types.NamespacedName]*remembered{}} }

// of is what is known of the autoscaler of this name; of another one that bore it before,
// nothing is.
func (m *memory) of(key types.NamespacedName, uid types.UID) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	if have, ok := m.known[key]; ok && have.uid == uid {
		return have
	}
	fresh := &remembered{uid: uid, selector: labels.Nothing()}
	m.known[key] = fresh
	return fresh
}

func (m *memory) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, key)
}

// selects notes which Pods the autoscaler of this name scales, and returns another one of
// the namespace that scales one of them, too.
func (m *memory) selects(key types.NamespacedName, selector labels.Selector, pods []*keelsonv1.Pod) (other types.NamespacedName, ambiguous bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if own, ok := m.known[key]; ok {
		own.selector = selector
	}
	for name, have := range m.known {
		if name == key || name.Namespace != key.Namespace {
			continue
		}
		for _, pod := range pods {
			if have.selector.Matches(labels.Set(pod.Labels)) {
				return name, true
			}
		}
	}
	return types.NamespacedName{}, false
}
