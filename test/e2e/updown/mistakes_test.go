package updown

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keelson-dev/keelson/test/env/leaks"
)

// TestMistakes makes them one after the other on one cluster, as a person would; the
// machine is as before at the end.
func TestMistakes(t *testing.T) {
	before, err := leaks.Take()
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t)

	t.Log("A flag that the API server does not know is told at once, and leaves no folder")
	c.refused(c, []string{"--apiserver-arg=colour=red"}, "kube-apiserver does not take --colour=red: unknown flag: --colour")
	if _, err := os.Stat(c.data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the refused cluster's folder: %v", err)
	}

	t.Log("Ctrl-C during up: it fails, the cluster goes on starting")
	up, output, err := c.start("up")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "up tells of the first component", func() error { return wantIn(output(), "ready after") })
	if err := up.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if exit, ok := errors.AsType[*exec.ExitError](up.Wait()); !ok || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit code 1", exit)
	}
	c.wants(output(), "Interrupted", "keelson down --data-dir "+c.data)
	c.keelson("up")

	t.Log("A second cluster is refused and leaves no folder")
	second := cluster{t: t, root: c.root, data: filepath.Join(t.TempDir(), "second")}
	c.refused(second, nil, "one at a time", "keelson down --data-dir "+c.data)
	if _, err := os.Stat(second.data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the refused cluster's folder: %v", err)
	}

	t.Log("Flags that the running cluster cannot take")
	c.refused(c, []string{"--node-name=other"}, "--node-name", "keelson down")
	c.refused(c, []string{"--apiserver-arg=v=4"}, "--apiserver-arg", "keelson down --keep-data")
	c.refused(c, []string{"--node-ip=10.9.9.9"}, "--node-ip", "keelson down --keep-data")

	t.Log("The data directory is removed while the cluster runs")
	// Volumes of Pods are mounted below it: rm removes what it can, and fails.
	if out, err := exec.Command("rm", "-rf", c.data).CombinedOutput(); err != nil && wantIn(string(out), "busy") != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.refused(c, nil, "are gone", "keelson down --data-dir "+c.data)
	c.refused(second, nil, "keelson down --data-dir "+c.data)
	c.wants(c.keelson("down"), "are gone", "The cluster is down")

	after, err := leaks.Take()
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Compare(after); err != nil {
		t.Error(err)
	}
	c.wants(c.keelson("down"), "Nothing to end")
}

// refused wants up to fail on a cluster and to say why.
func (c cluster) refused(other cluster, flags []string, parts ...string) {
	c.t.Helper()
	out, err := other.try("up", flags...)
	if err == nil {
		c.t.Errorf("up is not refused:\n%s", out)
	}
	c.wants(out, parts...)
}

func (c cluster) wants(text string, parts ...string) {
	c.t.Helper()
	for _, part := range parts {
		if err := wantIn(text, part); err != nil {
			c.t.Error(err)
		}
	}
}

func wantIn(text, part string) error {
	if !strings.Contains(text, part) {
		return fmt.Errorf("%q is not in\n%s", part, text)
	}
	return nil
}
