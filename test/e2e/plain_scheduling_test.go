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

// The cases of upstream's test/e2e/scheduling/predicates.go that one node can show: what
// gets it, what the others wait for, and that they get it when the reason is gone.
func TestPlainPredicates(t *testing.T) {
	s := newPlainSpace(t)
	node, key := s.run("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"), "example.com/"+s.Name
	s.run("label", "node", node, key+"=here")
	s.run("taint", "node", node, key+"=kept:NoSchedule")
	tainted := true
	t.Cleanup(func() {
		s.cleanup("label", "node", node, key+"-")
		if tainted {
			s.cleanup("taint", "node", node, key+"-")
		}
	})
	s.apply("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: " + s.Name + "}\nhandler: runc\noverhead: {podFixed: {cpu: 1000}}\n")
	t.Cleanup(func() { s.cleanup("delete", "runtimeclass", s.Name, "--ignore-not-found") })

	tolerates := "tolerations: [{key: " + key + ", operator: Equal, value: kept, effect: NoSchedule}]"
	on := func(value string) string {
		return "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: " + key + ", operator: In, values: [" + value + "]}]}]}}}"
	}
	container := func(name, command, line string) string {
		return strings.Replace(shellPod(name, "Never", command), "- name: c0\n", "- name: c0\n    "+line+"\n", 1)
	}
	port := func(name, ip, protocol string) string {
		return with(container(name, "sleep 3600", "ports: [{containerPort: 80, hostPort: 54321, hostIP: "+ip+", protocol: "+protocol+"}]"), tolerates)
	}
	s.apply(plain(strings.Join([]string{
		with(shellPod("other-taint", "Never", "exit 0"), "tolerations: [{key: "+key+", operator: Equal, value: other, effect: NoSchedule}]"),
		with(shellPod("elsewhere", "Never", "exit 0"), tolerates, on("there")),
		with(shellPod("here", "Never", "exit 0"), tolerates, on("here")),
		with(container("disk", "exit 0", "resources: {requests: {ephemeral-storage: 100Ti}}"), tolerates),
		with(shellPod("overhead", "Never", "exit 0"), tolerates, "runtimeClassName: "+s.Name),
		port("port-tcp", "127.0.0.1", "TCP"), port("port-ip", "127.0.0.2", "TCP"), port("port-udp", "127.0.0.1", "UDP"),
	}, "---\n")))
	s.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/here", "--timeout=60s")
	for _, name := range []string{"port-tcp", "port-ip", "port-udp"} {
		s.run("wait", "--for=jsonpath={.spec.nodeName}="+node, "pod/"+name, "--timeout=60s")
	}
	s.apply(plain(port("port-all", "0.0.0.0", "TCP")))
	for name, why := range map[string]string{
		"other-taint": "1 node(s) had untolerated taint(s)",
		"elsewhere":   "1 node(s) didn't match Pod's node affinity/selector",
		"disk":        "1 Insufficient ephemeral-storage",
		"overhead":    "1 Insufficient cpu",
		"port-all":    "1 node(s) didn't have free ports for the requested pod ports",
	} {
		s.eventually(soon, name+" waits", func() error {
			return wantIn(s.run("describe", "pod", name), "0/1 nodes are available: "+why)
		})
	}

	s.run("label", "node", node, key+"=there", "--overwrite")
	s.run("taint", "node", node, key+"-")
	tainted = false
	s.run("delete", "pod", "port-tcp", "port-ip", "--wait=false")
	for _, name := range []string{"elsewhere", "other-taint"} {
		s.run("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/"+name, "--timeout=60s")
	}
	s.run("wait", "--for=jsonpath={.spec.nodeName}="+node, "pod/port-all", "--timeout=60s")
}
