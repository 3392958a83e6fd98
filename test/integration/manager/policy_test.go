package manager_test

import (
	"context"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func merge(body string) client.Patch { return client.RawPatch(types.MergePatchType, []byte(body)) }

// waitForPolicy returns when the API server enforces the policy: it reads new ones
// with a delay.
func waitForPolicy(t *testing.T) {
	t.Helper()
	probe := as(t, "keelson:node:policy-probe", keelsonv1.NodesGroup)
	env.Eventually(t, func() string {
		foreign := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "policy-foreign"}}
		err := probe.Create(t.Context(), foreign, client.DryRunAll)
		if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "may write only its own Node") {
			return ""
		}
		return "the policy does not refuse yet"
	})
}

func TestAgentWritesOnlyItsOwn(t *testing.T) {
	install(t)
	waitForPolicy(t)
	ns := testEnv.Namespace(t)
	agent := as(t, "keelson:node:mine", keelsonv1.NodesGroup)

	mine := create(t, builders.MakePod("mine").Namespace(ns).Node("mine").Finalizer(keelsonv1.PodFinalizer).Obj())
	t.Cleanup(func() {
		// The Pod's agent is not running here.
		if err := testEnv.Client.Patch(context.WithoutCancel(t.Context()), mine, merge(`{"metadata":{"finalizers":null}}`)); err != nil {
			t.Error(err)
		}
	})
	theirs := create(t, builders.MakePod("theirs").Namespace(ns).Node("theirs").Obj())
	unbound := create(t, builders.MakePod("unbound").Namespace(ns).Obj())
	foreignNode := create(t, &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}})
	foreignLease := create(t, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: keelsonv1.NodeLeaseNamespace, Name: "theirs"}})
	myNode := func() *keelsonv1.Node { return &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "mine"}} }
	create(t, myNode())
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: keelsonv1.NodeLeaseNamespace, Name: "mine"}}
	now := metav1.NewMicroTime(time.Unix(1_000_000, 0))
	lease.Spec.RenewTime = &now

	tests := []struct {
		name  string
		write func(context.Context) error
		// wantRefusal is part of the answer; empty means allowed.
		wantRefusal string
	}{
		{"status of its Pod", func(ctx context.Context) error {
			return agent.Status().Patch(ctx, mine.DeepCopy(), merge(`{"status":{"phase":"Running"}}`))
		}, ""},
		{"finalizer of its Pod", func(ctx context.Context) error {
			return agent.Patch(ctx, mine.DeepCopy(), merge(`{"metadata":{"finalizers":["keelson.dev/pod","example.com/x"]}}`))
		}, ""},
		{"status of its Node", func(ctx context.Context) error {
			return agent.Status().Patch(ctx, myNode(), merge(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`))
		}, ""},
		{"labels of its Node", func(ctx context.Context) error {
			return agent.Patch(ctx, myNode(), merge(`{"metadata":{"labels":{"kubernetes.io/os":"linux"}}}`))
		}, ""},
		{"its Lease", func(ctx context.Context) error { return agent.Create(ctx, lease) }, ""},
		{"its Lease again", func(ctx context.Context) error {
			return agent.Patch(ctx, lease, merge(`{"spec":{"leaseDurationSeconds":40}}`))
		}, ""},
		{"spec of its Pod", func(ctx context.Context) error {
			return agent.Patch(ctx, mine.DeepCopy(), merge(`{"spec":{"nodeName":"theirs"}}`))
		}, "not their spec"},
		{"labels of its Pod", func(ctx context.Context) error {
			return agent.Patch(ctx, mine.DeepCopy(), merge(`{"metadata":{"labels":{"app":"stolen"}}}`))
		}, "not their spec, labels or owners"},
		{"status of another Pod", func(ctx context.Context) error {
			return agent.Status().Patch(ctx, theirs.DeepCopy(), merge(`{"status":{"phase":"Failed"}}`))
		}, "may write only Pods bound to it"},
		{"finalizer of another Pod", func(ctx context.Context) error {
			return agent.Patch(ctx, theirs.DeepCopy(), merge(`{"metadata":{"finalizers":["example.com/x"]}}`))
		}, "may write only Pods bound to it"},
		{"a Pod that is not bound", func(ctx context.Context) error {
			return agent.Patch(ctx, unbound.DeepCopy(), merge(`{"spec":{"nodeName":"mine"}}`))
		}, "may write only Pods bound to it"},
		{"a new Pod", func(ctx context.Context) error {
			return agent.Create(ctx, builders.MakePod("new").Namespace(ns).Node("mine").Obj())
		}, "can only create mirror pods"},
		{"deletion of its Pod", func(ctx context.Context) error { return agent.Delete(ctx, mine.DeepCopy()) }, "can only delete mirror pods"},
		{"spec of its Node", func(ctx context.Context) error {
			return agent.Patch(ctx, myNode(), merge(`{"spec":{"podCIDR":"10.0.0.0/8"}}`))
		}, "may not change the spec of its Node"},
		{"status of another Node", func(ctx context.Context) error {
			return agent.Status().Patch(ctx, foreignNode.DeepCopy(), merge(`{"status":{"phase":"x"}}`))
		}, "may write only its own Node"},
		{"another Node", func(ctx context.Context) error {
			return agent.Patch(ctx, foreignNode.DeepCopy(), merge(`{"metadata":{"labels":{"a":"b"}}}`))
		}, "may write only its own Node"},
		{"a Node with another name", func(ctx context.Context) error {
			return agent.Create(ctx, &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "third"}})
		}, "may write only its own Node"},
		{"the Lease of another Node", func(ctx context.Context) error {
			return agent.Patch(ctx, foreignLease.DeepCopy(), merge(`{"spec":{"leaseDurationSeconds":1}}`))
		}, "may write only its own Lease"},
		{"a Secret", func(ctx context.Context) error {
			return agent.Get(ctx, types.NamespacedName{Namespace: ns, Name: "any"}, &corev1.Secret{})
		}, "cannot get resource"},
		{"its Node under a user name that is no agent's", func(ctx context.Context) error {
			return as(t, "mine", keelsonv1.NodesGroup).Patch(ctx, myNode(), merge(`{"metadata":{"labels":{"a":"b"}}}`))
		}, "may write only its own Node"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.write(t.Context())
			switch {
			case tc.wantRefusal == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.wantRefusal != "" && err == nil:
				t.Error("allowed")
			case tc.wantRefusal != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.wantRefusal)):
				t.Errorf("error is %q, want a refusal with %q", err, tc.wantRefusal)
			}
		})
	}
}

// The policy is about agents: people and controllers are none of its business.
func TestPolicyLeavesOthersAlone(t *testing.T) {
	install(t)
	waitForPolicy(t)
	node := create(t, &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "cordoned"}})
	if err := testEnv.Client.Patch(t.Context(), node, merge(`{"spec":{"unschedulable":true}}`)); err != nil {
		t.Error(err)
	}
	manager := as(t, keelsonv1.ManagerUser)
	if err := manager.Patch(t.Context(), node, merge(`{"spec":{"podCIDR":"10.244.0.0/24"}}`)); err != nil {
		t.Error(err)
	}
}
