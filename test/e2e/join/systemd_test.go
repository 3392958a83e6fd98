package join

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keelson-dev/keelson/test/env/systemd"
)

// systemdBin has a systemctl that does what systemd would do with the unit: there is none
// in a machine of namespaces.
var systemdBin string

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v\n%s", what, err, logsOfSecond())
		}
		<-time.After(100 * time.Millisecond)
	}
}

// guestsContainer changes when the Pod's container is made anew.
func guestsContainer(t *testing.T) string {
	t.Helper()
	return kubectl(t, "get", "pod", "guest", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
}

// checkSystemd lets systemd take the node over, and start it again after the supervisor
// was killed.
func checkSystemd(t *testing.T, join []string) {
	t.Helper()
	before := guestsContainer(t)
	if out, err := onSecond(t, append(append([]string{}, join...), "--systemd")...); err == nil || !strings.Contains(out, "there is no /run/systemd/system") {
		t.Errorf("join --systemd without systemd: %v\n%s", err, out)
	}
	if err := machines.Enter(secondName, func() error { return os.MkdirAll(systemd.Booted, 0o755) }); err != nil {
		t.Fatal(err)
	}
	if out, err := onSecond(t, "join", "--systemd"); err != nil || !strings.Contains(out, "Handing the node's programs over") || !strings.Contains(out, "starts at boot") {
		t.Fatalf("join --systemd: %v\n%s%s", err, out, logsOfSecond())
	}
	if out, err := onSecond(t, "join", "--systemd"); err != nil || strings.Contains(out, "Handing") {
		t.Errorf("join --systemd again: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(systemd.Units, "multi-user.target.wants/keelson-node.service")); err != nil {
		t.Errorf("the service is not enabled: %v", err)
	}

	supervisor := onlyProcess(t, "keelson", "supervise-node")
	agent := onlyProcess(t, "keelson-node", secondName)
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// What Restart=always does; the agent that was left is no other's.
	eventually(t, "the node is back", func() error {
		if out, err := onSecond(t, "join"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if now := onlyProcess(t, "keelson-node", secondName); now == agent {
		t.Errorf("process %d, the agent of the supervisor that was killed, still runs", now)
	}
	if now := guestsContainer(t); now != before {
		t.Errorf("the Pod's container was %s and is %s", before, now)
	}
}

// checkFollowing changes what the cluster says to its nodes.
func checkFollowing(t *testing.T) {
	t.Helper()
	const pool = "198.19.0.240-198.19.0.250"
	text := kubectl(t, "-n", "kube-system", "get", "configmap", "keelson-config", "-o", `jsonpath={.data.node\.json}`)
	changed := strings.TrimSuffix(text, "}") + `,"loadBalancerPool":["` + pool + `"]}`
	kubectl(t, "-n", "kube-system", "patch", "configmap", "keelson-config", "--type=merge", "-p", `{"data":{"node.json":`+strconv.Quote(changed)+`}}`)
	eventually(t, "the agent has the pool", func() error {
		_, err := processOf("keelson-node", "--load-balancer-pool="+pool)
		return err
	})
	eventually(t, "the node is ready", func() error {
		if got := kubectl(t, "get", "node", secondName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`); got != "True" {
			return fmt.Errorf("Ready is %s", got)
		}
		return nil
	})
}

func checkNoService(t *testing.T) {
	t.Helper()
	if left, err := systemd.Left(); err != nil || len(left) > 0 {
		t.Errorf("of the service is left %v, %v", left, err)
	}
}

func onlyProcess(t *testing.T, program, argument string) (pid int) {
	t.Helper()
	pid, err := processOf(program, argument)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// processOf is the one process of a program that has an argument with some text.
func processOf(program, argument string) (int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	var pids []int
	for _, name := range names {
		text, err := os.ReadFile(name)
		words := strings.Split(string(text), "\x00")
		if err != nil || filepath.Base(words[0]) != program || !strings.Contains(string(text), argument) {
			continue // ended meanwhile, or another
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return 0, err
		}
		pids = append(pids, pid)
	}
	if len(pids) != 1 {
		return 0, fmt.Errorf("%d processes of %s with %s", len(pids), program, argument)
	}
	return pids[0], nil
}
