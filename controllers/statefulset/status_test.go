package statefulset

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/test/builders"
)

func TestStatus(t *testing.T) {
	type result struct{ Replicas, Ready, Available, Current, Updated int32 }
	update := revisions{current: "a", update: "b"}
	for name, tc := range map[string]struct {
		names    revisions
		pods     []*builders.PodBuilder
		minReady int32
		updated  []int // numbers that the plan deletes for the update
		want     result
		current  string
		wait     time.Duration
	}{
		"no Pods": {names: update, current: "a"},
		"of both revisions": {
			names: update, pods: []*builders.PodBuilder{ready(0, "a"), ready(1, "a"), pod(2, "b")},
			want: result{Replicas: 3, Ready: 2, Available: 2, Current: 2, Updated: 1}, current: "a"},
		"what the plan deletes for the update is no current one any more": {
			names: update, pods: []*builders.PodBuilder{ready(0, "a"), ready(1, "a"), ready(2, "a")}, updated: []int{2},
			want: result{Replicas: 3, Ready: 3, Available: 3, Current: 2}, current: "a"},
		"nor is what terminates": {
			names: update, pods: []*builders.PodBuilder{ready(0, "a").Deleting(now), ready(1, "b")},
			want: result{Replicas: 2, Ready: 2, Available: 2, Updated: 1}, current: "a"},
		"a third revision counts for neither": {
			names: update, pods: []*builders.PodBuilder{ready(0, "x")},
			want: result{Replicas: 1, Ready: 1, Available: 1}, current: "a"},
		"one revision counts for both": {
			names: revisions{"a", "a"}, pods: []*builders.PodBuilder{ready(0, "a")},
			want: result{Replicas: 1, Ready: 1, Available: 1, Current: 1, Updated: 1}, current: "a"},
		"the update is complete": {
			names: update, pods: []*builders.PodBuilder{ready(0, "b"), ready(1, "b"), ready(2, "b")},
			want: result{Replicas: 3, Ready: 3, Available: 3, Current: 3, Updated: 3}, current: "b"},
		"not while one is not ready": {
			names: update, pods: []*builders.PodBuilder{ready(0, "b"), ready(1, "b"), pod(2, "b")},
			want: result{Replicas: 3, Ready: 2, Available: 2, Updated: 3}, current: "a"},
		"nor while one is too many": {
			names: update, pods: []*builders.PodBuilder{ready(0, "b"), ready(1, "b"), ready(2, "b"), ready(3, "a")},
			want: result{Replicas: 4, Ready: 4, Available: 4, Current: 1, Updated: 3}, current: "a"},
		"what is ready since nobody knows when is not available": {
			names: update, minReady: 10, pods: []*builders.PodBuilder{pod(0, "a").Ready(time.Time{}), ready(1, "a")},
			want: result{Replicas: 2, Ready: 2, Available: 1, Current: 2}, current: "a"},
		"available takes time": {
			names: update, minReady: 10, pods: []*builders.PodBuilder{pod(0, "a").Ready(now.Add(-4 * time.Second)), pod(1, "a").Ready(now.Add(-7 * time.Second))},
			want: result{Replicas: 2, Ready: 2, Current: 2}, current: "a", wait: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			set := builders.MakeStatefulSet("web", 3).Obj()
			set.Generation = 7
			set.Status.Replicas, set.Status.ReadyReplicas = 9, 9 // what was there counts for nothing
			s := &scope{set: set, names: tc.names, pods: objects(tc.pods...), now: now,
				spec: settings{name: "web", replicas: 3, minReadySeconds: tc.minReady}}
			for _, i := range tc.updated {
				s.plan.updated = append(s.plan.updated, s.pods[i])
			}
			status, wait := computeStatus(s)
			got := result{status.Replicas, status.ReadyReplicas, status.AvailableReplicas, status.CurrentReplicas, status.UpdatedReplicas}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if status.CurrentRevision != tc.current || status.UpdateRevision != tc.names.update || status.ObservedGeneration != 7 || wait != tc.wait {
				t.Errorf("revisions %q and %q, generation %d, wait %s", status.CurrentRevision, status.UpdateRevision, status.ObservedGeneration, wait)
			}
			wantColumns := appsv1.StatefulSetSummary{Ready: fmt.Sprintf("%d/3", tc.want.Ready), Containers: "main", Images: "test.invalid/main:1", Selector: "app=web"}
			if diff := cmp.Diff(wantColumns, status.Summary); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	set := builders.MakeStatefulSet("web", 3).Obj()
	owner := podcontrol.Owner{Object: set, Kind: kind}
	got := renderPod(owner, &set.Spec.Template, "svc", "web-abc", 12)
	want := map[string]string{"app": "web", "controller-revision-hash": "web-abc", "statefulset.kubernetes.io/pod-name": "web-12", "apps.kubernetes.io/pod-index": "12"}
	if diff := cmp.Diff(want, got.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if got.Name != "web-12" || got.GenerateName != "" || got.Spec.Hostname != "web-12" || got.Spec.Subdomain != "svc" {
		t.Errorf("name %q, generateName %q, host name %q of %q", got.Name, got.GenerateName, got.Spec.Hostname, got.Spec.Subdomain)
	}
	if len(set.Spec.Template.Labels) != 1 {
		t.Errorf("the template was changed: %v", set.Spec.Template.Labels)
	}
	for name, want := range map[string]int{"web-0": 0, "web-10": 10, "web-2147483647": 2147483647, "web-2147483648": -1, "web-01": -1, "web-": -1, "web": -1, "other-1": -1, "web-1-1": -1, "web-x": -1} {
		ordinal, ok := ordinalOf("web", name)
		if ok != (want >= 0) || (ok && ordinal != want) {
			t.Errorf("ordinalOf(%q) = %d, %v; want %d", name, ordinal, ok, want)
		}
	}
}

func TestSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		set   *builders.StatefulSetBuilder
		want  settings
		fails bool
	}{
		"nothing said": {set: builders.MakeStatefulSet("web", 1), want: settings{name: "web", replicas: 1, rolling: true, maxUnavailable: 1, historyLimit: 10}},
		"all of it": {
			set:  builders.MakeStatefulSet("web", 5).Start(3).Parallel().MinReadySeconds(4).RollingUpdate(2, "3").HistoryLimit(0),
			want: settings{name: "web", start: 3, replicas: 5, parallel: true, minReadySeconds: 4, rolling: true, partition: 2, maxUnavailable: 3}},
		"a share rounds down":          {set: builders.MakeStatefulSet("web", 5).RollingUpdate(0, "50%"), want: settings{name: "web", replicas: 5, rolling: true, maxUnavailable: 2, historyLimit: 10}},
		"but never to none":            {set: builders.MakeStatefulSet("web", 5).RollingUpdate(0, "10%"), want: settings{name: "web", replicas: 5, rolling: true, maxUnavailable: 1, historyLimit: 10}},
		"on delete":                    {set: builders.MakeStatefulSet("web", 1).OnDelete(), want: settings{name: "web", replicas: 1, maxUnavailable: 1, historyLimit: 10}},
		"neither a number nor a share": {set: builders.MakeStatefulSet("web", 1).RollingUpdate(0, "many"), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := settingsOf(tc.set.Obj())
			if (err != nil) != tc.fails || (!tc.fails && got != tc.want) {
				t.Errorf("settings %+v, %v; want %+v, failure %v", got, err, tc.want, tc.fails)
			}
		})
	}
	unknown := builders.MakeStatefulSet("web", 1).Obj()
	unknown.Spec.UpdateStrategy.Type = upstreamappsv1.RecreateStatefulSetStrategyType
	if _, err := settingsOf(unknown); err == nil {
		t.Error("a strategy that is not there passes")
	}
}

func TestClaims(t *testing.T) {
	set := builders.MakeStatefulSet("web", 3).UID("set-uid").Obj()
	selector, err := selectorOf(set)
	if err != nil {
		t.Fatal(err)
	}
	free := func(name string) *builders.PodBuilder { return builders.MakePod(name).UID(name).Label("app", "web") }
	mine := func(name string) *builders.PodBuilder {
		return free(name).Owner("apps.keelson.dev/v1", "StatefulSet", "web", "set-uid")
	}
	claims := planClaims(podcontrol.Owner{Object: set, Kind: kind}, selector, objects(
		free("web-1"), free("web-x"), free("other-1"), mine("web-0"), mine("web-old"), mine("web-2").Label("app", "else"),
		free("web-3").Phase(corev1.PodRunning).Owner("apps.keelson.dev/v1", "StatefulSet", "web", "another"),
	))
	list := func(p plan) []string { return describe(p).Ended }
	for what, tc := range map[string]struct{ got, want []string }{
		"mine":    {list(plan{ended: claims.Mine}), []string{"web-1", "web-0"}},
		"adopt":   {list(plan{ended: claims.Adopt}), []string{"web-1"}},
		"release": {list(plan{ended: claims.Release}), []string{"web-2", "web-old"}},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}
