package daemonset

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

var (
	now  = time.Unix(1_000_000, 0)
	long = now.Add(-time.Hour)
)

// daemon is a Pod of a hash on a node, not yet running; Node("") makes it unbound.
func daemon(node, hash string) *builders.PodBuilder {
	name := node + "-" + hash
	return builders.MakePod(name).UID("uid-"+name).Label("app", "d").Label(hashLabel, hash).Node(node).Created(long).Phase(corev1.PodPending)
}

func ready(node, hash string) *builders.PodBuilder { return daemon(node, hash).Ready(long) }

// objects are the Pods of one place, ordered as placesOf does.
func objects(all []*builders.PodBuilder) []*keelsonv1.Pod {
	var out []*keelsonv1.Pod
	for _, b := range all {
		out = append(out, b.Obj())
	}
	slices.SortFunc(out, bySeniority)
	return out
}

func eligible(name string, pods ...*builders.PodBuilder) place {
	return place{name: name, known: true, run: true, stay: true, pods: objects(pods)}
}

func noSchedule(name string, pods ...*builders.PodBuilder) place {
	return place{name: name, known: true, stay: true, pods: objects(pods)}
}

func unfit(name string, pods ...*builders.PodBuilder) place {
	return place{name: name, known: true, pods: objects(pods)}
}

// The present template has the hash "new".
func isNew(pod *keelsonv1.Pod) bool { return pod.Labels[hashLabel] == "new" }

func never(string) bool { return false }

type actions struct {
	Create, Remove, Held []string
	Failed, Succeeded    int
}

func describe(p plan) actions {
	a := actions{Create: p.create, Held: p.held, Failed: len(p.failed), Succeeded: len(p.succeeded)}
	for _, pod := range p.remove {
		a.Remove = append(a.Remove, pod.Name)
	}
	return a
}

