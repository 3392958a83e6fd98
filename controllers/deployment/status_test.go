package deployment

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

var earlier, now = time.Unix(1000, 0), time.Unix(1700, 0)

func cond(t upstreamappsv1.DeploymentConditionType, status corev1.ConditionStatus, reason string, updated, changed time.Time) upstreamappsv1.DeploymentCondition {
	return upstreamappsv1.DeploymentCondition{
		Type: t, Status: status, Reason: reason, LastUpdateTime: metav1.NewTime(updated), LastTransitionTime: metav1.NewTime(changed),
	}
}

// TestConditions: the Deployment wants 2 Pods; its current set reports what the case says.
func TestConditions(t *testing.T) {
	reports := func(ready int32) *appsv1.ReplicaSet {
		rs := builders.MakeReplicaSet("web", 2).Obj()
		rs.Status.Replicas, rs.Status.ReadyReplicas, rs.Status.AvailableReplicas = 2, ready, ready
		return rs
	}
	failing := reports(1)
	failing.Status.Conditions = []upstreamappsv1.ReplicaSetCondition{{
		Type: upstreamappsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", LastTransitionTime: metav1.NewTime(earlier),
	}}
	isTrue, isFalse, unknown := corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown
	unavailable := cond(isAvailable, isFalse, reasonUnavailable, now, now)
	available := cond(isAvailable, isTrue, reasonAvailable, now, now)
	updated := cond(progressing, isTrue, reasonSetUpdated, earlier, earlier)
	tests := map[string]struct {
		had    []upstreamappsv1.DeploymentCondition
		ready  int32 // what was reported before
		set    *appsv1.ReplicaSet
		change func(*statusInput)
		want   []upstreamappsv1.DeploymentCondition
	}{
		"a set that was there is found, then seen to progress": {
			set: reports(1), want: []upstreamappsv1.DeploymentCondition{unavailable, cond(progressing, isTrue, reasonSetUpdated, now, now)},
		},
		"progress moves the time of the last update only": {
			had: []upstreamappsv1.DeploymentCondition{updated}, set: reports(1),
			want: []upstreamappsv1.DeploymentCondition{unavailable, cond(progressing, isTrue, reasonSetUpdated, now, earlier)},
		},
		"complete": {
			had: []upstreamappsv1.DeploymentCondition{updated}, set: reports(2),
			want: []upstreamappsv1.DeploymentCondition{available, cond(progressing, isTrue, reasonSetComplete, now, earlier)},
		},
		"no progress within the deadline": {
			had: []upstreamappsv1.DeploymentCondition{updated}, ready: 1, set: reports(1),
			want: []upstreamappsv1.DeploymentCondition{unavailable, cond(progressing, isFalse, reasonTimedOut, now, now)},
		},
		"no progress, but time is left": {
			had: []upstreamappsv1.DeploymentCondition{updated}, ready: 1, set: reports(1),
			change: func(in *statusInput) { in.spec.deadline = time.Hour },
			want:   []upstreamappsv1.DeploymentCondition{updated, unavailable},
		},
		"no deadline, no condition": {
			had: []upstreamappsv1.DeploymentCondition{updated}, set: reports(1),
			change: func(in *statusInput) { in.spec.deadline = 0 }, want: []upstreamappsv1.DeploymentCondition{unavailable},
		},
		"a Pod that is lost later is no rollout": {
			had: []upstreamappsv1.DeploymentCondition{cond(progressing, isTrue, reasonSetComplete, earlier, earlier)}, ready: 2, set: reports(1),
			want: []upstreamappsv1.DeploymentCondition{cond(progressing, isTrue, reasonSetComplete, earlier, earlier), unavailable},
		},
		"paused": {
			had: []upstreamappsv1.DeploymentCondition{updated}, set: reports(2),
			change: func(in *statusInput) { in.spec.paused, in.plan.estimate = true, false },
			want:   []upstreamappsv1.DeploymentCondition{available, cond(progressing, unknown, reasonPaused, now, now)},
		},
		"paused after the deadline: that stays": {
			had: []upstreamappsv1.DeploymentCondition{cond(progressing, isFalse, reasonTimedOut, earlier, earlier)}, ready: 1, set: reports(1),
			change: func(in *statusInput) { in.spec.paused, in.plan.estimate = true, false },
			want:   []upstreamappsv1.DeploymentCondition{cond(progressing, isFalse, reasonTimedOut, earlier, earlier), unavailable},
		},
		"resumed: the deadline counts from now": {
			had: []upstreamappsv1.DeploymentCondition{cond(progressing, unknown, reasonPaused, earlier, earlier)}, ready: 1, set: reports(1),
			want: []upstreamappsv1.DeploymentCondition{unavailable, cond(progressing, unknown, reasonResumed, now, earlier)},
		},
		"the set could not be made": {
			had: []upstreamappsv1.DeploymentCondition{updated}, ready: 1, set: reports(1),
			change: func(in *statusInput) { in.failure = errors.New("quota") },
			want:   []upstreamappsv1.DeploymentCondition{unavailable, cond(progressing, isFalse, reasonSetCreateError, now, now)},
		},
		"the set was made": {
			ready: 1, set: reports(1), change: func(in *statusInput) { in.created = true },
			want: []upstreamappsv1.DeploymentCondition{unavailable, cond(progressing, isTrue, reasonSetCreated, now, now)},
		},
		"Pods are refused": {
			had: []upstreamappsv1.DeploymentCondition{cond(progressing, isTrue, reasonSetUpdated, now, now)}, ready: 1, set: failing,
			want: []upstreamappsv1.DeploymentCondition{
				cond(progressing, isTrue, reasonSetUpdated, now, now), unavailable, cond(replicaFailure, isTrue, "FailedCreate", earlier, earlier),
			},
		},
		"Pods of two old sets are refused: the older is told of": {
			had: []upstreamappsv1.DeploymentCondition{cond(progressing, isTrue, reasonSetUpdated, now, now)}, ready: 1, set: reports(1),
			change: func(in *statusInput) {
				for _, reason := range []string{"Oldest", "Older"} {
					rs := failing.DeepCopy()
					rs.Status.Replicas, rs.Status.ReadyReplicas, rs.Status.AvailableReplicas = 0, 0, 0
					rs.Status.Conditions[0].Reason = reason
					in.plan.old = append(in.plan.old, &set{have: rs, want: rs})
				}
			},
			want: []upstreamappsv1.DeploymentCondition{
				cond(progressing, isTrue, reasonSetUpdated, now, now), unavailable, cond(replicaFailure, isTrue, "Oldest", earlier, earlier),
			},
		},
		"they are refused no more, and conditions of others stay": {
			had: []upstreamappsv1.DeploymentCondition{
				cond(replicaFailure, isTrue, "FailedCreate", earlier, earlier), cond("Mine", isTrue, "Mine", earlier, earlier),
				cond(progressing, isTrue, reasonSetUpdated, now, now),
			},
			ready: 1, set: reports(1),
			want: []upstreamappsv1.DeploymentCondition{
				cond("Mine", isTrue, "Mine", earlier, earlier), cond(progressing, isTrue, reasonSetUpdated, now, now), unavailable,
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d := builders.MakeDeployment("web", 2).Bounds(1, 0).Obj()
			d.Status.Conditions = tc.had
			d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.ReadyReplicas, d.Status.AvailableReplicas = 2, 2, tc.ready, tc.ready
			spec, err := settingsOf(d)
			if err != nil {
				t.Fatal(err)
			}
			in := statusInput{
				deployment: d, spec: &spec, now: now,
				plan: &plan{current: &set{have: tc.set, want: tc.set}, estimate: true},
			}
			if tc.change != nil {
				tc.change(&in)
			}
			got := computeStatus(in)
			byType := cmpopts.SortSlices(func(a, b upstreamappsv1.DeploymentCondition) bool { return a.Type < b.Type })
			if diff := cmp.Diff(tc.want, got.Conditions, byType, cmpopts.IgnoreFields(upstreamappsv1.DeploymentCondition{}, "Message")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNextCheck(t *testing.T) {
	spec := &settings{replicas: 2, deadline: 600 * time.Second}
	status := func(reason string) *appsv1.DeploymentStatus {
		s := &appsv1.DeploymentStatus{}
		s.Conditions = []upstreamappsv1.DeploymentCondition{cond(progressing, corev1.ConditionTrue, reason, now.Add(-time.Minute), earlier)}
		return s
	}
	if got := nextCheck(spec, status(reasonSetUpdated), now); got != 541*time.Second {
		t.Errorf("next check in %s, want what is left of the deadline and a second", got)
	}
	if got := nextCheck(spec, status(reasonTimedOut), now); got != 0 {
		t.Errorf("next check in %s after the deadline was missed", got)
	}
	if got := nextCheck(&settings{replicas: 2}, status(reasonSetUpdated), now); got != 0 {
		t.Errorf("next check in %s without a deadline", got)
	}
}
