package statefulset

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

var (
	now  = time.Unix(1_000_000, 0)
	long = now.Add(-time.Hour)
)

// pod is web-<ordinal> of a revision, its identity complete, not yet running.
func pod(ordinal int, revision string) *builders.PodBuilder {
	name := podName("web", ordinal)
	return builders.MakePod(name).UID("uid-"+name+"-"+revision).Label("app", "web").
		Owner("apps.keelson.dev/v1", "StatefulSet", "web", "set-uid").
		Label(upstreamappsv1.StatefulSetPodNameLabel, name).
		Label(upstreamappsv1.PodIndexLabel, strconv.Itoa(ordinal)).
		Label(upstreamappsv1.StatefulSetRevisionLabel, revision).Phase(corev1.PodPending)
}

func ready(ordinal int, revision string) *builders.PodBuilder {
	return pod(ordinal, revision).Ready(long)
}

func objects(all ...*builders.PodBuilder) []*keelsonv1.Pod {
	var out []*keelsonv1.Pod
	for _, b := range all {
		out = append(out, b.Obj())
	}
	return out
}

// actions is a plan in words.
type actions struct {
	Create, Ended, Fix, Condemned, Updated []string
}

func describe(p plan) actions {
	slots := func(all []slot) (out []string) {
		for _, s := range all {
			out = append(out, strconv.Itoa(s.ordinal)+"@"+s.revision)
		}
		return out
	}
	names := func(pods []*keelsonv1.Pod) (out []string) {
		for _, pod := range pods {
			out = append(out, pod.Name)
		}
		return out
	}
	fix := slots(p.fix)
	for i, s := range p.fix {
		fix[i] = s.pod.Name
	}
	return actions{Create: slots(p.create), Ended: names(p.ended), Fix: fix, Condemned: names(p.condemned), Updated: names(p.updated)}
}

