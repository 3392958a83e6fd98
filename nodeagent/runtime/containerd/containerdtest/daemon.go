// Package containerdtest starts a real containerd for tests: the distribution's daemon
// on its own root, state and socket, beside whatever else runs on the machine.
package containerdtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// config switches off what tests do not use, so that the daemon starts quickly.
const config = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
  address = %q
[debug]
  level = "warn"
`

// Daemon is a containerd of this test alone.
type Daemon struct {
	t       testing.TB
	dir     string
	command *exec.Cmd
	exited  chan struct{}
}

// Start starts a daemon that ends with the test. It skips the test where containerd
// cannot run: not root, or not installed.
func Start(t testing.TB) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to run containerd")
	}
	for _, program := range []string{"containerd", "runc", "containerd-shim-runc-v2"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s (apt-get install containerd runc)", program)
		}
	}
	// Not t.TempDir: paths of Unix sockets must be short.
	dir, err := os.MkdirTemp("", "ctd")
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{t: t, dir: dir}
	text := fmt.Sprintf(config, filepath.Join(dir, "root"), filepath.Join(dir, "state"), d.Address())
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.cleanUp)
	d.Restart()
	return d
}

// Address is the daemon's socket.
func (d *Daemon) Address() string { return filepath.Join(d.dir, "s.sock") }

// Dir is a folder for the test's own files, removed at the end.
func (d *Daemon) Dir() string { return d.dir }

// Restart starts the daemon after Kill.
func (d *Daemon) Restart() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.command = exec.Command("containerd", "--config", filepath.Join(d.dir, "config.toml"))
	d.command.Stdout, d.command.Stderr = log, log
	if err := d.command.Start(); err != nil {
		d.t.Fatal(err)
	}
	exited := make(chan struct{})
	d.exited = exited
	command := d.command
	go func() {
		_ = command.Wait()
		close(exited)
	}()
	d.waitForSocket()
}

func (d *Daemon) waitForSocket() {
	d.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		connection, err := net.Dial("unix", d.Address())
		if err == nil {
			_ = connection.Close()
			return
		}
		select {
		case <-d.exited:
			d.t.Fatalf("containerd ended at its start:\n%s", d.log())
		case <-deadline:
			d.t.Fatalf("containerd did not open its socket: %v\n%s", err, d.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *Daemon) log() string {
	data, err := os.ReadFile(filepath.Join(d.dir, "log"))
	return string(data) + errText(err)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Kill ends the daemon as a crash would (SIGKILL). Containers run on.
func (d *Daemon) Kill() {
	d.t.Helper()
	if err := d.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Fatal(err)
	}
	<-d.exited
}

// Shims returns the processes of this daemon's shims.
func (d *Daemon) Shims() []int {
	return processes(func(arguments string) bool {
		return strings.Contains(arguments, "containerd-shim-runc-v2") && strings.Contains(arguments, d.Address())
	})
}

// Processes returns those whose command line begins with the given words.
func (d *Daemon) Processes(commandLine string) []int {
	return processes(func(arguments string) bool { return strings.HasPrefix(arguments, commandLine) })
}

func processes(match func(arguments string) bool) []int {
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline") // only a bad pattern fails
	var found []int
	for _, entry := range entries {
		data, err := os.ReadFile(entry)
		if err != nil || !match(strings.ReplaceAll(string(data), "\x00", " ")) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(entry, "/proc/%d/cmdline", &pid); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// Mounts returns the mount points below the daemon's folder.
func (d *Daemon) Mounts() []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		d.t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], d.dir+"/") {
			found = append(found, fields[4])
		}
	}
	return found
}

// Cgroups returns the cgroups at or below path, in all hierarchies.
func Cgroups(path string) []string {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/*" + path, "/sys/fs/cgroup" + path} {
		matches, _ := filepath.Glob(pattern) // only a bad pattern fails
		for _, match := range matches {
			found = append(found, match)
			nested, _ := filepath.Glob(match + "/*/cgroup.procs")
			found = append(found, nested...)
		}
	}
	return found
}

// cleanUp ends what the test left, after the test itself had its chance to complain.
func (d *Daemon) cleanUp() {
	for _, pid := range d.Shims() {
		for _, child := range children(pid) {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	d.Kill()
	if d.t.Failed() {
		d.t.Logf("containerd's log:\n%s", d.log())
	}
	mounts := d.Mounts()
	for i := range mounts {
		_ = syscall.Unmount(mounts[len(mounts)-1-i], syscall.MNT_DETACH)
	}
	if err := os.RemoveAll(d.dir); err != nil {
		d.t.Errorf("remove containerd's folder: %v", err)
	}
}

func children(pid int) []int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var found []int
	for word := range strings.FieldsSeq(string(data)) {
		var child int
		if _, err := fmt.Sscanf(word, "%d", &child); err == nil {
			found = append(found, child)
		}
	}
	return found
}

// Pid returns the first process of a container of the namespace "keelson".
func (d *Daemon) Pid(t testing.TB, id string) int {
	t.Helper()
	var pid int
	data, err := os.ReadFile(filepath.Join(d.dir, "state", "io.containerd.runtime.v2.task", "keelson", id, "init.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(data), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// KillShims ends all containers and their shims.
func (d *Daemon) KillShims(t testing.TB) {
	t.Helper()
	var processes []int
	for _, shim := range d.Shims() {
		processes = append(append(processes, shim), children(shim)...)
	}
	if len(processes) == 0 {
		t.Fatal("no shim runs")
	}
	for _, pid := range processes {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}
