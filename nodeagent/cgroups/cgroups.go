// Package cgroups keeps the tree of cgroups above the containers: a root that holds all
// Pods to what the node gives them, one cgroup for each class that is not guaranteed,
// and one for each Pod, so that Pods share the CPU by what they asked for and none takes
// more than its limits. It works with cgroup v1 and v2 through plain files. It never
// touches a cgroup outside its root, moves no process, and kills only what is left in the
// cgroup of a Pod that is removed. After a crash Start puts
// root and classes right again; the caller, who knows its Pods, ensures theirs and
// removes those of Pods that are gone.
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
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

const (
	dirMode = 0o755

	// A cgroup whose last process was just reaped stays busy for a moment.
	busyTries = 20
	busyPause = 10 * time.Millisecond

	// minShares is the weight of Pods that ask for nothing.
	minShares = 2
)

// controllers are those whose settings this package writes. Hierarchies that cgroup v1
// does not have are left out.
var controllers = []string{"cpu", "memory", "pids", "hugetlb"}

// Manager works on one cgroup file system.
type Manager struct {
	Layout
	mount string
	v2    bool
	clock clock.Clock
}

// New returns the Manager of the file system at mount, usually /sys/fs/cgroup.
func New(mount string, layout Layout) (*Manager, error) {
	if err := layout.Validate(); err != nil {
		return nil, err
	}
	var fsInfo unix.Statfs_t
	if err := unix.Statfs(mount, &fsInfo); err != nil {
		return nil, fmt.Errorf("reading the cgroup file system at %s: %w", mount, err)
	}
	return &Manager{Layout: layout, mount: mount, v2: fsInfo.Type == unix.CGROUP2_SUPER_MAGIC, clock: clock.RealClock{}}, nil
}

// Start makes the root with its settings, and the classes. The classes have no limits;
// best effort weighs least, burstable what SetBurstable says.
func (m *Manager) Start(root Settings) error {
	if err := m.ensure(m.Root, root); err != nil {
		return err
	}
	for _, class := range classes {
		if err := m.ensure(m.Class(class), Settings{}); err != nil {
			return err
		}
	}
	return m.ensure(m.Class(corev1.PodQOSBestEffort), Settings{CPUShares: new(uint64(minShares))})
}

// SetBurstable gives the burstable Pods together their weight against the guaranteed.
func (m *Manager) SetBurstable(shares uint64) error {
	return m.ensure(m.Class(corev1.PodQOSBurstable), Settings{CPUShares: &shares})
}

// Ensure makes the cgroup of a Pod with the given settings, or changes them.
func (m *Manager) Ensure(path string, s Settings) error {
	if err := m.checkPod(path); err != nil {
		return err
	}
	return m.ensure(path, s)
}

func (m *Manager) ensure(path string, s Settings) error {
	dirs, err := m.make(path)
	if err != nil {
		return err
	}
	for _, f := range s.files(m.v2) {
		dir, ok := dirs[f.Controller]
		if !ok && f.unlimited() {
			continue // nothing could limit it
		}
		if !ok {
			return fmt.Errorf("setting %s of the cgroup %s to %s: this machine has no cgroup controller %s", f.File, path, f.Value, f.Controller)
		}
		if err := writeSetting(filepath.Join(dir, f.File), f.Value); err != nil {
			return err
		}
	}
	return nil
}

// make makes the cgroup and returns its folder for each controller that the machine has.
func (m *Manager) make(path string) (map[string]string, error) {
	dirs := map[string]string{}
	for _, controller := range controllers {
		dir := filepath.Join(m.mount, path)
		if !m.v2 {
			if !m.hasV1(controller) {
				continue
			}
			dir = filepath.Join(m.mount, controller, path)
		}
		dirs[controller] = dir
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return nil, fmt.Errorf("making the cgroup %s: %w", path, err)
		}
	}
	if !m.v2 {
		return dirs, nil
	}
	// Controllers have to be handed down level by level before the child has them.
	for _, parent := range parents(m.mount, filepath.Join(m.mount, path)) {
		if err := handDown(parent); err != nil {
			return nil, err
		}
	}
	available, err := controllersOf(filepath.Dir(filepath.Join(m.mount, path)))
	if err != nil {
		return nil, err
	}
	for controller := range dirs {
		if !slices.Contains(available, controller) {
			delete(dirs, controller)
		}
	}
	return dirs, nil
}

func (m *Manager) hasV1(controller string) bool {
	_, err := os.Stat(filepath.Join(m.mount, controller))
	return err == nil
}

// Has tells whether this machine can limit what the controller counts.
func (m *Manager) Has(controller string) bool {
	if !m.v2 {
		return m.hasV1(controller)
	}
	available, err := controllersOf(m.mount)
	return err == nil && slices.Contains(available, controller)
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
	available, err := controllersOf(dir)
	if err != nil {
		return err
	}
	for _, controller := range available {
		if err := writeSetting(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller); err != nil {
			return err
		}
	}
	return nil
}

func controllersOf(dir string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("reading the controllers of cgroup %s: %w", dir, err)
	}
	return strings.Fields(string(data)), nil
}

// Memory is how many bytes are in use below the cgroup at path.
func (m *Manager) Memory(path string) (int64, error) {
	file := filepath.Join(m.mount, "memory", path, "memory.usage_in_bytes")
	if m.v2 {
		file = filepath.Join(m.mount, path, "memory.current")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("reading the memory use of the cgroup %s: %w", path, err)
	}
	usage, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the memory use of the cgroup %s: %w", path, err)
	}
	return usage, nil
}

// RemoveRoot takes away root and classes where nothing is left below them: another
// agent on this machine may have Pods there.
func (m *Manager) RemoveRoot() error {
	for _, hierarchy := range m.hierarchies() {
		for _, path := range []string{m.Class(corev1.PodQOSBurstable), m.Class(corev1.PodQOSBestEffort), m.Root} {
			err := unix.Rmdir(filepath.Join(hierarchy, path))
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
				return fmt.Errorf("removing the cgroup %s: %w", path, err)
			}
		}
	}
	return nil
}

// Remove takes away the cgroup of a Pod, whatever its class was, with all below it; one
// that is not there is fine. What still runs in it is nobody's, and killed.
func (m *Manager) Remove(uid types.UID) error {
	for _, path := range m.homes(uid) {
		if err := m.checkPod(path); err != nil {
			return err
		}
		for _, hierarchy := range m.hierarchies() {
			if err := m.removeTree(filepath.Join(hierarchy, path)); err != nil {
				return fmt.Errorf("removing the cgroup %s: %w", path, err)
			}
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
		case try == busyTries/2: // not a moment, but a process
			if err := killIn(dir); err != nil {
				return err
			}
		}
		m.clock.Sleep(busyPause)
	}
}

func writeSetting(path, value string) error {
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("setting %s to %s: %w", path, value, err)
	}
	return nil
}
