package updown

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/keelson-dev/keelson/test/env/leaks"
)

// cleanMachine fails the test if it leaves anything behind.
func cleanMachine(t *testing.T) (check func()) {
	t.Helper()
	before, err := leaks.Take()
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		after, err := leaks.Take()
		if err == nil {
			err = before.Compare(after)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// killSupervisor kills every process called keelson; reap waits for those that the test
// started.
func killSupervisor(t *testing.T, reap func()) {
	t.Helper()
	pids := processesOf(t, "keelson")
	if len(pids) == 0 {
		t.Fatal("there is no supervisor")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	reap()
	eventually(t, "the supervisor has ended", func() error {
		if pids := processesOf(t, "keelson"); len(pids) > 0 {
			return os.ErrExist
		}
		return nil
	})
}

// TestSeveralNodesSurviveTheirSupervisor kills it while a node is off, and ends what it
// left without the cluster's files.
func TestSeveralNodesSurviveTheirSupervisor(t *testing.T) {
	clean := cleanMachine(t)
	c := newCluster(t)
	c.keelson("up", "--nodes", "2")
	names := strings.Fields(c.keelson("node", "list"))
	one, two := names[4], names[8]
	c.keelson("node", "stop", two)
	eventually(t, "a DNS server runs", func() error {
		if len(processesOf(t, "keelson-dns")) == 0 {
			return os.ErrNotExist
		}
		return nil
	})
	containers := processesOf(t, "keelson-dns")
	loseDNSServer(t, c, two)

	nothing := func() {}
	killSupervisor(t, nothing)
	if out, err := c.try("node", "start", two); err == nil || !strings.Contains(out, "run 'keelson up' first") {
		t.Errorf("a command without a supervisor: %v\n%s", err, out)
	}
	if out := c.keelson("up"); !strings.Contains(out, "Node "+two+" is switched off; start it with") {
		t.Errorf("up does not remind of the node that is off:\n%s", out)
	}
	if now := processesOf(t, "keelson-dns"); !slices.Equal(now, containers) {
		t.Errorf("the containers' processes were %v and are %v", containers, now)
	}
	list := c.keelson("node", "list")
	for node, want := range map[string]string{one: "Ready", two: "Stopped"} {
		if !strings.Contains(list, node) || !strings.Contains(list, want) {
			t.Errorf("want node %s %s:\n%s", node, want, list)
		}
	}
	if out, err := c.try("up", "--nodes", "3"); err == nil || !strings.Contains(out, "keelson node add") {
		t.Errorf("another number of nodes: %v\n%s", err, out)
	}
	c.keelson("node", "start", two)
	checkDNSSpread(t, c, one, two)
	checkUpgrade(t, c)
	checkDNSSpread(t, c, one, two)

	killSupervisor(t, nothing)
	// The agents go on, and may make a file in a folder that is being removed.
	eventually(t, "the cluster's files are removed", func() error { return os.RemoveAll(c.data) })
	c.keelson("down")
	clean()
}

// loseDNSServer deletes the one of a node that is off, as the cluster does after minutes.
func loseDNSServer(t *testing.T, c cluster, node string) {
	t.Helper()
	out, err := c.kubectl("", "-n", "kube-system", "get", "kpo", "-l", "k8s-app=kube-dns", "-o",
		`jsonpath={range .items[?(@.spec.nodeName=="`+node+`")]}{.metadata.name} {end}`)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pods := strings.Fields(out)
	if len(pods) != 1 {
		t.Fatalf("DNS servers of node %s are %q, want one", node, pods)
	}
	if out, err := c.kubectl("", "-n", "kube-system", "delete", "kpo", pods[0], "--wait=false"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// checkDNSSpread waits until a DNS server is ready on each of the nodes, and no other exists.
func checkDNSSpread(t *testing.T, c cluster, nodes ...string) {
	t.Helper()
	slices.Sort(nodes)
	eventually(t, "DNS servers are on all nodes", func() error {
		out, err := c.kubectl("", "-n", "kube-system", "get", "kpo", "-l", "k8s-app=kube-dns", "-o",
			`jsonpath={range .items[*]}{.spec.nodeName}/{.status.conditions[?(@.type=="Ready")].status} {end}`)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var want []string
		for _, n := range nodes {
			want = append(want, n+"/True")
		}
		got := strings.Fields(out)
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("they are %q, want %q", got, want)
		}
		return nil
	})
}

// checkUpgrade runs up of another version on the running cluster.
func checkUpgrade(t *testing.T, c cluster) {
	t.Helper()
	image := func() string {
		out, err := c.kubectl("", "-n", "kube-system", "get", "kdeploy", "keelson-dns", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	before, servers := image(), processesOf(t, "keelson-dns")
	next := nextVersion(t, c)
	out, err := next.try("up")
	if err != nil || !strings.Contains(out, "are of another version") {
		t.Errorf("up of another version: %v\n%s", err, out)
	}
	if after := image(); after == before {
		t.Errorf("the image of DNS is still %s", after)
	}
	eventually(t, "the DNS servers of the earlier version have ended", func() error { // they finish their answers first
		for _, pid := range processesOf(t, "keelson-dns") {
			if slices.Contains(servers, pid) {
				return os.ErrExist
			}
		}
		return nil
	})
	if out, err := next.try("up"); err != nil || !strings.Contains(out, "already up") {
		t.Errorf("up again: %v\n%s", err, out)
	}
}

// nextVersion is the cluster with programs that say that they are of another commit, and
// with another DNS server.
func nextVersion(t *testing.T, c cluster) cluster {
	t.Helper()
	next := c
	next.root = t.TempDir()
	bin := filepath.Join(next.root, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(c.root, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join(c.root, "bin", e.Name()), filepath.Join(bin, e.Name())
		if e.Name() != "keelson" && e.Name() != "keelson-dns" {
			if err := os.Symlink(from, to); err != nil {
				t.Fatal(err)
			}
			continue
		}
		program, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() == "keelson" {
			program = otherCommit(t, from, program)
		} else {
			program = append(program, 0) // beyond what the kernel reads of it
		}
		if err := os.WriteFile(to, program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return next
}

var commitForm = regexp.MustCompile(`commit ([0-9a-f]{7,40})`)

// otherCommit replaces the commit that a program names by one of the same length.
func otherCommit(t *testing.T, path string, program []byte) []byte {
	t.Helper()
	said, err := exec.Command(path, "version").Output()
	found := commitForm.FindSubmatch(said)
	if err != nil || found == nil {
		t.Fatalf("%s names no commit: %s (%v)", path, said, err)
	}
	return bytes.ReplaceAll(program, found[1], bytes.Repeat([]byte("0"), len(found[1])))
}

// TestSeveralNodesHalfMade ends a cluster whose supervisor was killed while it made the
// nodes.
func TestSeveralNodesHalfMade(t *testing.T) {
	clean := cleanMachine(t)
	c := newCluster(t)
	up, output, err := c.start("up", "--nodes", "3")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first node is being made", func() error {
		entries, err := os.ReadDir("/run/keelson/nodes")
		if err == nil && len(entries) == 0 {
			err = os.ErrNotExist
		}
		return err
	})
	killSupervisor(t, func() { // up itself is called so, too
		if err := up.Wait(); err == nil {
			t.Errorf("up succeeded:\n%s", output())
		}
	})
	c.keelson("down")
	clean()
}
