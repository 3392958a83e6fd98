package cgroups

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A process that nobody knows of does not keep a Pod's cgroup for ever.
func TestRemoveKillsWhatIsLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make cgroups")
	}
	m, err := New("/sys/fs/cgroup", Layout{Root: fmt.Sprintf("/keelson-test-%d", os.Getpid())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.RemoveRoot(); err != nil {
			t.Error(err)
		}
	})
	const uid = types.UID("0a1b2c3d-0000-4000-8000-000000000001")
	path := m.Pod(corev1.PodQOSBestEffort, uid)
	if err := m.Ensure(path, Settings{}); err != nil {
		t.Skipf("this machine's cgroups cannot be written: %v", err)
	}
	hierarchy := m.mount
	if !m.v2 {
		hierarchy = filepath.Join(m.mount, "cpu")
	}
	inner := filepath.Join(hierarchy, path, "container")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	process := exec.Command("sleep", "1000")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = process.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = process.Process.Kill()
		<-ended
	})
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(process.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(uid); err != nil {
		t.Errorf("it stays: %v", err)
	}
	<-ended
}
