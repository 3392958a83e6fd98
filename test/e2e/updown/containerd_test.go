package updown

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/keelson-dev/keelson/test/env/leaks"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// TestUpUsesTheMachinesContainerd: in a namespace of its own, and down leaves it
// running and clean. The API server gets the port and the flags that its owner wants.
func TestUpUsesTheMachinesContainerd(t *testing.T) {
	pid := startContainerd(t)
	ctr(t, "namespaces", "create", "somebody")
	before, err := leaks.Take()
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t)

	c.keelson("up", "--apiserver-port", "16443", "--apiserver-arg", "enable-admission-plugins=AlwaysPullImages")
	if out, err := c.kubectl("", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"); err != nil || !strings.HasSuffix(out, ":16443") {
		t.Errorf("the API server is at %s, %v", out, err)
	}
	if out := c.keelson("status"); strings.Contains(out, "containerd ") {
		t.Errorf("a containerd is among the components:\n%s", out)
	}
	if pids := processesOf(t, "containerd"); len(pids) != 1 || pids[0] != pid {
		t.Errorf("containerd runs as %v, want only %d", pids, pid)
	}
	c.runPod(busybox(t))
	if out, err := c.kubectl("", "get", "kpo", "once", "-o", "jsonpath={.spec.containers[0].imagePullPolicy}"); err != nil || out != "Always" {
		t.Errorf("the admission plug-in AlwaysPullImages left the policy %q, %v", out, err)
	}
	if out := ctr(t, "-n", "keelson", "containers", "ls", "-q"); out == "" {
		t.Error("the machine's containerd holds no container of ours")
	}

	c.keelson("down")
	if pids := processesOf(t, "containerd"); len(pids) != 1 || pids[0] != pid {
		t.Errorf("after down containerd runs as %v, want %d", pids, pid)
	}
	if out := ctr(t, "namespaces", "ls", "-q"); out != "somebody" {
		t.Errorf("after down there are the namespaces %q, want only somebody else's", out)
	}
	if left, err := filepath.Glob("/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/*"); err != nil || len(left) > 0 {
		t.Errorf("content that is left: %v, %v", left, err)
	}
	after, err := leaks.Take()
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Compare(after); err != nil {
		t.Error(err)
	}
}

// startContainerd runs it as the distribution does and returns its PID.
func startContainerd(t *testing.T) int {
	t.Helper()
	return startContainerdAt(t, "/run/containerd/containerd.sock")
}

// startContainerdAt runs one that listens at a socket, with more flags.
func startContainerdAt(t *testing.T, address string, flags ...string) int {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command("containerd", append([]string{"--address", address}, flags...)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death of the starting thread would count as the parent's
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
		runtime.UnlockOSThread()
		if t.Failed() || err != nil {
			t.Logf("containerd (%v) said:\n%s", err, log.String())
		}
	})
	eventually(t, "containerd answers", func() error { return exec.Command("ctr", "--address", address, "version").Run() })
	return cmd.Process.Pid
}

func ctr(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ctr", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// busybox serves an image and returns its name.
func busybox(t *testing.T) string {
	t.Helper()
	registry, err := imagebuild.StartRegistry("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	spec, err := imagebuild.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	image, err := imagebuild.Build(spec, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	ref, _, err := registry.Push(t.Context(), image, "test/busybox:v1")
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
