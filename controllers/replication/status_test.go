package replication

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/replicas"
	"github.com/keelson-dev/keelson/test/builders"
)

func TestComputeStatusCondition(t *testing.T) {
	earlier, now := time.Unix(100, 0), time.Unix(200, 0)
	failed := func(reason, message string, at time.Time) []corev1.ReplicationControllerCondition {
		return []corev1.ReplicationControllerCondition{{
			Type: replicaFailure, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(at),
		}}
	}
	creating := &replicas.Plan{Create: 1}
	deleting := &replicas.Plan{Delete: []*keelsonv1.Pod{builders.MakePod("a").Obj()}}
	tests := map[string]struct {
		had      []corev1.ReplicationControllerCondition
		observed int64
		plan     *replicas.Plan
		failure  error
		want     []corev1.ReplicationControllerCondition
	}{
		"no failure, no condition": {plan: creating},
		"a Pod is refused":         {plan: creating, failure: errors.New("quota"), want: failed("FailedCreate", "quota", now)},
		"a deletion is refused":    {plan: deleting, failure: errors.New("webhook"), want: failed("FailedDelete", "webhook", now)},
		"the spec cannot be served": {
			plan: &replicas.Plan{}, failure: errors.New("no template"), want: failed("InvalidSpec", "no template", now),
		},
		"it still fails for the same reason: nothing to write": {
			had: failed("FailedCreate", "quota", earlier), observed: 2, plan: creating, failure: errors.New("quota, again"),
			want: failed("FailedCreate", "quota", earlier),
		},
		"another spec fails: its message, the first time": {
			had: failed("FailedCreate", "quota", earlier), observed: 1, plan: creating, failure: errors.New("bad label"),
			want: failed("FailedCreate", "bad label", earlier),
		},
		"another reason": {
			had: failed("FailedCreate", "quota", earlier), observed: 2, plan: deleting, failure: errors.New("webhook"),
			want: failed("FailedDelete", "webhook", earlier),
		},
		"it works again": {had: failed("FailedCreate", "quota", earlier), observed: 2, plan: creating},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			rc := builders.MakeReplicationController("web", 3).Generation(2).Obj()
			rc.Status.Conditions, rc.Status.ObservedGeneration = tc.had, tc.observed
			before := rc.DeepCopy()
			got := computeStatus(rc, replicas.Counts{Replicas: 2, Ready: 1}, tc.plan, tc.failure, now)
			if diff := cmp.Diff(tc.want, got.Conditions, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if got.ObservedGeneration != 2 || got.Replicas != 2 || got.Summary.Ready != 1 {
				t.Errorf("status %+v", got)
			}
			if diff := cmp.Diff(before, rc); diff != "" {
				t.Errorf("the object was changed:\n%s", diff)
			}
		})
	}
}
