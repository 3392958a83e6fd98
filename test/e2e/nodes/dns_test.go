package nodes

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// awaitDNS waits until the DNS servers are ready, on two nodes.
func awaitDNS(t *testing.T) {
	t.Helper()
	eventually(t, eventual, "DNS servers are on two nodes", func() error {
		out, err := kubectl(t.Context(), "", "-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-dns", "-o",
			`jsonpath={range .items[*]}{.spec.nodeName}/{.status.conditions[?(@.type=="Ready")].status}/{.metadata.deletionTimestamp} {end}`)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		seen := map[string]bool{}
		for _, pod := range strings.Fields(out) {
			node, state, _ := strings.Cut(pod, "/")
			if state != "True/" {
				return fmt.Errorf("there are %s", out)
			}
			seen[node] = true
		}
		if len(seen) != 2 {
			return fmt.Errorf("there are %s", out)
		}
		return nil
	})
}

// checkNamesWhileADNSServerDies asks for names without a pause in Pods of all nodes while
// one of the two servers is killed: no lookup fails.
func checkNamesWhileADNSServerDies(t *testing.T, s *space, pods []corev1.Pod) {
	t.Helper()
	awaitDNS(t)
	clients := make([]*exec.Cmd, 0, len(pods))
	texts := make([]bytes.Buffer, len(pods))
	for i, pod := range pods {
		lookups := s.command("exec", pod.Name, "--", "/testserver", "lookups", "kube-dns.kube-system.svc.cluster.local.", "8s")
		lookups.Stdout, lookups.Stderr = &texts[i], &texts[i]
		must(t, lookups.Start())
		clients = append(clients, lookups)
	}
	eventually(t, soon, "the clients ask", func() error {
		if n := len(processesOf(t, "testserver", "lookups")); n != len(pods) {
			return fmt.Errorf("%d run, want %d", n, len(pods))
		}
		return nil
	})
	servers := processesOf(t, "keelson-dns", "")
	if len(servers) != 2 {
		t.Errorf("%d DNS servers run, want 2", len(servers))
	} else if err := syscall.Kill(servers[0], syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	for i, pod := range pods {
		if err := clients[i].Wait(); err != nil {
			t.Errorf("the client on node %s: %v: %s", pod.Spec.NodeName, err, &texts[i])
			continue
		}
		var asked, failed int
		lines := strings.Split(strings.TrimSpace(texts[i].String()), "\n")
		if _, err := fmt.Sscanf(lines[len(lines)-1], "asked %d failed %d", &asked, &failed); err != nil {
			t.Errorf("the client on node %s said %q", pod.Spec.NodeName, &texts[i])
		}
		t.Logf("%d lookups on node %s", asked, pod.Spec.NodeName)
		if failed > 0 || asked == 0 {
			t.Errorf("%d of %d lookups on node %s failed:\n%s", failed, asked, pod.Spec.NodeName, &texts[i])
		}
	}
	awaitDNS(t)
}
