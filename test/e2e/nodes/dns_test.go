package nodes

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
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

// checkNamesWhileADNSServerDies asks for names without a pause while one of the two
// servers is killed: the client's own repetition is all it takes.
func checkNamesWhileADNSServerDies(t *testing.T, s *space, pod string) {
	t.Helper()
	awaitDNS(t)
	lookups := s.command("exec", pod, "--", "/testserver", "lookups", "kube-dns.kube-system.svc.cluster.local.", "8s")
	out, err := lookups.StdoutPipe()
	if err == nil {
		err = lookups.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the client asks", func() error {
		if len(processesOf(t, "testserver", "lookups")) == 0 {
			return errors.New("it does not run yet")
		}
		return nil
	})
	servers := processesOf(t, "keelson-dns", "")
	if len(servers) != 2 {
		t.Errorf("%d DNS servers run, want 2", len(servers))
	} else if err := syscall.Kill(servers[0], syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := lookups.Wait(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var asked, again, failed int
	if _, err := fmt.Sscanf(lines[len(lines)-1], "asked %d again %d failed %d", &asked, &again, &failed); err != nil {
		t.Fatalf("the client said %q", text)
	}
	t.Logf("%d lookups, %d once more", asked, again)
	if failed > 0 || asked == 0 || again > asked/100 {
		t.Errorf("%d of %d lookups failed, %d were asked once more:\n%s", failed, asked, again, text)
	}
	awaitDNS(t)
}
