package userns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func needKernel(t *testing.T) {
	t.Helper()
	if err := (&Support{Dir: t.TempDir()}).Check(); err != nil {
		t.Skipf("needs user namespaces and mounts with mapped IDs: %v", err)
	}
}

func TestNamespacesEndWithTheirUse(t *testing.T) {
	needKernel(t)
	var dir string
	r := Range{HostID: 7 * Length, Length: Length}
	err := In(r, unix.CLONE_NEWNET, func(d string) error {
		dir = d
		data, err := os.ReadFile(filepath.Join(filepath.Dir(d), "uid_map"))
		if want := fmt.Sprint([]string{"0", fmt.Sprint(r.HostID), fmt.Sprint(Length)}); fmt.Sprint(strings.Fields(string(data))) != want {
			t.Errorf("uid_map is %q, want %s", data, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the first process is still there: %v", err)
	}
}

func TestMappedMounts(t *testing.T) {
	needKernel(t)
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "mapped", "m0")
	if err := os.WriteFile(source, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(source, 5, 6); err != nil {
		t.Fatal(err)
	}
	r := Range{HostID: 7 * Length, Length: Length}
	for range 2 { // what an earlier try has mounted is replaced
		if err := In(r, 0, func(ns string) error { return Bind(source, target, ns+"/user") }); err != nil {
			t.Fatal(err)
		}
	}
	var stat unix.Stat_t
	if err := unix.Stat(target, &stat); err != nil || stat.Uid != r.HostID+5 || stat.Gid != r.HostID+6 {
		t.Errorf("the file belongs to %d:%d, want %d:%d (%v)", stat.Uid, stat.Gid, r.HostID+5, r.HostID+6, err)
	}
	for range 2 {
		if err := UnbindAll(filepath.Join(dir, "mapped")); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Dir(target)); !os.IsNotExist(err) {
		t.Errorf("the folder of mounts is still there: %v", err)
	}
	if content, err := os.ReadFile(source); string(content) != "x" {
		t.Errorf("the source holds %q, %v", content, err)
	}
}

func TestProbeSaysWhy(t *testing.T) {
	missing := &Support{Dir: filepath.Join(t.TempDir(), "missing")}
	if err := missing.Check(); err == nil {
		t.Error("a folder that does not exist passes")
	}
	err := In(Range{HostID: 7 * Length, Length: Length}, 0, func(ns string) error {
		return Bind("/proc/sys", filepath.Join(t.TempDir(), "x"), ns+"/user")
	})
	if err == nil || os.Geteuid() == 0 && !strings.Contains(err.Error(), "failed to set MOUNT_ATTR_IDMAP on /proc/sys") {
		t.Errorf("a file system without mapped IDs: %v", err)
	}
}
