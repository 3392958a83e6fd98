// Package cgroups keeps one cgroup for each Pod, the parent of its containers'
// cgroups, so that Pods share the CPU by what they asked for. It works with cgroup v1
// and v2 through plain files. It never touches a cgroup outside /keelson and never
// moves a process. After a crash the caller, who knows its Pods, removes the cgroups of
// those that are gone.
package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

const (
	// Root is the parent of all Pods' cgroups.
	Root = "/keelson"
	// podPrefix is what the name of a Pod's cgroup begins with; the UID follows.
	podPrefix = "pod"
	dirMode   = 0o755

	// A cgroup whose last process was just reaped stays busy for a moment.
	busyTries = 20
	busyPause = 10 * time.Millisecond
)

// PodPath is the path of a Pod's cgroup.
func PodPath(uid types.UID) string { return Root + "/" + podPrefix + string(uid) }

// Manager works on one cgroup file system.
type Manager struct {
	mount string
	v2    bool
	clock clock.Clock
}

// New returns the Manager of the file system at mount, usually /sys/fs/cgroup.
func New(mount string) (*Manager, error) {
	var fsInfo unix.Statfs_t
	if err := unix.Statfs(mount, &fsInfo); err != nil {
		return nil, fmt.Errorf("reading the cgroup file system at %s: %w", mount, err)
	}
	return &Manager{mount: mount, v2: fsInfo.Type == unix.CGROUP2_SUPER_MAGIC, clock: clock.RealClock{}}, nil
}

// Ensure makes the cgroup at path (below Root) with the given CPU weight, in cgroup v1
// units.
func (m *Manager) Ensure(path string, cpuShares uint64) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if m.v2 {
		return m.ensureV2(path, cpuShares)
	}
	dir := filepath.Join(m.mount, "cpu", path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("making the cgroup %s: %w", path, err)
	}
	return writeSetting(filepath.Join(dir, "cpu.shares"), strconv.FormatUint(cpuShares, 10))
}

func (m *Manager) ensureV2(path string, cpuShares uint64) error {
	dir := filepath.Join(m.mount, path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("making the cgroup %s: %w", path, err)
	}
	// Controllers have to be handed down level by level before the child has them.
	for _, parent := range parents(m.mount, dir) {
		if err := handDown(parent); err != nil {
			return err
		}
	}
	return writeSetting(filepath.Join(dir, "cpu.weight"), strconv.FormatUint(weight(cpuShares), 10))
}

// parents lists the folders from mount down to the one above dir.
func parents(mount, dir string) []string {
	var out []string
	for p := filepath.Dir(dir); strings.HasPrefix(p, mount); p = filepath.Dir(p) {
		out = append(out, p)
	}
	slices.Reverse(out)
	return out
}

// handDown gives the children of dir every controller that dir has.
func handDown(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("reading the controllers of cgroup %s: %w", dir, err)
	}
	for _, controller := range strings.Fields(string(data)) {
		if err := writeSetting(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller); err != nil {
			return err
		}
	}
	return nil
}

// weight converts shares (2 to 262144) to a v2 weight (1 to 10000), as runc does.
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

// RemoveRoot takes away the parent of all Pods' cgroups where nothing is left below it:
// another agent on this machine may have Pods there.
func (m *Manager) RemoveRoot() error {
	for _, root := range m.hierarchies() {
		err := unix.Rmdir(filepath.Join(root, Root))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("removing the cgroup %s: %w", Root, err)
		}
	}
	return nil
}

// Remove takes away the cgroup at path with all below it; one that is not there is
// fine. Its error says that a process still runs in it.
func (m *Manager) Remove(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	for _, root := range m.hierarchies() {
		if err := m.removeTree(filepath.Join(root, path)); err != nil {
			return fmt.Errorf("removing the cgroup %s: %w", path, err)
		}
	}
	return nil
}

// hierarchies lists where cgroups may live: the mount itself on v2, every folder
// below it on v1. Links (cpu → cpu,cpuacct) are left out.
func (m *Manager) hierarchies() []string {
	if m.v2 {
		return []string{m.mount}
	}
	entries, err := os.ReadDir(m.mount)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(m.mount, e.Name()))
		}
	}
	return out
}

// removeTree removes folders bottom up; the files in them are not real.
func (m *Manager) removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := m.removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for try := 1; ; try++ {
		err := unix.Rmdir(dir)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) || try == busyTries:
			return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		m.clock.Sleep(busyPause)
	}
}

func checkPath(path string) error {
	if filepath.Clean(path) != path || filepath.Dir(path) != Root {
		return fmt.Errorf("cgroup %q is not a Pod's: want %s/%s<uid>", path, Root, podPrefix)
	}
	return nil
}

func writeSetting(path, value string) error {
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("setting %s to %s: %w", path, value, err)
	}
	return nil
}
