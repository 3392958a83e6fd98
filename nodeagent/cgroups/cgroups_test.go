package cgroups

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// newManager returns a Manager of this machine's cgroups.
func newManager(t *testing.T) *Manager {
	t.Helper()
	m, err := New("/sys/fs/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	probe := filepath.Join(m.hierarchies()[0], "keelson-probe")
	if err := os.Mkdir(probe, 0o755); err != nil {
		t.Skipf("cgroups cannot be made here: %v", err)
	}
	if err := os.Remove(probe); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPodCgroup(t *testing.T) {
	m := newManager(t)
	uid := types.UID("test-" + string(uuid.NewUUID()))
	path := PodPath(uid)
	for range 2 { // it may be there already
		if err := m.Ensure(path, 512); err != nil {
			t.Fatal(err)
		}
	}
	file, want := filepath.Join(m.mount, "cpu", path, "cpu.shares"), "512"
	if m.v2 {
		file, want = filepath.Join(m.mount, path, "cpu.weight"), "20"
	}
	if got, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(got)) != want {
		t.Errorf("%s is %q, %v; want %s", file, got, err, want)
	}
	child := filepath.Join(filepath.Dir(file), "container", "deeper")
	if err := os.MkdirAll(child, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Dir(file)); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if err := m.RemoveRoot(); err != nil {
		t.Error(err)
	}
}

func TestOtherCgroupsAreNotTouched(t *testing.T) {
	m := &Manager{mount: t.TempDir(), v2: true}
	for _, path := range []string{"", "/", "/system.slice", "/keelson", "/keelson/pod1/../../system.slice", "/keelson/pod1/a", "keelson/pod1", "/keelson/pod1/"} {
		if err := m.Remove(path); err == nil {
			t.Errorf("Remove(%q) does not refuse", path)
		}
		if err := m.Ensure(path, 2); err == nil {
			t.Errorf("Ensure(%q) does not refuse", path)
		}
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 512: 20, 1024: 39, 262144: 10000, 1 << 40: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) = %d, want %d", shares, got, want)
		}
	}
}