func TestPlan(t *testing.T) {
	ordered := settings{name: "web", replicas: 3, rolling: true, maxUnavailable: 1}
	parallel := ordered
	parallel.parallel = true
	with := func(s settings, change func(*settings)) settings { change(&s); return s }
	same := revisions{current: "a", update: "a"}
	update := revisions{current: "a", update: "b"}
	for name, tc := range map[string]struct {
		settings  settings
		revisions revisions
		pods      []*keelsonv1.Pod
		want      actions
		waits     bool
	}{
		"the first Pod comes alone": {
			settings: ordered, revisions: same, want: actions{Create: []string{"0@a"}}, waits: true},
		"the next waits until the first runs": {
			settings: ordered, revisions: same, pods: objects(pod(0, "a")), waits: true},
		"and until it is ready": {
			settings: ordered, revisions: same, pods: objects(pod(0, "a").NotReady(long)), waits: true},
		"the next comes when the first is ready": {
			settings: ordered, revisions: same, pods: objects(ready(0, "a")), want: actions{Create: []string{"1@a"}}, waits: true},
		"and has been for minReadySeconds": {
			settings:  with(ordered, func(s *settings) { s.minReadySeconds = 10 }),
			revisions: same, pods: objects(pod(0, "a").Ready(now.Add(-9 * time.Second))), waits: true},
		"all at once in parallel": {
			settings: parallel, revisions: same, want: actions{Create: []string{"0@a", "1@a", "2@a"}}},
		"a gap is filled before anything else": {
			settings: ordered, revisions: same, pods: objects(ready(0, "a"), pod(2, "a")), want: actions{Create: []string{"1@a"}}, waits: true},
		"numbers begin where the user says": {
			settings:  with(ordered, func(s *settings) { s.start = 5 }),
			revisions: same, pods: objects(ready(5, "a")), want: actions{Create: []string{"6@a"}}, waits: true},
		"a terminating Pod keeps its name": {
			settings: ordered, revisions: same, pods: objects(ready(0, "a").Deleting(now)), waits: true},
		"in parallel too, and the others come": {
			settings: parallel, revisions: same, pods: objects(ready(0, "a").Deleting(now)), want: actions{Create: []string{"1@a", "2@a"}}},
		"a failed Pod makes room": {
			settings: ordered, revisions: same, pods: objects(ready(0, "a"), pod(1, "a").Phase(corev1.PodFailed)),
			want: actions{Ended: []string{"web-1"}}, waits: true},
		"so does one that succeeded": {
			settings: ordered, revisions: same, pods: objects(pod(0, "a").Phase(corev1.PodSucceeded)),
			want: actions{Ended: []string{"web-0"}}, waits: true},
		"one that is going already is not deleted again": {
			settings: ordered, revisions: same, pods: objects(pod(0, "a").Phase(corev1.PodFailed).Deleting(now)), waits: true},
		"lost labels of identity are written again": {
			settings: ordered, revisions: same,
			pods: objects(ready(0, "a").Label(upstreamappsv1.StatefulSetPodNameLabel, "x"), ready(1, "a"), ready(2, "a")),
			want: actions{Fix: []string{"web-0"}}},
		"scaling down begins at the top": {
			settings: with(ordered, func(s *settings) { s.replicas = 1 }), revisions: same,
			pods: objects(ready(0, "a"), ready(1, "a"), ready(2, "a")), want: actions{Condemned: []string{"web-2"}}, waits: false},
		"one at a time": {
			settings: with(ordered, func(s *settings) { s.replicas = 0 }), revisions: same,
			pods: objects(ready(0, "a"), ready(1, "a"), ready(2, "a").Deleting(now)), waits: true},
		"not while a lower one is sick": {
			settings: with(ordered, func(s *settings) { s.replicas = 1 }), revisions: same,
			pods: objects(pod(0, "a"), ready(1, "a"), ready(2, "a")), waits: true},
		"a sick one may go when it is the lowest sick one": {
			settings: with(ordered, func(s *settings) { s.replicas = 1 }), revisions: same,
			pods: objects(ready(0, "a"), ready(1, "a"), pod(2, "a")), want: actions{Condemned: []string{"web-2"}}},
		"else it waits for the lower one": {
			settings: with(ordered, func(s *settings) { s.replicas = 1 }), revisions: same,
			pods: objects(ready(0, "a"), pod(1, "a"), pod(2, "a")), waits: true},
		"in parallel all go": {
			settings: with(parallel, func(s *settings) { s.replicas = 1 }), revisions: same,
			pods: objects(pod(0, "a"), ready(1, "a"), pod(2, "a"), ready(3, "a").Deleting(now)), want: actions{Condemned: []string{"web-2", "web-1"}}},
		"a new first number condemns those below": {
			settings: with(ordered, func(s *settings) { s.start, s.replicas = 2, 1 }), revisions: same,
			pods: objects(ready(0, "a"), ready(1, "a"), ready(2, "a")), want: actions{Condemned: []string{"web-1"}}},
		"an update begins at the top": {
			settings: ordered, revisions: update, pods: objects(ready(0, "a"), ready(1, "a"), ready(2, "a")),
			want: actions{Updated: []string{"web-2"}}},
		"and goes down": {
			settings: ordered, revisions: update, pods: objects(ready(0, "a"), ready(1, "a"), ready(2, "b")),
			want: actions{Updated: []string{"web-1"}}},
		"not while a Pod is sick": {
			settings: ordered, revisions: update, pods: objects(ready(0, "a"), ready(1, "a"), pod(2, "b")), waits: true},
		"not past the partition": {
			settings: with(ordered, func(s *settings) { s.partition = 2 }), revisions: update,
			pods: objects(ready(0, "a"), ready(1, "a"), ready(2, "b"))},
		"below the partition Pods come from the current revision": {
			settings: with(ordered, func(s *settings) { s.partition = 2 }), revisions: update,
			pods: objects(ready(1, "a"), ready(2, "b")), want: actions{Create: []string{"0@a"}}, waits: true},
		"above it from the new one": {
			settings: with(ordered, func(s *settings) { s.partition = 2 }), revisions: update,
			pods: objects(ready(0, "a"), ready(1, "a")), want: actions{Create: []string{"2@b"}}, waits: true},
		"the partition counts from the first number": {
			settings: with(ordered, func(s *settings) { s.start, s.partition = 10, 1 }), revisions: update,
			pods: objects(ready(10, "a"), ready(11, "a"), ready(12, "b")), want: actions{Updated: []string{"web-11"}}},
		"nothing is updated on delete": {
			settings: with(ordered, func(s *settings) { s.rolling = false }), revisions: update,
			pods: objects(ready(0, "a"), ready(1, "a"), ready(2, "a"))},
		"but what comes is new": {
			settings: with(ordered, func(s *settings) { s.rolling = false }), revisions: update,
			pods: objects(ready(0, "a"), ready(2, "a")), want: actions{Create: []string{"1@b"}}, waits: true},
		"several at once where maxUnavailable allows": {
			settings: with(ordered, func(s *settings) { s.maxUnavailable = 2 }), revisions: update,
			pods: objects(ready(0, "a"), ready(1, "a"), ready(2, "a")), want: actions{Updated: []string{"web-2", "web-1"}}},
		"in parallel sick ones of the old revision go first": {
			settings: parallel, revisions: update, pods: objects(pod(0, "a"), ready(1, "a"), ready(2, "a")),
			want: actions{Updated: []string{"web-0"}}},
		"and sick ones of the new revision are waited for": {
			settings: parallel, revisions: update, pods: objects(ready(0, "a"), ready(1, "a"), pod(2, "b"))},
		"in parallel what ended is deleted once": {
			settings: parallel, revisions: update, pods: objects(pod(0, "a").Phase(corev1.PodFailed), ready(1, "b"), ready(2, "b")),
			want: actions{Ended: []string{"web-0"}}},
	} {
		t.Run(name, func(t *testing.T) {
			slices.Reverse(tc.pods) // no order is promised
			p := makePlan(input{settings: tc.settings, revisions: tc.revisions, pods: tc.pods, now: now})
			if diff := cmp.Diff(tc.want, describe(p)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if waits := p.waitsFor != ""; waits != tc.waits {
				t.Errorf("waits for %q, want waiting %v", p.waitsFor, tc.waits)
			}
		})
	}
}
