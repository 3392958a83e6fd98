package updown

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/keelson-dev/keelson/test/env/leaks"
	"github.com/keelson-dev/keelson/test/env/systemd"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// TestUpUsesTheMachinesContainerd: in a namespace of its own, and down leaves it
// running and clean. The API server gets the port and the flags that its owner wants, and
// systemd keeps the cluster up, also over a boot.
func TestUpUsesTheMachinesContainerd(t *testing.T) {
	useSystemd(t)
	pid := startContainerd(t)
	ctr(t, "namespaces", "create", "somebody")
	before, err := leaks.Take()
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t)

	c.refused(c, []string{"--systemd"}, "there is no "+systemd.Booted)
	if err := os.MkdirAll(systemd.Booted, 0o755); err != nil {
		t.Fatal(err)
	}
	out := c.keelson("up", "--systemd", "--apiserver-port", "16443", "--apiserver-arg", "enable-admission-plugins=AlwaysPullImages")
	c.wants(out, "The service keelson.service keeps it up")
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
	containers := ctr(t, "-n", "keelson", "containers", "ls", "-q")
	if containers == "" {
		t.Error("the machine's containerd holds no container of ours")
	}
	c.boots(t)
	if now := ctr(t, "-n", "keelson", "containers", "ls", "-q"); now != containers {
		t.Errorf("the containers were\n%s\nand are\n%s", containers, now)
	}

	c.keelson("down")
	if left, err := systemd.Left(); err != nil || len(left) > 0 {
		t.Errorf("of the service is left %v, %v", left, err)
	}
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

// useSystemd gives the machine a systemctl. It does not run yet.
func useSystemd(t *testing.T) {
	t.Helper()
	bin, remove, err := systemd.Install(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(remove(), os.RemoveAll(filepath.Dir(systemd.Booted))); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// boots ends the supervisor as a power cut does, forgets what does not outlive a boot, and
// lets systemd start the service.
func (c cluster) boots(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(systemd.Booted), "keelson.service.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Kill(pid, syscall.SIGKILL), os.Remove("/run/keelson/data-dir"), os.Remove("/run/keelson/cluster.json")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the supervisor is gone", func() error {
		out, _ := c.try("status")
		return wantIn(out, "no supervisor is running")
	})
	if out, err := exec.Command("systemctl", "start", "keelson.service").CombinedOutput(); err != nil {
		t.Fatalf("systemctl start: %v\n%s", err, out)
	}
	eventually(t, "the cluster is up again", func() error {
		out, err := c.try("status")
		if err != nil {
			journal, _ := os.ReadFile(systemd.Journal)
			return fmt.Errorf("%w: %s\n%s", err, out, journal)
		}
		return nil
	})
}
