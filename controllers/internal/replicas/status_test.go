package replicas

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

func TestComputeStatusCondition(t *testing.T) {
	earlier, now := time.Unix(100, 0), time.Unix(200, 0)
	failed := func(reason, message string, at time.Time) []upstreamappsv1.ReplicaSetCondition {
		return []upstreamappsv1.ReplicaSetCondition{{
			Type: ReplicaFailure, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(at),
		}}
	}
	shared := func(with string) []upstreamappsv1.ReplicaSetCondition {
		return []upstreamappsv1.ReplicaSetCondition{{
			Type: SelectorShared, Status: corev1.ConditionTrue, Reason: "SelectorShared", LastTransitionTime: metav1.NewTime(now),
			Message: "The selector is also that of " + with + ": give each its own labels, else either may adopt a Pod that was meant for the other.",
		}}
	}
	creating := &Plan{Create: 1}
	deleting := &Plan{Delete: []*keelsonv1.Pod{builders.MakePod("a").Obj()}}
	tests := map[string]struct {
		had      []upstreamappsv1.ReplicaSetCondition
		observed int64
		plan     *Plan
		failure  error
		rivals   []string
		want     []upstreamappsv1.ReplicaSetCondition
	}{
		"no failure, no condition": {plan: creating},
		"a Pod is refused":         {plan: creating, failure: errors.New("quota"), want: failed("FailedCreate", "quota", now)},
		"a deletion is refused":    {plan: deleting, failure: errors.New("webhook"), want: failed("FailedDelete", "webhook", now)},
		"the spec cannot be served": {
			plan: &Plan{}, failure: errors.New("no template"), want: failed("InvalidSpec", "no template", now),
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
		"another owner has the selector": {
			plan: creating, rivals: []string{"a", "b"}, want: shared("a, b"),
		},
		"many others have the selector": {
			plan: creating, rivals: []string{"a", "b", "c", "d", "e", "f", "g"}, want: shared("a, b, c, d, e and 2 more"),
		},
		"no other has it any more": {had: shared("a"), plan: creating},
		"conditions of others stay": {
			had:  append(shared("a"), upstreamappsv1.ReplicaSetCondition{Type: "Mine"}),
			plan: creating, want: []upstreamappsv1.ReplicaSetCondition{{Type: "Mine"}},
		},
		"it works again": {had: failed("FailedCreate", "quota", earlier), observed: 2, plan: creating},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			had := Status{Conditions: tc.had, ObservedGeneration: tc.observed}
			before := had.DeepCopy()
			got := computeStatus(statusInput{
				Had: had, Generation: 2, Counts: Counts{Replicas: 2, Ready: 1}, Plan: tc.plan,
				Failure: tc.failure, Rivals: tc.rivals, Now: now,
			})
			if diff := cmp.Diff(tc.want, got.Conditions, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if got.ObservedGeneration != 2 || got.Replicas != 2 || got.ReadyReplicas != 1 {
				t.Errorf("status %+v", got)
			}
			if diff := cmp.Diff(before, &had); diff != "" {
				t.Errorf("the input was changed:\n%s", diff)
			}
		})
	}
}
