package staticpods

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Runner makes Pods real.
type Runner interface {
	// Predecessors ends what runs of Pods of the same name and other manifests, and
	// returns their UIDs; Left is called for each when nothing of it is left.
	Predecessors(pod *keelsonv1.Pod) []types.UID
	// Run starts the Pod, or goes on with it.
	Run(pod *keelsonv1.Pod)
	// End stops it; Left is called when nothing of it is left.
	End(uid types.UID)
}

// Set is the static Pods of the node: what the manifests ask for, and what of it runs.
// Of two Pods of one name the second starts when nothing is left of the first.
type Set struct {
	runner Runner
	clock  clock.PassiveClock
	// changed is called with the name of a Pod whose mirror may have to change.
	changed func(types.NamespacedName)
	report  Report

	mu      sync.Mutex
	sources map[string]*source
	slots   map[types.NamespacedName]*slot
	// duplicates says which of them were reported.
	duplicates problems
}

// source is what one source has said.
type source struct {
	seen bool
	pods []*keelsonv1.Pod
}

// slot is the one place that the Pods of a name share.
type slot struct {
	// wanted is what the manifests ask for now, nil when they ask for nothing.
	wanted *keelsonv1.Pod
	// active was given to the runner and has not left yet; ending that it was told to.
	active *keelsonv1.Pod
	ending bool
	// predecessors have to leave before anything starts.
	predecessors map[types.UID]bool
	// asked says that the runner was asked for predecessors.
	asked bool
}

// NewSet returns the Set of Pods from the named sources, in the order in which they win.
func NewSet(runner Runner, c clock.PassiveClock, report Report, changed func(types.NamespacedName), sources ...string) *Set {
	s := &Set{runner: runner, clock: c, changed: changed, report: report, duplicates: problems{report: report},
		sources: map[string]*source{}, slots: map[types.NamespacedName]*slot{}}
	for _, name := range sources {
		s.sources[name] = &source{}
	}
	return s
}

func nameOf(pod *keelsonv1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

// Replace takes over what a source says now.
func (s *Set) Replace(from string, pods []*keelsonv1.Pod) {
	s.mu.Lock()
	before := s.sources[from]
	first := !before.seen
	s.sources[from] = &source{seen: true, pods: pods}
	wanted := s.wanted()
	names := slices.AppendSeq(slices.Collect(maps.Keys(s.slots)), maps.Keys(wanted))
	slices.SortFunc(names, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	names = slices.Compact(names)
	for _, name := range names {
		s.want(name, wanted[name])
	}
	s.mu.Unlock()
	for _, name := range names {
		s.changed(name)
	}
	if first {
		s.changed(types.NamespacedName{}) // what was unknown is known
	}
}

// wanted is the Pod of each name: the first in the order of sources and manifests.
func (s *Set) wanted() map[types.NamespacedName]*keelsonv1.Pod {
	wanted := map[types.NamespacedName]*keelsonv1.Pod{}
	for _, from := range slices.Sorted(maps.Keys(s.sources)) { // file, then http
		for _, pod := range s.sources[from].pods {
			name := nameOf(pod)
			if present := wanted[name]; present != nil {
				s.duplicates.say(from+" "+string(pod.UID), fmt.Errorf("error validating pod %s_%s(%s) from %s due to duplicate pod name %q, ignoring",
					pod.Name, pod.Namespace, pod.UID, from, pod.Name))
				continue
			}
			wanted[name] = pod
		}
	}
	return wanted
}

func (s *Set) want(name types.NamespacedName, pod *keelsonv1.Pod) {
	w := s.slots[name]
	if w == nil {
		w = &slot{}
		s.slots[name] = w
	}
	if pod != nil && (w.wanted == nil || w.wanted.UID != pod.UID) {
		seen := pod.DeepCopy()
		seen.Annotations[SeenAnnotation] = s.clock.Now().Format(seenFormat)
		w.wanted, w.asked = seen, false
	} else if pod == nil {
		w.wanted = nil
	}
	s.step(name, w)
}

// seenFormat is upstream's, with nanoseconds.
const seenFormat = "2006-01-02T15:04:05.000000000Z07:00"

// step does what the slot needs next.
func (s *Set) step(name types.NamespacedName, w *slot) {
	switch {
	case w.active != nil:
		if !w.ending && (w.wanted == nil || w.wanted.UID != w.active.UID) {
			w.ending = true
			s.runner.End(w.active.UID)
		}
		return
	case w.wanted == nil:
		if len(w.predecessors) == 0 {
			delete(s.slots, name)
		}
		return
	case !w.asked:
		w.asked = true
		for _, uid := range s.runner.Predecessors(w.wanted) {
			if w.predecessors == nil {
				w.predecessors = map[types.UID]bool{}
			}
			w.predecessors[uid] = true
		}
	}
	if len(w.predecessors) > 0 {
		return
	}
	w.active, w.ending = w.wanted, false
	s.runner.Run(w.active)
}

// Left says that nothing is left of a Pod on the node. It may be called for any Pod.
func (s *Set) Left(uid types.UID) {
	var changed []types.NamespacedName
	s.mu.Lock()
	for name, w := range s.slots {
		switch {
		case w.active != nil && w.active.UID == uid:
			w.active, w.ending, w.asked = nil, false, true
		case w.predecessors[uid]:
			delete(w.predecessors, uid)
		default:
			continue
		}
		s.step(name, w)
		changed = append(changed, name)
	}
	s.mu.Unlock()
	for _, name := range changed {
		s.changed(name)
	}
}

// Complete says that every source has spoken: what no slot names is nobody's.
func (s *Set) Complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, from := range s.sources {
		if !from.seen {
			return false
		}
	}
	return true
}

// List returns the Pods that run or are about to, by name.
func (s *Set) List() []*keelsonv1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pods []*keelsonv1.Pod
	for _, w := range s.slots {
		if w.active != nil {
			pods = append(pods, w.active)
		}
	}
	slices.SortFunc(pods, func(a, b *keelsonv1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return pods
}

// Get returns the Pod of a name, and whether it is on its way out; nil when none runs.
func (s *Set) Get(name types.NamespacedName) (pod *keelsonv1.Pod, ending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.slots[name]
	if w == nil {
		return nil, false
	}
	return w.active, w.ending
}

// expected says that a Pod of the name runs or will.
func (s *Set) expected(name types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[name] != nil
}

// PredecessorsIn returns, of what a runtime holds, the Pods that an earlier manifest
// left behind under the name of pod.
func PredecessorsIn(held []runtime.PodState, pod *keelsonv1.Pod) []runtime.PodIdentity {
	var found []runtime.PodIdentity
	for i := range held {
		id := held[i].PodIdentity
		if id.Namespace == pod.Namespace && id.Name == pod.Name && id.UID != pod.UID && isHash(id.UID) {
			found = append(found, id)
		}
	}
	return found
}
