// Package pausetest tests the pause program, whose folder cannot hold Go files.
package pausetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// start runs pause as the first process of a PID namespace.
func start(t *testing.T) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a PID namespace")
	}
	program := filepath.Join(t.TempDir(), "pause")
	if out, err := exec.Command("make", "-C", "..", "OUT="+program).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	command := exec.Command(program)
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	return command
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain until %s", what)
		}
	}
}

// sleeps tells whether the process is pause and waits in its only blocking system call.
func sleeps(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && strings.Contains(string(data), "Name:\tpause\n") && strings.Contains(string(data), "State:\tS")
}

func TestEndsOnSignals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			command := start(t)
			eventually(t, "it sleeps", func() bool { return sleeps(command.Process.Pid) })
			if err := command.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := command.Wait(); err != nil {
				t.Errorf("pause ended with %v", err)
			}
		})
	}
}

func TestReapsOrphans(t *testing.T) {
	command := start(t)
	pid := command.Process.Pid
	eventually(t, "it sleeps", func() bool { return sleeps(pid) })
	children := func() string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	orphan := exec.Command("nsenter", "--target", fmt.Sprint(pid), "--pid", "sh", "-c", "sleep 1000 & exit 0")
	if err := orphan.Run(); err != nil {
		t.Fatalf("make an orphan: %v", err)
	}
	eventually(t, "pause has inherited the orphan", func() bool { return children() != "" })
	var child int
	if _, err := fmt.Sscan(children(), &child); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan is reaped", func() bool { return children() == "" })
}
