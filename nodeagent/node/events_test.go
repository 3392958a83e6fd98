package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// nodeWith is a Node of a boot, with conditions.
func nodeWith(boot string, conditions map[corev1.NodeConditionType]corev1.ConditionStatus) *keelsonv1.Node {
	n := &keelsonv1.Node{}
	n.Name, n.Status.NodeInfo.BootID = "n", boot
	for kind, status := range conditions {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: kind, Status: status})
	}
	return n
}

func TestChangesOfANodeAreEvents(t *testing.T) {
	type conditions = map[corev1.NodeConditionType]corev1.ConditionStatus
	const yes, no, unknown = corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown
	is := func(reason string) Note {
		return Note{corev1.EventTypeNormal, reason, "Node n status is now: " + reason}
	}
	for name, tc := range map[string]struct {
		before, after *keelsonv1.Node
		want          []Note
	}{
		"nothing changes": {nodeWith("b", conditions{corev1.NodeReady: yes}), nodeWith("b", conditions{corev1.NodeReady: yes}), nil},
		"a new Node": {nodeWith("", nil), nodeWith("b", conditions{corev1.NodeReady: no, corev1.NodeMemoryPressure: no, corev1.NodeDiskPressure: no, corev1.NodePIDPressure: no}),
			[]Note{is("NodeHasSufficientMemory"), is("NodeHasNoDiskPressure"), is("NodeHasSufficientPID")}},
		"it becomes ready":     {nodeWith("b", conditions{corev1.NodeReady: no}), nodeWith("b", conditions{corev1.NodeReady: yes}), []Note{is("NodeReady")}},
		"it is heard of again": {nodeWith("b", conditions{corev1.NodeReady: unknown}), nodeWith("b", conditions{corev1.NodeReady: yes}), []Note{is("NodeReady")}},
		"it stops being ready": {nodeWith("b", conditions{corev1.NodeReady: yes}), nodeWith("b", conditions{corev1.NodeReady: no}), []Note{is("NodeNotReady")}},
		"memory runs short": {nodeWith("b", conditions{corev1.NodeMemoryPressure: no}), nodeWith("b", conditions{corev1.NodeMemoryPressure: yes}),
			[]Note{is("NodeHasInsufficientMemory")}},
		"the disk and process IDs run short": {nodeWith("b", conditions{corev1.NodeDiskPressure: no, corev1.NodePIDPressure: no}),
			nodeWith("b", conditions{corev1.NodeDiskPressure: yes, corev1.NodePIDPressure: yes}), []Note{is("NodeHasDiskPressure"), is("NodeHasInsufficientPID")}},
		"another boot":                 {nodeWith("a", nil), nodeWith("b", nil), []Note{{corev1.EventTypeWarning, "Rebooted", "Node n has been rebooted, boot id: b"}}},
		"a condition of somebody else": {nodeWith("b", nil), nodeWith("b", conditions{"Mine": yes}), nil},
	} {
		if diff := cmp.Diff(tc.want, computeNotes(tc.before, tc.after)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReporterTellsOnceWhatIsWritten(t *testing.T) {
	var told []string
	problems := []string{"starting"}
	facts := func() Facts {
		f := testFacts()
		f.Problems, f.Short = problems, []corev1.NodeConditionType{}
		return f
	}
	c := newClient(t, interceptor.Funcs{})
	r := NewReporter(c, clock.RealClock{}, "n", facts, func(n Note) { told = append(told, n.Reason) })
	sync := func(want ...string) {
		t.Helper()
		for range 2 { // the second time there is nothing new
			if err := r.sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		told = nil
	}
	sync("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID")
	problems = nil
	sync("NodeReady")

	node := &keelsonv1.Node{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "n"}, node); err != nil {
		t.Fatal(err)
	}
	for _, unschedulable := range []bool{true, true, false} {
		node.Spec.Unschedulable = unschedulable
		if err := c.Update(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		r.Observe(node.DeepCopy())
	}
	sync("NodeNotSchedulable", "NodeSchedulable")
	r.Observe(nil)
	if len(told) > 0 {
		t.Errorf("a Node that is gone: %v", told)
	}
}
