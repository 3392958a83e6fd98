package node_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/node"
	"github.com/keelson-dev/keelson/controllers/podgc"
	"github.com/keelson-dev/keelson/controllers/replication"
	"github.com/keelson-dev/keelson/controllers/scheduler"
	"github.com/keelson-dev/keelson/controllers/tainteviction"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

// agent renews the Lease of a Node, by the real clock, until it is told to die.
type agent struct {
	node string
	die  func()
}

func startAgent(t *testing.T, f *fixture, name string) agent {
	t.Helper()
	f.node(name)
	f.report(name, corev1.ConditionTrue)
	n := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	before := n.DeepCopy()
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("10"),
	}
	if err := testEnv.Client.Status().Patch(t.Context(), n, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if err := renewNow(ctx, name); err != nil && ctx.Err() == nil {
				t.Errorf("renew the Lease of %s: %v", name, err)
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	die := sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(die)
	return agent{node: name, die: die}
}

func renewNow(ctx context.Context, name string) error {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: keelsonv1.NodeLeaseNamespace, Name: name}}
	err := testEnv.Client.Get(ctx, client.ObjectKeyFromObject(lease), lease)
	lease.Spec.RenewTime = new(metav1.NowMicro())
	switch {
	case apierrors.IsNotFound(err):
		return testEnv.Client.Create(ctx, lease)
	case err != nil:
		return err
	}
	return testEnv.Client.Update(ctx, lease)
}

// TestPodsOfADeadNodeComeBackElsewhere: a machine dies without a word, nobody deletes
// its Node, and what ran there runs on the other one.
func TestPodsOfADeadNodeComeBackElsewhere(t *testing.T) {
	const replicas = 4
	f := setup(t, "10.9.0.0/16", 24)
	stays, dies := startAgent(t, f, "stays"), startAgent(t, f, "dies")
	testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		return errors.Join(
			node.Add(mgr, node.Options{GracePeriod: 10 * time.Second}), tainteviction.Add(mgr, tainteviction.Options{}),
			podgc.Add(mgr, podgc.Options{}), scheduler.Add(mgr, scheduler.Options{}), replication.Add(mgr, replication.Options{}))
	})
	ns := testEnv.Namespace(t)
	rc := builders.MakeReplicationController("web", replicas).Namespace(ns).Template(func(template *corev1.PodTemplateSpec) {
		template.Spec.SchedulerName = keelsonv1.DefaultSchedulerName
		for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
			template.Spec.Tolerations = append(template.Spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(1)),
			})
		}
	}).Obj()
	if err := testEnv.Client.Create(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := testEnv.Client.Delete(context.WithoutCancel(t.Context()), rc); err != nil {
			t.Error(err)
		}
	})
	env.Eventually(t, func() string {
		if on := placed(t, ns); len(on[stays.node])+len(on[dies.node]) != replicas || len(on[stays.node]) == 0 || len(on[dies.node]) == 0 {
			return fmt.Sprintf("Pods are on %v, want %d on two Nodes", on, replicas)
		}
		return ""
	})
	before := placed(t, ns)

	dies.die()
	env.Eventually(t, func() string {
		if on := placed(t, ns); len(on[stays.node]) != replicas || len(on) != 1 {
			return fmt.Sprintf("Pods are on %v, want all %d on the Node that lives", on, replicas)
		}
		return ""
	})
	for _, name := range before[stays.node] {
		if !slices.Contains(placed(t, ns)[stays.node], name) {
			t.Errorf("Pod %s of the Node that lives is gone", name)
		}
	}
	lost := &keelsonv1.Node{}
	if err := testEnv.Client.Get(t.Context(), client.ObjectKey{Name: dies.node}, lost); err != nil || readyOf(lost) != "Unknown/NodeStatusUnknown" {
		t.Errorf("the dead Node's Ready is %s, %v", readyOf(lost), err)
	}
	toldOf(t, dies.node, "NodeNotReady")
}

// placed are the names of the Pods that are to run, by Node.
func placed(t *testing.T, ns string) map[string][]string {
	t.Helper()
	var list keelsonv1.PodList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	on := map[string][]string{}
	for i := range list.Items {
		if pod := &list.Items[i]; pod.DeletionTimestamp == nil {
			on[pod.Spec.NodeName] = append(on[pod.Spec.NodeName], pod.Name)
		}
	}
	return on
}

func toldOf(t *testing.T, node, reason string) {
	t.Helper()
	env.Eventually(t, func() string {
		var list eventsv1.EventList
		if err := testEnv.Client.List(t.Context(), &list); err != nil {
			return err.Error()
		}
		for _, e := range list.Items {
			if e.Regarding.Name == node && e.Reason == reason && strings.Contains(e.Note, node) {
				return ""
			}
		}
		return "no event " + reason + " of Node " + node
	})
}
