package eviction

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// node is a machine of a test: each Pod takes of its disk. What the Manager calls and
// what the test does meanwhile hold mu.
type node struct {
	mu                      sync.Mutex
	available, images, dead int64 // MiB
	pods                    map[string]int64
	order                   []*keelsonv1.Pod
	running                 map[string]bool
	log                     []string
	observeErr              error
	// slow Pods stay until they are stopped by the test.
	slow bool
}

func newNode(available int64) *node {
	return &node{available: available, pods: map[string]int64{}, running: map[string]bool{}}
}

func (n *node) add(pod *keelsonv1.Pod, mebibytes int64) {
	n.pods[pod.Name], n.running[pod.Name] = mebibytes, true
	n.order = append(n.order, pod)
}

// stop is the end of a slow Pod.
func (n *node) stop(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped(name)
}

func (n *node) stopped(name string) {
	n.running[name] = false
	n.available += n.pods[name]
}

func (n *node) note(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, line)
}

func (n *node) options() Options {
	return Options{
		Thresholds: []Threshold{{Signal: NodeFsAvailable, Value: quantity("100Mi")}},
		Transition: 5 * time.Minute, Clock: clock.RealClock{},
		Observe: func(context.Context) (Look, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return Look{Observations: Observations{NodeFsAvailable: {n.available * mib, 1000 * mib}}}, n.observeErr
		},
		Measure: func(_ context.Context, pod *keelsonv1.Pod, parts Part) *Usage {
			n.mu.Lock()
			defer n.mu.Unlock()
			if parts != PartDisk {
				return nil
			}
			return onDiskOf(n.pods[pod.Name]*mib, 0, 0)
		},
		Pods: func() []*keelsonv1.Pod {
			n.mu.Lock()
			defer n.mu.Unlock()
			return slices.Clone(n.order)
		},
		Evict: func(_ context.Context, e Eviction) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.log = append(n.log, "evict "+e.Pod.Name)
			n.order = slices.DeleteFunc(n.order, func(p *keelsonv1.Pod) bool { return p.Name == e.Pod.Name })
			if !n.slow {
				n.stopped(e.Pod.Name)
			}
		},
		Cleaned: func(pod *keelsonv1.Pod) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return !n.running[pod.Name]
		},
		ReclaimContainers: func(context.Context) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.log = append(n.log, "containers")
			n.available, n.dead = n.available+n.dead, 0
			return nil
		},
		ReclaimImages: func(context.Context) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.log = append(n.log, "images")
			n.available, n.images = n.available+n.images, 0
			return nil
		},
		Warn:    func(reason, message string) { n.note(reason + ": " + message) },
		Changed: func() { n.note("changed") },
		Count:   func(signal string) { n.note("count " + signal) },
	}
}

// run looks after the node in fake time until it has been quiet for d.
func run(t *testing.T, n *node, d time.Duration, during func(m *Manager)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := New(n.options())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.Run(ctx) }()
		synctest.Wait()
		if during != nil {
			during(m)
		}
		time.Sleep(d)
		synctest.Wait()
		cancel()
		<-done
	})
}

const met = "EvictionThresholdMet: Attempting to reclaim ephemeral-storage"

func TestWhatNobodyNeedsGoesFirst(t *testing.T) {
	n := newNode(50)
	n.dead, n.images = 20, 40
	n.add(podOf("p"), 900)
	run(t, n, time.Second, func(m *Manager) {
		if diff := cmp.Diff([]corev1.NodeConditionType{corev1.NodeDiskPressure}, m.Conditions()); diff != "" {
			t.Error(diff)
		}
	})
	if diff := cmp.Diff([]string{"changed", met, "containers", "images"}, n.log); diff != "" {
		t.Error(diff)
	}
}

func TestPodsAreEndedOneByOne(t *testing.T) {
	n := newNode(10)
	n.slow = true
	n.add(podOf("critical", important(systemCritical)), 500)
	n.add(podOf("small"), 40)
	n.add(podOf("large"), 60)
	n.add(podOf("stays", important(1)), 30)
	run(t, n, time.Minute, func(*Manager) {
		time.Sleep(9 * time.Second) // it waits for the first one
		n.stop("large")
		time.Sleep(2 * time.Second)
		n.stop("small")
	})
	want := []string{"changed",
		met, "containers", "images", "count nodefs.available", "evict large",
		met, "containers", "images", "count nodefs.available", "evict small"}
	if diff := cmp.Diff(want, n.log); diff != "" {
		t.Error(diff)
	}
}

func TestAPodThatDoesNotStopHoldsUpNobody(t *testing.T) {
	n := newNode(10)
	n.slow = true
	n.add(podOf("stuck"), 60)
	n.add(podOf("next"), 50)
	run(t, n, 31*time.Second, nil)
	if !slices.Contains(n.log, "evict next") {
		t.Errorf("log %q", n.log)
	}
}

func TestLimitsHoldOnAnEmptyNode(t *testing.T) {
	n := newNode(900)
	n.add(podOf("large", limiting("ephemeral-storage", "10Mi")), 11)
	n.add(podOf("small", limiting("ephemeral-storage", "10Mi")), 9)
	n.add(podOf("critical", limiting("ephemeral-storage", "10Mi"), important(systemCritical)), 99)
	n.add(podOf("free"), 500)
	run(t, n, time.Minute, nil)
	if diff := cmp.Diff([]string{"changed", "count ephemeralpodfs.limit", "evict large"}, n.log); diff != "" {
		t.Error(diff)
	}
}

func TestANodeThatCannotBeMeasuredIsLeftAlone(t *testing.T) {
	n := newNode(0)
	n.observeErr = errors.New("no such file")
	n.add(podOf("p"), 900)
	run(t, n, time.Minute, nil)
	if n.log != nil {
		t.Errorf("log %q", n.log)
	}
}
