// Package node_test runs the node controller and the collector of lost Pods
// against a real API server, with a clock of its own.
package node_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/node"
	"github.com/keelson-dev/keelson/controllers/podgc"
	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

const grace = 40 * time.Second

// fixture reconciles by hand, reading the API server itself.
type fixture struct {
	t          *testing.T
	clock      *clocktesting.FakePassiveClock
	recorder   *events.FakeRecorder
	reconciler *node.Reconciler
}

// indexed answers by the one index that a manager's cache has of Pods.
type indexed struct{ client.Client }

func (c indexed) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	var asked client.ListOptions
	asked.ApplyOptions(options)
	if asked.FieldSelector == nil {
		return c.Client.List(ctx, list, options...)
	}
	name, byNode := asked.FieldSelector.RequiresExactMatch("node.spec.nodeName")
	pods, ofPods := list.(*keelsonv1.PodList)
	if !byNode || !ofPods {
		return fmt.Errorf("no index of %T by %s", list, asked.FieldSelector)
	}
	asked.FieldSelector = nil
	if err := c.Client.List(ctx, pods, &asked); err != nil {
		return err
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(pod keelsonv1.Pod) bool { return pod.Spec.NodeName != name })
	return nil
}

func setup(t *testing.T, cluster string, maskSize int) *fixture {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: keelsonv1.NodeLeaseNamespace}}
	if err := testEnv.Client.Create(t.Context(), ns); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	f := &fixture{t: t, clock: clocktesting.NewFakePassiveClock(time.Now()), recorder: events.NewFakeRecorder(100)}
	f.reconciler = node.NewReconciler(indexed{testEnv.Client}, f.recorder, node.Options{
		ClusterCIDRs: ranges.MustParse(cluster), MaskSize4: maskSize, MaskSize6: 64, GracePeriod: grace, Clock: f.clock,
	})
	return f
}

func (f *fixture) node(name string, change ...func(*keelsonv1.Node)) *keelsonv1.Node {
	f.t.Helper()
	n := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, c := range change {
		c(n)
	}
	if err := testEnv.Client.Create(f.t.Context(), n); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := testEnv.Client.Delete(context.WithoutCancel(f.t.Context()), n); client.IgnoreNotFound(err) != nil {
			f.t.Error(err)
		}
	})
	return n
}

func (f *fixture) reconcile(name string) (ctrl.Result, error) {
	return f.reconciler.Reconcile(f.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: name}})
}

