// Package machinecontainerd shows that `keelson up` uses the containerd that a machine
// runs already, in a namespace of its own, and that `keelson down` leaves it running
// and clean. It is a package of its own because a machine runs one cluster at a time.
package machinecontainerd

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
	"time"

	"github.com/keelson-dev/keelson/test/env/leaks"
	"github.com/keelson-dev/keelson/test/env/machine"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

const timeout = time.Minute

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

func TestUpUsesTheMachinesContainerd(t *testing.T) {
	pid := startContainerd(t)
	ctr(t, "namespaces", "create", "somebody")
	before, err := leaks.Take()
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{t: t, root: moduleRoot(t), data: filepath.Join(t.TempDir(), "data")}

	c.keelson("up")
	t.Cleanup(func() {
		if t.Failed() {
			c.keelson("down") // leave nothing for whoever looks at the failure
		}
	})
	if out := c.keelson("status"); strings.Contains(out, "containerd ") {
		t.Errorf("a containerd is among the components:\n%s", out)
	}
	if pids := processesOf(t, "containerd"); len(pids) != 1 || pids[0] != pid {
		t.Errorf("containerd runs as %v, want only %d", pids, pid)
	}
	c.runPod(busybox(t))
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
	var log bytes.Buffer
	cmd := exec.Command("containerd")
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
	eventually(t, "containerd answers", func() error { return exec.Command("ctr", "version").Run() })
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

type cluster struct {
	t          *testing.T
	root, data string
}

// keelson runs a command on the cluster and returns what it printed.
func (c cluster) keelson(command string) string {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), command)
	// Not a pipe: the supervisor that up leaves behind must not hold it open.
	file, err := os.Create(path)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(c.root, "bin/keelson"), command, "--data-dir", c.data)
	cmd.Stdout, cmd.Stderr = file, file
	runErr := cmd.Run()
	out, err := os.ReadFile(path)
	if err := errors.Join(runErr, err, file.Close()); err != nil {
		c.t.Fatalf("keelson %s: %v\n%s", command, err, out)
	}
	return string(out)
}

// runPod runs a Pod to its end and leaves it there for down.
func (c cluster) runPod(image string) {
	c.t.Helper()
	manifest := fmt.Sprintf(`{apiVersion: core.keelson.dev/v1, kind: Pod, metadata: {name: once},
		spec: {restartPolicy: Never, containers: [{name: c, image: %q, command: [sh, -c, "exit 0"]}]}}`, image)
	if out, err := c.kubectl(manifest, "apply", "-f", "-"); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	eventually(c.t, "the Pod succeeds", func() error {
		out, err := c.kubectl("", "get", "kpo", "once", "-o", "jsonpath={.status.phase}")
		if err == nil && out != "Succeeded" {
			err = fmt.Errorf("phase %s", out)
		}
		return err
	})
}

func (c cluster) kubectl(stdin string, args ...string) (string, error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(c.root, "bin/k8s")
	}
	cmd := exec.Command(filepath.Join(assets, "kubectl"), append([]string{"--kubeconfig", filepath.Join(c.data, "admin.kubeconfig")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// processesOf are the PIDs of the processes that run a program.
func processesOf(t *testing.T, program string) []int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(text)) != program {
			continue // ended meanwhile, or another program
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(timeout); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %v", what, timeout, err)
		}
	}
}
