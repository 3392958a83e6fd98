package machine

import (
	"bytes"
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
)

// hierarchy is one mounted cgroup tree: a version 1 controller set, or version 2.
type hierarchy struct {
	mountpoint string
	fstype     string // "cgroup" or "cgroup2"
	options    string // of the file system: the controllers of version 1
	// own is the path of this process's cgroup below the mount point.
	own string
}

// enterCgroups moves this process into a fresh cgroup of every hierarchy, which a
// child in a new cgroup namespace sees as the root. The function it returns goes
// back and removes them.
func enterCgroups() (leave func() error, err error) {
	trees, err := hierarchies()
	if err != nil {
		return nil, err
	}
	name := "test-machine-" + strconv.Itoa(os.Getpid())
	for _, tree := range trees {
		dir := filepath.Join(tree.mountpoint, tree.own, name)
		if err := makeCgroup(dir); err != nil {
			return nil, err
		}
		if err := join(dir); err != nil {
			return nil, err
		}
	}
	return func() error {
		var faults []error
		for _, tree := range trees {
			home := filepath.Join(tree.mountpoint, tree.own)
			faults = append(faults, join(home), removeCgroups(filepath.Join(home, name)))
		}
		return errors.Join(faults...)
	}, nil
}

func join(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	return nil
}

// makeCgroup makes a cgroup; a cpuset of version 1 starts empty and takes no process
// before it has processors and memory nodes.
func makeCgroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0); err != nil && !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("set %s: %w", file, err)
		}
	}
	return nil
}

// removeTimeout bounds the wait for processes that the kernel is still ending.
const removeTimeout = 10 * time.Second

// removeCgroups removes a cgroup and all below it; its processes have been killed
// with their PID namespace, but the kernel may still be at it.
func removeCgroups(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(dirs)
	for _, dir := range dirs {
		err := os.Remove(dir)
		for end := time.Now().Add(removeTimeout); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = os.Remove(dir) {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remountCgroups mounts every hierarchy anew, so that its root is that of this
// process's cgroup namespace.
func remountCgroups() error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		if err := unix.Unmount(tree.mountpoint, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", tree.mountpoint, err)
		}
		const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := unix.Mount(tree.fstype, tree.mountpoint, tree.fstype, flags, tree.options); err != nil {
			return fmt.Errorf("mount %s (%s): %w", tree.mountpoint, tree.options, err)
		}
	}
	return nil
}

// hierarchies are the mounted cgroup trees with this process's place in them.
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	places, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return parseHierarchies(mounts, places)
}

// parseHierarchies reads the formats of mountinfo (proc(5)) and cgroup (cgroups(7)).
func parseHierarchies(mounts, places []byte) ([]hierarchy, error) {
	own := map[string]string{} // by comma-separated controllers, "" for version 2
	for line := range bytes.Lines(places) {
		fields := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("cannot read /proc/self/cgroup: %q", line)
		}
		own[fields[1]] = fields[2]
	}
	var trees []hierarchy
	for line := range bytes.Lines(mounts) {
		before, after, ok := strings.Cut(strings.TrimSpace(string(line)), " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 3 {
			return nil, fmt.Errorf("cannot read /proc/self/mountinfo: %q", line)
		}
		tree := hierarchy{mountpoint: fields[4], fstype: rest[0]}
		switch tree.fstype {
		case "cgroup2":
			tree.own = own[""]
		case "cgroup":
			tree.options = strings.TrimPrefix(strings.TrimPrefix(rest[2], "rw"), ",")
			tree.own = own[controllersOf(tree.options)]
		default:
			continue
		}
		trees = append(trees, tree)
	}
	return trees, nil
}

// controllersOf are the names that /proc/self/cgroup uses for mount options.
func controllersOf(options string) string {
	var names []string
	for option := range strings.SplitSeq(options, ",") {
		if option != "xattr" && !strings.HasPrefix(option, "release_agent=") {
			names = append(names, option)
		}
	}
	return strings.Join(names, ",")
}