func TestPlan(t *testing.T) {
	one := limits{rolling: true, unavailable: 1}
	two := limits{rolling: true, unavailable: 2}
	surge := limits{rolling: true, surge: 1}
	for name, tc := range map[string]struct {
		limits   limits
		places   []place
		minReady int32
		hold     func(string) bool
		want     actions
	}{
		"an old and a new Pod stay together where the surge is a share of no node": {
			limits: limits{rolling: true, pairs: true}, places: []place{noSchedule("a", ready("a", "old"), daemon("a", "new"))}},
		"but are one too many where there is no surge": {
			limits: one, places: []place{noSchedule("a", ready("a", "old"), daemon("a", "new").Created(now))}, want: actions{Remove: []string{"a-new"}}},
		"every eligible node gets a Pod": {
			limits: one, places: []place{eligible("a"), noSchedule("b"), unfit("c"), eligible("d")}, want: actions{Create: []string{"a", "d"}}},
		"a Pod on its way counts": {
			limits: one, places: []place{eligible("a", daemon("a", "new").Node(""))}},
		"a terminating Pod is waited for": {
			limits: one, places: []place{eligible("a", ready("a", "new").Deleting(now))}},
		"a Pod stays behind a taint that only keeps others out": {
			limits: one, places: []place{noSchedule("a", ready("a", "new"))}},
		"a Pod leaves a node that became unfit": {
			limits: one, places: []place{unfit("a", ready("a", "new"), ready("a", "old").Deleting(now))}, want: actions{Remove: []string{"a-new"}}},
		"an unbound Pod for a node that is gone is deleted, a bound one is not ours": {
			limits: one, places: []place{{name: "gone", pods: objects([]*builders.PodBuilder{daemon("gone", "new").Node(""), ready("gone", "old")})}},
			want: actions{Remove: []string{"gone-new"}}},
		"a failed Pod is replaced": {
			limits: one, places: []place{eligible("a", daemon("a", "new").Phase(corev1.PodFailed))}, want: actions{Remove: []string{"a-new"}, Failed: 1}},
		"after its back-off": {
			limits: one, hold: func(node string) bool { return node == "a" },
			places: []place{eligible("a", daemon("a", "new").Phase(corev1.PodFailed)), eligible("b", daemon("b", "new").Phase(corev1.PodFailed))},
			want:   actions{Remove: []string{"b-new"}, Held: []string{"a"}, Failed: 1}},
		"no surge gets around the back-off": {
			limits: surge, hold: func(string) bool { return true },
			places: []place{eligible("a", daemon("a", "new").Phase(corev1.PodFailed))}, want: actions{Held: []string{"a"}}},
		"a Pod that succeeded is replaced at once": {
			limits: one, hold: func(string) bool { return true },
			places: []place{eligible("a", daemon("a", "new").Phase(corev1.PodSucceeded))}, want: actions{Remove: []string{"a-new"}, Succeeded: 1}},
		"of two Pods the unbound one goes, however old": {
			limits: one, places: []place{eligible("a", ready("a", "new"), daemon("a", "older").Node("").Created(long.Add(-time.Hour)))},
			want: actions{Remove: []string{"a-older"}}},

		"an update replaces as many as may be unavailable": {
			limits: two, places: []place{eligible("a", ready("a", "old")), eligible("b", ready("b", "old")), eligible("c", ready("c", "old"))},
			want: actions{Remove: []string{"a-old", "b-old"}}},
		"fewer where new ones are not ready yet": {
			limits: two, places: []place{eligible("a", daemon("a", "new")), eligible("b", ready("b", "old")), eligible("c", ready("c", "old"))},
			want: actions{Remove: []string{"b-old"}}},
		"or not for long enough": {
			limits: one, minReady: 10, places: []place{eligible("a", daemon("a", "new").Ready(now.Add(-9*time.Second))), eligible("b", ready("b", "old"))}},
		"old Pods that do not serve always go": {
			limits: one, places: []place{eligible("a", daemon("a", "old")), eligible("b", daemon("b", "old")), eligible("c", ready("c", "old"))},
			want: actions{Remove: []string{"a-old", "b-old"}}},
		"no update while a node lacks its Pod": {
			limits: one, places: []place{eligible("a"), eligible("b", ready("b", "old"))}, want: actions{Create: []string{"a"}}},
		"nor while one terminates, at the limit": {
			limits: one, places: []place{eligible("a", ready("a", "old").Deleting(now)), eligible("b", ready("b", "old"))}},
		"nothing is updated on delete": {
			places: []place{eligible("a", daemon("a", "old"))}},

		"a surge starts a second Pod": {
			limits: surge, places: []place{eligible("a", ready("a", "old")), eligible("b", ready("b", "old"))}, want: actions{Create: []string{"a"}}},
		"on no more nodes than allowed": {
			limits: surge, places: []place{eligible("a", ready("a", "old"), daemon("a", "new")), eligible("b", ready("b", "old"))}},
		"but wherever the old one does not serve": {
			limits: surge, places: []place{eligible("a", ready("a", "old"), daemon("a", "new")), eligible("b", daemon("b", "old"))},
			want: actions{Create: []string{"b"}}},
		"the old one goes when the new one is available": {
			limits: surge, places: []place{eligible("a", ready("a", "old"), ready("a", "new"))}, want: actions{Remove: []string{"a-old"}}},
		"or when it is not ready any more": {
			limits: surge, places: []place{eligible("a", daemon("a", "old"), daemon("a", "new"))}, want: actions{Remove: []string{"a-old"}}},
		"third Pods go": {
			limits: surge, places: []place{eligible("a", ready("a", "old"), ready("a", "older"), daemon("a", "new"))}, want: actions{Remove: []string{"a-older"}}},
		"an old Pod on a node it may only stay on goes when there are enough": {
			limits: surge, places: []place{noSchedule("a", ready("a", "old")), eligible("b", ready("b", "new"))}, want: actions{Remove: []string{"a-old"}}},
		"and stays while there are not": {
			limits: surge, places: []place{noSchedule("a", ready("a", "old")), eligible("b", daemon("b", "new"))}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.hold == nil {
				tc.hold = never
			}
			p := makePlan(input{places: tc.places, limits: tc.limits, latest: isNew, minReadySeconds: tc.minReady, now: now, hold: tc.hold})
			if diff := cmp.Diff(tc.want, describe(p)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanIsBounded(t *testing.T) {
	var places []place
	for i := range 2 * burst {
		places = append(places, eligible(string(rune('a'+i))), unfit("x"+string(rune('a'+i)), ready("n", "new")))
	}
	p := makePlan(input{places: places, limits: limits{rolling: true, unavailable: 1}, latest: isNew, now: now, hold: never})
	if len(p.create) != burst || len(p.remove) != burst {
		t.Errorf("%d created and %d removed at once, want %d of each", len(p.create), len(p.remove), burst)
	}
}

func TestLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		ds      *builders.DaemonSetBuilder
		desired int
		want    limits
		fails   bool
	}{
		"nothing said: one may be unavailable":        {ds: builders.MakeDaemonSet("d"), desired: 5, want: limits{rolling: true, unavailable: 1}},
		"percentages round up":                        {ds: builders.MakeDaemonSet("d").RollingUpdate("0", "30%"), desired: 5, want: limits{rolling: true, unavailable: 2}},
		"of a surge too":                              {ds: builders.MakeDaemonSet("d").RollingUpdate("1%", "0"), desired: 5, want: limits{rolling: true, surge: 1}},
		"neither is the same as one unavailable":      {ds: builders.MakeDaemonSet("d").RollingUpdate("0", "0"), desired: 5, want: limits{rolling: true, unavailable: 1}},
		"a share of no node lets nothing be updated":  {ds: builders.MakeDaemonSet("d").RollingUpdate("0", "30%"), want: limits{rolling: true}},
		"nor does a surge, but two may stay":          {ds: builders.MakeDaemonSet("d").RollingUpdate("30%", "0"), want: limits{rolling: true, pairs: true}},
		"one may be, of however many":                 {ds: builders.MakeDaemonSet("d"), want: limits{rolling: true, unavailable: 1}},
		"on delete there are none":                    {ds: builders.MakeDaemonSet("d").OnDelete(), desired: 5},
		"what is neither number nor share is refused": {ds: builders.MakeDaemonSet("d").RollingUpdate("0", "many"), desired: 5, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := limitsOf(&tc.ds.Obj().Spec, tc.desired)
			if (err != nil) != tc.fails || got != tc.want {
				t.Errorf("limits %+v, %v; want %+v, failure %v", got, err, tc.want, tc.fails)
			}
		})
	}
}
