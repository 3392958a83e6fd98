package nodes

import (
	"context"
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

	"github.com/keelson-dev/keelson/cluster/internal/process"
)

const (
	cgroupMount = "/sys/fs/cgroup"
	// killTimeout bounds the wait for processes that were killed, and cgroups to empty.
	killTimeout = 30 * time.Second
	killPeriod  = 20 * time.Millisecond
)

// Remove takes the node away as a power cut does: nothing in it is told, all of its
// processes are killed, and what was not on its disk is gone. Its Data stays.
func (m *Machine) Remove(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.remove(ctx, name)
}

func (m *Machine) remove(ctx context.Context, name string) error {
	// Without its marker the node counts as unfinished, whatever happens from here on.
	if err := os.Remove(m.marker(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove node %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := m.killAll(ctx, name); err != nil {
		return fmt.Errorf("end the processes of node %s: %w", name, err)
	}
	if err := removeCgroups(ctx, m.options.Cgroup(name)); err != nil {
		return fmt.Errorf("remove the cgroups of node %s: %w", name, err)
	}
	if err := m.removeWire(name); err != nil {
		return err
	}
	if err := m.unpin(name); err != nil {
		return err
	}
	if err := os.RemoveAll(m.dir(name)); err != nil {
		return fmt.Errorf("remove node %s: %w", name, err)
	}
	return nil
}

// killAll returns when no process of the node is left.
func (m *Machine) killAll(ctx context.Context, name string) error {
	tick := time.NewTicker(killPeriod)
	defer tick.Stop()
	for {
		pids, err := m.processes(name)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v do not end, even when killed: %w", pids, ctx.Err())
		case <-tick.C:
		}
	}
}

// processes lists what runs in the node: in its namespaces, in its cgroups, and what
// such a process started.
func (m *Machine) processes(name string) ([]int, error) {
	var namespaces []string
	for _, kind := range kinds {
		if id, ok := namespaceID(m.pin(name, kind.name), kind.name); ok {
			namespaces = append(namespaces, id)
		}
	}
	inCgroups, err := cgroupProcesses(m.options.Cgroup(name))
	if err != nil {
		return nil, err
	}
	all, err := listProcesses()
	if err != nil {
		return nil, err
	}
	return chooseProcesses(all, namespaces, inCgroups), nil
}

// running is a process with what tells whose it is.
type running struct {
	pid, parent int
	namespaces  []string
}

// chooseProcesses returns those in one of the namespaces or cgroups, and their children.
func chooseProcesses(all []running, namespaces []string, inCgroups map[int]bool) []int {
	chosen := map[int]bool{}
	for _, p := range all {
		chosen[p.pid] = inCgroups[p.pid] || slices.ContainsFunc(p.namespaces, func(id string) bool { return slices.Contains(namespaces, id) })
	}
	for again := true; again; {
		again = false
		for _, p := range all {
			if !chosen[p.pid] && chosen[p.parent] {
				chosen[p.pid], again = true, true
			}
		}
	}
	var pids []int
	for _, p := range all {
		if chosen[p.pid] && p.pid != os.Getpid() {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// namespaceID reads the name that /proc gives to a namespace from its pin; ok is false
// where nothing is pinned.
func namespaceID(pin, kind string) (id string, ok bool) {
	var fsInfo unix.Statfs_t
	var info unix.Stat_t
	if unix.Statfs(pin, &fsInfo) != nil || fsInfo.Type != unix.NSFS_MAGIC || unix.Stat(pin, &info) != nil {
		return "", false
	}
	return fmt.Sprintf("%s:[%d]", kind, info.Ino), true
}

// listProcesses leaves out what ends meanwhile, zombies and the kernel's own threads.
func listProcesses() ([]running, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []running
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		parent, err := process.Parent(pid)
		if err != nil {
			continue // it has ended
		}
		p := running{pid: pid, parent: parent}
		for _, kind := range kinds {
			if id, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns", kind.name)); err == nil {
				p.namespaces = append(p.namespaces, id)
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// hierarchies are the folders below which a cgroup may be: the mount itself in version
// 2, each folder in it in version 1, where links are other names of the same.
func hierarchies() ([]string, error) {
	if exists(filepath.Join(cgroupMount, "cgroup.controllers")) {
		return []string{cgroupMount}, nil
	}
	entries, err := os.ReadDir(cgroupMount)
	if err != nil {
		return nil, fmt.Errorf("list cgroup hierarchies: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(cgroupMount, e.Name()))
		}
	}
	return dirs, nil
}

// cgroupFolders lists a cgroup and all below it in every hierarchy, parents first.
func cgroupFolders(cgroup string) ([]string, error) {
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join(root, cgroup), func(path string, e fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case e.IsDir():
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
	}
	return dirs, nil
}

func cgroupProcesses(cgroup string) (map[int]bool, error) {
	dirs, err := cgroupFolders(cgroup)
	if err != nil {
		return nil, err
	}
	pids := map[int]bool{}
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("list the processes of a cgroup: %w", err)
		}
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids[pid] = true
			}
		}
	}
	return pids, nil
}

// removeCgroups removes a cgroup and all below it. One whose last process was just
// killed stays busy for a moment.
func removeCgroups(ctx context.Context, cgroup string) error {
	tick := time.NewTicker(killPeriod)
	defer tick.Stop()
	for {
		dirs, err := cgroupFolders(cgroup)
		if err != nil || len(dirs) == 0 {
			return err
		}
		slices.Reverse(dirs)
		var busy error
		for _, dir := range dirs {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				busy = errors.Join(busy, fmt.Errorf("remove %s: %w", dir, err))
			}
		}
		if busy == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(busy, ctx.Err())
		case <-tick.C:
		}
	}
}
