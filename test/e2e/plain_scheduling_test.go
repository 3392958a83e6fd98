package e2e

import (
	"strings"
	"testing"
)

// A person gives the node two of something, and sees who gets them.
func TestPlainPriorities(t *testing.T) {
	s := newPlainSpace(t)
	node := s.run("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	const amount = `{"status":{"capacity":{"example.com/slot":%q}}}`
	s.run("patch", "node", node, "--subresource=status", "--type=merge", "-p", strings.Replace(amount, "%q", `"2"`, 1))
	t.Cleanup(func() {
		s.cleanup("patch", "node", node, "--subresource=status", "--type=merge", "-p", strings.Replace(amount, "%q", "null", 1))
	})
	s.eventually(soon, "the node lets Pods have it", func() error {
		return wantIn(s.run("get", "node", node, "-o", `jsonpath={.status.allocatable.example\.com/slot}`), "2")
	})
	class := s.Name + "-urgent"
	s.run("create", "priorityclass", class, "--value=1000")
	t.Cleanup(func() { s.cleanup("delete", "priorityclass", class, "--ignore-not-found") })
	takes := func(name, lines string) string {
		pod := strings.Replace(plain(shellPod(name, "Never", "sleep 3600")), "- name: c0\n",
			"- name: c0\n    resources: {limits: {example.com/slot: 2}}\n", 1)
		return strings.Replace(pod, "spec:\n", "spec:\n  terminationGracePeriodSeconds: 1\n"+lines, 1)
	}
	s.apply(takes("low", ""))
	s.run("wait", "--for=condition=Ready", "pod/low", "--timeout=60s")
	s.apply(takes("waits", ""))
	s.eventually(soon, "the second waits", func() error {
		return wantIn(s.run("describe", "pod", "waits"), "0/1 nodes are available: 1 Insufficient example.com/slot. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
	})
	s.apply(takes("urgent", "  priorityClassName: "+class+"\n"))
	s.run("wait", "--for=condition=Ready", "pod/urgent", "--timeout=60s")
	s.eventually(soon, "events", func() error {
		return wantIn(s.run("get", "events"), "Preempted by pod", "preempting 1 victims")
	})

	s.apply(strings.Replace(plain(shellPod("gated", "Never", "exit 0")), "spec:\n", "spec:\n  schedulingGates: [{name: example.com/wait}]\n", 1))
	s.eventually(soon, "the gate is shown", func() error { return wantIn(s.run("get", "pod", "gated"), "SchedulingGated") })
	s.run("patch", "pod", "gated", "--type=json", "-p", `[{"op":"remove","path":"/spec/schedulingGates"}]`)
	s.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/gated", "--timeout=60s")
}