// after reconciles and returns the Node as stored.
func (f *fixture) after(name string) *keelsonv1.Node {
	f.t.Helper()
	if _, err := f.reconcile(name); err != nil {
		f.t.Fatal(err)
	}
	n := &keelsonv1.Node{}
	if err := testEnv.Client.Get(f.t.Context(), types.NamespacedName{Name: name}, n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

func (f *fixture) report(name string, status corev1.ConditionStatus) {
	f.t.Helper()
	body := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q}]}}`, status)
	n := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := testEnv.Client.Status().Patch(f.t.Context(), n, client.RawPatch(types.MergePatchType, []byte(body))); err != nil {
		f.t.Fatal(err)
	}
}

// renew plays the agent, whose clock is a day behind.
func (f *fixture) renew(name string) {
	f.t.Helper()
	at := metav1.NewMicroTime(f.clock.Now().Add(-24 * time.Hour))
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: keelsonv1.NodeLeaseNamespace, Name: name}}
	err := testEnv.Client.Get(f.t.Context(), client.ObjectKeyFromObject(lease), lease)
	lease.Spec.RenewTime = &at
	if apierrors.IsNotFound(err) {
		err = testEnv.Client.Create(f.t.Context(), lease)
	} else if err == nil {
		err = testEnv.Client.Update(f.t.Context(), lease)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func readyOf(n *keelsonv1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return string(c.Status) + "/" + c.Reason
		}
	}
	return "none"
}

func taintsOf(n *keelsonv1.Node) []string {
	var taints []string
	for _, t := range n.Spec.Taints {
		taints = append(taints, t.Key+":"+string(t.Effect))
	}
	return taints
}

const (
	notReady    = "node.kubernetes.io/not-ready:NoSchedule"
	unreachable = "node.kubernetes.io/unreachable:NoSchedule"
)

func TestSilentNodeBecomesUnknownAndComesBack(t *testing.T) {
	f := setup(t, "10.1.0.0/16", 24)
	f.node("silent")

	if got := taintsOf(f.after("silent")); !slices.Equal(got, []string{notReady}) {
		t.Errorf("a Node that has reported nothing has taints %v", got)
	}
	f.renew("silent")
	f.report("silent", corev1.ConditionTrue)
	n := f.after("silent")
	if readyOf(n) != "True/" || taintsOf(n) != nil || n.Status.Summary.Status != "Ready" {
		t.Errorf("a Node that reported: Ready %s, taints %v, summary %q", readyOf(n), taintsOf(n), n.Status.Summary.Status)
	}

	// A renewal in time keeps it, whatever the agent's clock says.
	f.clock.SetTime(f.clock.Now().Add(grace - time.Second))
	f.renew("silent")
	f.after("silent")
	f.clock.SetTime(f.clock.Now().Add(grace - time.Second))
	if n = f.after("silent"); readyOf(n) != "True/" {
		t.Errorf("Ready is %s within the grace period", readyOf(n))
	}

	f.clock.SetTime(f.clock.Now().Add(2 * time.Second))
	n = f.after("silent")
	if readyOf(n) != "Unknown/NodeStatusUnknown" || n.Status.Summary.Status != "NotReady" {
		t.Errorf("a silent Node: Ready %s, summary %q", readyOf(n), n.Status.Summary.Status)
	}
	if got := taintsOf(n); !slices.Equal(got, []string{unreachable}) {
		t.Errorf("a silent Node has taints %v", got)
	}
	if event := <-f.recorder.Events; event != "Normal NodeNotReady Node silent status is now: NodeNotReady" {
		t.Errorf("event is %q", event)
	}

	f.renew("silent")
	f.report("silent", corev1.ConditionTrue)
	if n = f.after("silent"); readyOf(n) != "True/" || taintsOf(n) != nil {
		t.Errorf("a Node that is back: Ready %s, taints %v", readyOf(n), taintsOf(n))
	}
}

func TestNodeThatNeverReports(t *testing.T) {
	f := setup(t, "10.2.0.0/16", 24)
	f.node("mute")
	f.after("mute")
	f.clock.SetTime(f.clock.Now().Add(grace + time.Second))
	if got := readyOf(f.after("mute")); got != "Unknown/NodeStatusNeverUpdated" {
		t.Errorf("Ready is %s", got)
	}
}

func TestTaintsOfOthersStay(t *testing.T) {
	f := setup(t, "10.3.0.0/16", 24)
	own := corev1.Taint{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}
	f.node("tainted", func(n *keelsonv1.Node) {
		n.Spec.Unschedulable = true
		n.Spec.Taints = []corev1.Taint{own}
	})
	f.report("tainted", corev1.ConditionFalse)
	n := f.after("tainted")
	want := []string{"dedicated:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule", notReady}
	if diff := cmp.Diff(want, taintsOf(n)); diff != "" {
		t.Errorf("taints (-want +got):\n%s", diff)
	}
	if n.Status.Summary.Status != "NotReady,SchedulingDisabled" {
		t.Errorf("summary is %q", n.Status.Summary.Status)
	}
}

func TestReconcilingAgainWritesNothing(t *testing.T) {
	f := setup(t, "10.4.0.0/16", 24)
	f.node("steady")
	f.report("steady", corev1.ConditionTrue)
	first := f.after("steady")
	if second := f.after("steady"); second.ResourceVersion != first.ResourceVersion {
		t.Error("nothing changed, but the Node was written")
	}
}

func TestRangesRunOut(t *testing.T) {
	f := setup(t, "10.5.0.0/23", 24)
	for _, name := range []string{"range-1", "range-2", "range-3"} {
		f.node(name)
	}
	one, two := f.after("range-1"), f.after("range-2")
	if one.Spec.PodCIDR != "10.5.0.0/24" || two.Spec.PodCIDR != "10.5.1.0/24" || !slices.Equal(two.Spec.PodCIDRs, []string{"10.5.1.0/24"}) {
		t.Errorf("ranges are %s and %s, %v", one.Spec.PodCIDR, two.Spec.PodCIDR, two.Spec.PodCIDRs)
	}
	if _, err := f.reconcile("range-3"); err == nil {
		t.Error("a third range came out of two")
	}
	want := "Warning CIDRNotAvailable Node range-3 gets no Pod range: all 2 ranges of /24 in 10.5.0.0/23 are in use: make --cluster-cidr larger or --node-cidr-mask-size longer"
	if event := <-f.recorder.Events; event != want {
		t.Errorf("event is %q", event)
	}

	if err := testEnv.Client.Delete(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if three := f.after("range-3"); three.Spec.PodCIDR != "10.5.0.0/24" {
		t.Errorf("the range that came free is %s", three.Spec.PodCIDR)
	}
}

func TestLeaseOfADeletedNodeGoes(t *testing.T) {
	f := setup(t, "10.6.0.0/16", 24)
	n := f.node("leaving")
	f.renew("leaving")
	f.after("leaving")
	if err := testEnv.Client.Delete(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if _, err := f.reconcile("leaving"); err != nil {
		t.Fatal(err)
	}
	lease := &coordinationv1.Lease{}
	err := testEnv.Client.Get(t.Context(), types.NamespacedName{Namespace: keelsonv1.NodeLeaseNamespace, Name: "leaving"}, lease)
	if !apierrors.IsNotFound(err) {
		t.Errorf("reading the Lease gives %v, want not found", err)
	}
}

// A running manager, because two Nodes at once would show a stale list.
func TestNodesThatComeTogetherGetDifferentRanges(t *testing.T) {
	f := setup(t, "10.7.0.0/16", 24)
	testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		return node.Add(mgr, node.Options{ClusterCIDRs: ranges.MustParse("10.7.0.0/16"), MaskSize4: 24, GracePeriod: grace})
	})
	var names []string
	for i := range 30 {
		names = append(names, f.node(fmt.Sprintf("together-%02d", i)).Name)
	}
	env.Eventually(t, func() string {
		owner := map[string]string{}
		for _, name := range names {
			n := &keelsonv1.Node{}
			if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Name: name}, n); err != nil {
				return err.Error()
			}
			if n.Spec.PodCIDR == "" {
				return name + " has no range"
			}
			if other := owner[n.Spec.PodCIDR]; other != "" {
				t.Fatalf("%s and %s both have %s", name, other, n.Spec.PodCIDR)
			}
			owner[n.Spec.PodCIDR] = name
		}
		return ""
	})
}

func TestPodsOfALostNodeAreReleased(t *testing.T) {
	f := setup(t, "10.8.0.0/16", 24)
	testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		return podgc.Add(mgr, podgc.Options{Quarantine: 2 * time.Second})
	})
	ns := testEnv.Namespace(t)
	lost, kept := f.node("lost"), f.node("kept")
	onLost := builders.MakePod("on-lost").Namespace(ns).Node(lost.Name).Finalizer(keelsonv1.PodFinalizer).Obj()
	onKept := builders.MakePod("on-kept").Namespace(ns).Node(kept.Name).Finalizer(keelsonv1.PodFinalizer).Obj()
	held := builders.MakePod("held").Namespace(ns).Node(lost.Name).Finalizer(keelsonv1.PodFinalizer).Finalizer("example.com/x").Obj()
	for _, pod := range []*keelsonv1.Pod{onLost, onKept, held} {
		if err := testEnv.Client.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	if err := testEnv.Client.Delete(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	// Not before the quarantine is over.
	env.Always(t, time.Second, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(onLost), &keelsonv1.Pod{}); err != nil {
			return "the Pod is gone at once: " + err.Error()
		}
		return ""
	})
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(onLost), &keelsonv1.Pod{}); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("reading the Pod of the lost Node gives %v", err)
		}
		fresh := &keelsonv1.Pod{}
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(held), fresh); err != nil {
			return err.Error()
		}
		if !slices.Equal(fresh.Finalizers, []string{"example.com/x"}) || fresh.DeletionTimestamp == nil || fresh.Status.Phase != corev1.PodFailed {
			return fmt.Sprintf("the Pod that somebody else holds: finalizers %v, deleted %v, phase %s", fresh.Finalizers, fresh.DeletionTimestamp, fresh.Status.Phase)
		}
		return ""
	})
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(onKept), &keelsonv1.Pod{}); err != nil {
		t.Errorf("the Pod of a Node that exists: %v", err)
	}
}

func TestRangesOfTwoFamilies(t *testing.T) {
	f := setup(t, "fd00:10:244::/63,10.3.0.0/23", 24)
	cidrs := func(n *keelsonv1.Node) string { return n.Spec.PodCIDR + " " + strings.Join(n.Spec.PodCIDRs, ",") }
	f.node("dual-a")
	if got, want := cidrs(f.after("dual-a")), "fd00:10:244::/64 fd00:10:244::/64,10.3.0.0/24"; got != want {
		t.Errorf("the first Node has %s, want %s", got, want)
	}
	// A Node from before keeps its one range, and nobody gets it again.
	f.node("dual-old", func(n *keelsonv1.Node) { n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.3.1.0/24", []string{"10.3.1.0/24"} })
	if got, want := cidrs(f.after("dual-old")), "10.3.1.0/24 10.3.1.0/24"; got != want {
		t.Errorf("the Node from before has %s, want %s", got, want)
	}
	f.node("dual-late")
	if _, err := f.reconcile("dual-late"); err == nil || !strings.Contains(err.Error(), "all 2 ranges of /24 in 10.3.0.0/23 are in use") {
		t.Errorf("no IPv4 range is left: %v", err)
	}
	f.wantEvent("CIDRNotAvailable")
	n := &keelsonv1.Node{}
	if err := testEnv.Client.Get(t.Context(), types.NamespacedName{Name: "dual-late"}, n); err != nil || n.Spec.PodCIDR != "" {
		t.Errorf("a Node for which one family is full has %q, %v; want none", n.Spec.PodCIDR, err)
	}
}

func TestBadRangesAreToldOnce(t *testing.T) {
	f := setup(t, "10.4.0.0/16", 24)
	f.node("good")
	f.after("good")
	f.node("overlapping", func(n *keelsonv1.Node) { n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.4.0.128/25", []string{"10.4.0.128/25"} })
	f.after("overlapping")
	f.wantEvent("CIDRAssignmentFailed", "10.4.0.128/25 overlaps a range of node good")
	f.node("outside", func(n *keelsonv1.Node) { n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.5.0.0/24", []string{"10.5.0.0/24"} })
	f.after("outside")
	f.wantEvent("CIDRAssignmentFailed", "10.5.0.0/24 is outside of --cluster-cidr 10.4.0.0/16")
	f.after("overlapping")
	f.after("outside")
	select {
	case event := <-f.recorder.Events:
		t.Errorf("told again: %s", event)
	default:
	}
}

// wantEvent takes the next event, which must have all of the texts.
func (f *fixture) wantEvent(texts ...string) {
	f.t.Helper()
	select {
	case event := <-f.recorder.Events:
		for _, text := range texts {
			if !strings.Contains(event, text) {
				f.t.Errorf("event %q lacks %q", event, text)
			}
		}
	default:
		f.t.Errorf("no event with %q", texts)
	}
}
