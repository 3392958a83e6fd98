// Package updown tests `keelson up` and `keelson down` themselves, on a machine that
// runs no cluster: what they use, refuse, survive and leave behind.
package updown

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keelson-dev/keelson/test/env/machine"
)

// timeout bounds every wait: generous, since no figure here is a measurement.
const timeout = 2 * time.Minute

func TestMain(m *testing.M) { os.Exit(machine.Main(m.Run)) }

type cluster struct {
	t          *testing.T
	root, data string
}

// newCluster is one that is not up yet and ends with the test.
func newCluster(t *testing.T) cluster {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{t: t, root: root, data: filepath.Join(t.TempDir(), "data")}
	t.Cleanup(func() {
		if out, err := c.try("down"); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return c
}

// keelson runs a command on the cluster and returns what it printed; a failure ends
// the test.
func (c cluster) keelson(command string, flags ...string) string {
	c.t.Helper()
	out, err := c.try(command, flags...)
	if err != nil {
		c.t.Fatalf("keelson %s: %v\n%s", command, err, out)
	}
	return out
}

// try runs a command on the cluster and returns what it printed.
func (c cluster) try(command string, flags ...string) (string, error) {
	cmd, output, err := c.start(command, flags...)
	if err != nil {
		return "", err
	}
	err = cmd.Wait()
	return output(), err
}

// start begins a command on the cluster; output is what it printed so far.
func (c cluster) start(command string, flags ...string) (cmd *exec.Cmd, output func() string, err error) {
	// Not a pipe: the supervisor that up leaves behind must not hold it open.
	file, err := os.CreateTemp("", "keelson-"+command+"-")
	if err != nil {
		return nil, nil, err
	}
	cmd = exec.Command(filepath.Join(c.root, "bin/keelson"), append([]string{command, "--data-dir", c.data}, flags...)...)
	cmd.Stdout, cmd.Stderr = file, file
	output = func() string {
		text := make([]byte, 1<<20)
		n, _ := file.ReadAt(text, 0) // io.EOF
		return string(text[:n])
	}
	return cmd, output, errors.Join(cmd.Start(), os.Remove(file.Name()))
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
