package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// pending waits until the scheduler says why a Pod does not fit, in the condition
// and in an event.
func (s *space) pending(name, why string) {
	s.t.Helper()
	s.podWhen(name, "unschedulable: "+why, func(pod *keelsonv1.Pod) error {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				if condition.Reason != corev1.PodReasonUnschedulable {
					return fmt.Errorf("reason %s", condition.Reason)
				}
				return wantIn(condition.Message, why, "0/1 nodes are available")
			}
		}
		return fmt.Errorf("conditions %+v", pod.Status.Conditions)
	})
	s.eventually(soon, "event", func() error { return wantIn(s.run("get", "events"), "FailedScheduling", why) })
	s.eventually(soon, "columns", func() error { return wantIn(s.run("get", "kpo", name), "0/1", "Pending") })
}

// with adds lines to the spec of a shellPod.
func with(pod string, lines ...string) string {
	return strings.Replace(pod, "spec:\n", "spec:\n  "+strings.Join(lines, "\n  ")+"\n", 1)
}

func nodeName(t *testing.T) string {
	t.Helper()
	out, err := kubectl(t.Context(), "", "get", "kno", "-o", "jsonpath={.items[0].metadata.name}")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

func TestNodeSelectorWaitsForItsLabel(t *testing.T) {
	s := newSpace(t)
	node := nodeName(t)
	s.apply(with(shellPod("picky", "Never", "exit 0"), "nodeSelector: {e2e/disk: ssd}"))
	s.pending("picky", "didn't match Pod's node affinity/selector")
	s.run("label", "kno", node, "e2e/disk=ssd")
	t.Cleanup(func() { s.cleanup("label", "kno", node, "e2e/disk-") })
	s.phase("picky", corev1.PodSucceeded)
	s.eventually(soon, "event", func() error { return wantIn(s.run("get", "events"), "Successfully assigned "+s.Name+"/picky to "+node) })
}

func TestTooLargeRequestsStayPending(t *testing.T) {
	s := newSpace(t)
	s.apply(strings.Replace(shellPod("large", "Never", "exit 0"), "- name: c0\n", "- name: c0\n    resources: {requests: {cpu: 1000, memory: 1Mi}}\n", 1))
	s.pending("large", "Insufficient cpu")
}

func TestHostPortsAreExclusive(t *testing.T) {
	s := newSpace(t)
	port := "- name: c0\n    ports: [{containerPort: 80, hostPort: 18080}]\n"
	for _, name := range []string{"first", "second"} {
		s.apply(strings.Replace(shellPod(name, "Never", "sleep 3600"), "- name: c0\n", port, 1))
		if name == "first" {
			s.phase("first", corev1.PodRunning)
		}
	}
	s.pending("second", "didn't have free ports")
	s.run("delete", "kpo", "first")
	s.phase("second", corev1.PodRunning)
}

func TestCordonedNodeTakesNoPods(t *testing.T) {
	s := newSpace(t)
	node := nodeName(t)
	s.run("patch", "kno", node, "--type=merge", "-p", `{"spec":{"unschedulable":true}}`)
	uncordon := []string{"patch", "kno", node, "--type=merge", "-p", `{"spec":{"unschedulable":null}}`}
	t.Cleanup(func() { s.cleanup(uncordon...) })
	s.eventually(soon, "column", func() error { return wantIn(s.run("get", "kno", node), "Ready,SchedulingDisabled") })
	s.apply(shellPod("late", "Never", "exit 0"))
	s.pending("late", "unschedulable")

	t.Log("A Pod that names the node goes there all the same")
	s.apply(with(shellPod("direct", "Never", "exit 0"), "nodeName: "+node))
	s.phase("direct", corev1.PodSucceeded)

	s.run(uncordon...)
	s.phase("late", corev1.PodSucceeded)
}

func TestOtherSchedulersPodsAreLeftAlone(t *testing.T) {
	s := newSpace(t)
	s.apply(with(shellPod("foreign", "Never", "exit 0"), "schedulerName: somebody-else"))
	s.apply(shellPod("ours", "Never", "exit 0"))
	s.phase("ours", corev1.PodSucceeded)
	if node := s.run("get", "kpo", "foreign", "-o", "jsonpath={.spec.nodeName}"); node != "" {
		t.Errorf("the Pod of another scheduler was bound to %s", node)
	}
}
