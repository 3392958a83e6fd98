package staticpods

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// uid makes a UID as static Pods have.
func uid(c string) types.UID { return types.UID(strings.Repeat(c, 32)) }

func staticPod(name, u string) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: uid(u)}}
	pod.Annotations = map[string]string{HashAnnotation: string(pod.UID)}
	return pod
}

// scriptRunner notes what it is told.
type scriptRunner struct {
	did          []string
	predecessors []types.UID
}

func (r *scriptRunner) Run(pod *keelsonv1.Pod) { r.did = append(r.did, "run "+string(pod.UID[0])) }
func (r *scriptRunner) End(u types.UID)        { r.did = append(r.did, "end "+string(u[0])) }

func (r *scriptRunner) Predecessors(*keelsonv1.Pod) []types.UID {
	defer func() { r.predecessors = nil }()
	return r.predecessors
}

func TestSet(t *testing.T) {
	a1, a2, b := staticPod("a", "1"), staticPod("a", "2"), staticPod("b", "b")
	pods := func(p ...*keelsonv1.Pod) []*keelsonv1.Pod { return p }
	tests := map[string]struct {
		predecessors []types.UID
		do           func(s *Set)
		want         []string
	}{
		"Pods run once": {do: func(s *Set) {
			s.Replace(SourceFile, pods(a1))
			s.Replace(SourceFile, pods(a1))
		}, want: []string{"run 1"}},
		"a Pod whose manifest is gone ends": {do: func(s *Set) {
			s.Replace(SourceFile, pods(a1))
			s.Replace(SourceFile, nil)
			s.Replace(SourceFile, nil)
			s.Left(a1.UID)
		}, want: []string{"run 1", "end 1"}},
		"a changed Pod waits for the one before": {do: func(s *Set) {
			s.Replace(SourceFile, pods(a1))
			s.Replace(SourceFile, pods(a2))
			s.Left("another")
			s.Left(a1.UID)
		}, want: []string{"run 1", "end 1", "run 2"}},
		"a manifest that comes back while its Pod ends starts it again": {do: func(s *Set) {
			s.Replace(SourceFile, pods(a1))
			s.Replace(SourceFile, nil)
			s.Replace(SourceFile, pods(a1))
			s.Left(a1.UID)
		}, want: []string{"run 1", "end 1", "run 1"}},
		"a change that is taken back while the first ends": {do: func(s *Set) {
			s.Replace(SourceFile, pods(a1))
			s.Replace(SourceFile, pods(a2))
			s.Replace(SourceFile, nil)
			s.Left(a1.UID)
		}, want: []string{"run 1", "end 1"}},
		"what an earlier agent left behind goes first": {predecessors: []types.UID{uid("8"), uid("9")}, do: func(s *Set) {
			s.Replace(SourceFile, pods(a1, b))
			s.Left(uid("8"))
			s.Left(uid("9"))
		}, want: []string{"run b", "run 1"}},
		"files win over the web": {do: func(s *Set) {
			s.Replace(SourceHTTP, pods(a2))
			s.Replace(SourceFile, pods(a1))
			s.Left(a2.UID)
			s.Replace(SourceFile, nil)
			s.Left(a1.UID)
		}, want: []string{"run 2", "end 2", "run 1", "end 1", "run 2"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := &scriptRunner{predecessors: tt.predecessors}
			s := NewSet(r, clocktesting.NewFakePassiveClock(time.Unix(0, 0)), func(string, error) {}, func(types.NamespacedName) {}, SourceFile, SourceHTTP)
			tt.do(s)
			if diff := cmp.Diff(tt.want, r.did); diff != "" {
				t.Errorf("did (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDuplicateIsSaidOnceAndIgnored(t *testing.T) {
	var said []string
	r := &scriptRunner{}
	s := NewSet(r, clocktesting.NewFakePassiveClock(time.Unix(0, 0)), func(_ string, err error) { said = append(said, err.Error()) },
		func(types.NamespacedName) {}, SourceFile)
	for range 2 {
		s.Replace(SourceFile, []*keelsonv1.Pod{staticPod("a", "1"), staticPod("a", "2")})
	}
	want := []string{fmt.Sprintf("error validating pod a_default(%s) from file due to duplicate pod name \"a\", ignoring", uid("2"))}
	if diff := cmp.Diff(want, said); diff != "" || cmp.Diff([]string{"run 1"}, r.did) != "" {
		t.Errorf("did %v, said (-want +got):\n%s", r.did, diff)
	}
}

func TestSetIsCompleteWhenAllHaveSpoken(t *testing.T) {
	s := NewSet(&scriptRunner{}, clocktesting.NewFakePassiveClock(time.Unix(0, 0)), nil, func(types.NamespacedName) {}, SourceFile, SourceHTTP)
	s.Replace(SourceFile, nil)
	if s.Complete() {
		t.Error("complete although the web has not answered")
	}
	s.Replace(SourceHTTP, nil)
	if !s.Complete() {
		t.Error("not complete although both have spoken")
	}
}

func TestPredecessorsIn(t *testing.T) {
	held := func(name string, u types.UID) runtime.PodState {
		return runtime.PodState{PodIdentity: runtime.PodIdentity{UID: u, Namespace: "default", Name: name}}
	}
	got := PredecessorsIn([]runtime.PodState{
		held("a", uid("1")), held("a", uid("2")), held("b", uid("3")), held("a", "5e3ab2a0-93f4-4d0c-8b8e-3a3a2d0a9f11"),
	}, staticPod("a", "1"))
	if len(got) != 1 || got[0].UID != uid("2") {
		t.Errorf("got %v", got)
	}
}

func TestPlanMirror(t *testing.T) {
	static := staticPod("a", "1")
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}}
	mirror := func(hash string, change ...func(*keelsonv1.Pod)) *keelsonv1.Pod {
		m := staticPod("a", "f")
		m.Annotations[corev1.MirrorPodAnnotationKey] = string(uid(hash))
		for _, c := range change {
			c(m)
		}
		return m
	}
	deleted := func(m *keelsonv1.Pod) { m.DeletionTimestamp = new(metav1.Unix(0, 0)) }
	held := func(m *keelsonv1.Pod) { m.Finalizers = []string{keelsonv1.PodFinalizer} }
	tests := map[string]struct {
		facts mirrorFacts
		want  mirrorStep
	}{
		"a new Pod":                                   {mirrorFacts{static: static, synced: true, node: node}, mirrorCreate},
		"before the API was read":                     {mirrorFacts{static: static, node: node}, mirrorAwait},
		"before the Node is registered":               {mirrorFacts{static: static, synced: true}, mirrorAwait},
		"a Pod that is ending":                        {mirrorFacts{static: static, ending: true, synced: true, node: node}, mirrorAwait},
		"a mirror of the manifest":                    {mirrorFacts{static: static, synced: true, node: node, mirror: mirror("1")}, mirrorKeep},
		"a mirror of an older manifest":               {mirrorFacts{static: static, synced: true, node: node, mirror: mirror("2")}, mirrorDelete},
		"a mirror of a Pod that is ending":            {mirrorFacts{static: static, ending: true, synced: true, mirror: mirror("1")}, mirrorKeep},
		"a mirror of nothing":                         {mirrorFacts{synced: true, complete: true, mirror: mirror("1")}, mirrorDelete},
		"a mirror of what is not known yet":           {mirrorFacts{synced: true, mirror: mirror("1")}, mirrorAwait},
		"a mirror between two Pods":                   {mirrorFacts{synced: true, complete: true, expected: true, mirror: mirror("1")}, mirrorAwait},
		"a mirror that somebody deletes":              {mirrorFacts{static: static, synced: true, node: node, mirror: mirror("1", deleted)}, mirrorAwait},
		"a deleted mirror with the finalizer of Pods": {mirrorFacts{static: static, synced: true, node: node, mirror: mirror("1", deleted, held)}, mirrorRelease},
		"neither": {mirrorFacts{synced: true, complete: true}, mirrorKeep},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := planMirror(tt.facts); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
