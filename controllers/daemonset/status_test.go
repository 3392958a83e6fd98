package daemonset

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreamappsv1 "k8s.io/api/apps/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

func TestStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		places   []place
		minReady int32
		want     upstreamappsv1.DaemonSetStatus
		wait     time.Duration
	}{
		"no node": {},
		"nodes without Pods": {
			places: []place{eligible("a"), eligible("b")},
			want:   upstreamappsv1.DaemonSetStatus{DesiredNumberScheduled: 2, NumberUnavailable: 2}},
		"Pods where none should be": {
			places: []place{unfit("a", ready("a", "new")), noSchedule("b", ready("b", "new")), unfit("c")},
			want:   upstreamappsv1.DaemonSetStatus{NumberMisscheduled: 2}},
		"Pods of nodes that are gone do not count": {
			places: []place{{name: "gone", pods: objects([]*builders.PodBuilder{ready("gone", "new")})}}},
		"old and new, ready and not": {
			places: []place{eligible("a", ready("a", "new")), eligible("b", daemon("b", "new")), eligible("c", ready("c", "old"))},
			want: upstreamappsv1.DaemonSetStatus{DesiredNumberScheduled: 3, CurrentNumberScheduled: 3, NumberReady: 2,
				UpdatedNumberScheduled: 2, NumberAvailable: 2, NumberUnavailable: 1}},
		"the eldest speaks for a node": {
			places: []place{eligible("a", ready("a", "old"), ready("a", "new").Created(now))},
			want: upstreamappsv1.DaemonSetStatus{DesiredNumberScheduled: 1, CurrentNumberScheduled: 1, NumberReady: 1,
				NumberAvailable: 1}},
		"available takes time": {
			places: []place{eligible("a", daemon("a", "new").Ready(now.Add(-4*time.Second))), eligible("b", daemon("b", "new").Ready(now.Add(-7*time.Second)))}, minReady: 10,
			want: upstreamappsv1.DaemonSetStatus{DesiredNumberScheduled: 2, CurrentNumberScheduled: 2, NumberReady: 2, UpdatedNumberScheduled: 2, NumberUnavailable: 2},
			wait: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			ds := builders.MakeDaemonSet("d").Obj()
			ds.Generation = 3
			// What was there before counts for nothing.
			ds.Status.NumberReady, ds.Status.NumberMisscheduled = 7, 7
			tc.want.ObservedGeneration = 3
			got, wait := computeStatus(ds, input{places: tc.places, latest: isNew, minReadySeconds: tc.minReady, now: now}, nil)
			if diff := cmp.Diff(tc.want, got.DaemonSetStatus); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if wait != tc.wait {
				t.Errorf("wait %s, want %s", wait, tc.wait)
			}
			want := appsv1.DaemonSetSummary{
				UpToDate: tc.want.UpdatedNumberScheduled, Available: tc.want.NumberAvailable,
				NodeSelector: "<none>", Containers: "main", Images: "test.invalid/main:1", Selector: "app=d",
			}
			if diff := cmp.Diff(want, got.Summary); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
		})
	}
}
