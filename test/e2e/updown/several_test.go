package updown

import (
	"os"
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

	killSupervisor(t, nothing)
	// The agents go on, and may make a file in a folder that is being removed.
	eventually(t, "the cluster's files are removed", func() error { return os.RemoveAll(c.data) })
	c.keelson("down")
	clean()
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
