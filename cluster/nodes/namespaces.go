package nodes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kinds of namespaces that a node has of its own, as /proc names them.
var kinds = []struct {
	name string
	flag int
}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"mnt", unix.CLONE_NEWNS}}

// Ensure makes the node and its wire unless they are there. One that is there from
// another boot, or was not finished, is taken away first.
func (m *Machine) Ensure(ctx context.Context, n Node) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	boot, err := m.booted(n.Name)
	if err != nil {
		return err
	}
	if boot != n.Boot {
		if err := m.remove(ctx, n.Name); err != nil {
			return err
		}
		if err := m.create(n); err != nil {
			return fmt.Errorf("make the namespaces of node %s: %w", n.Name, err)
		}
	}
	return m.ensureWire(n)
}

// booted returns the boot that the node on this machine is of, 0 without a whole one.
func (m *Machine) booted(name string) (int, error) {
	text, err := os.ReadFile(m.marker(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at node %s: %w", name, err)
	}
	if boot, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		return boot, nil
	}
	return 0, nil // torn: not finished
}

// Running says whether the node is there, of that boot.
func (m *Machine) Running(n Node) (bool, error) {
	boot, err := m.booted(n.Name)
	return err == nil && boot == n.Boot, err
}

func (m *Machine) create(n Node) error {
	if err := m.preparePins(); err != nil {
		return err
	}
	if err := m.prepareFolders(n); err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir(n.Name), 0o700); err != nil {
		return err
	}
	if err := m.createPinned(n); err != nil {
		return err
	}
	return os.WriteFile(m.marker(n.Name), []byte(strconv.Itoa(n.Boot)+"\n"), 0o600)
}

// createPinned makes the namespaces on one processor after the other until they can be
// pinned. The kernel refuses to pin a mount namespace in one that is younger, and since
// Linux 6.18 tells that by numbers that each processor takes from a batch of its own, so
// that it may be mistaken, unless both came from the same one.
func (m *Machine) createPinned(n Node) error {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("list processors: %w", err)
	}
	var err error
	for cpu := range len(all) * strconv.IntSize {
		if !all.IsSet(cpu) {
			continue
		}
		if err = m.tryCreate(n, cpu); !errors.Is(err, unix.EINVAL) {
			return err
		}
		if err := m.unpin(n.Name); err != nil {
			return err
		}
	}
	return err
}

func (m *Machine) tryCreate(n Node, cpu int) error {
	thread, err := newThread(func() error {
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return fmt.Errorf("move to a processor: %w", err)
		}
		return m.enterNew(n)
	})
	if err != nil {
		return err
	}
	defer thread.end()
	for _, kind := range kinds {
		pin := m.pin(n.Name, kind.name)
		file, err := os.OpenFile(pin, os.O_CREATE|os.O_RDONLY, 0o600)
		if err != nil {
			return err
		}
		file.Close()
		source := fmt.Sprintf("/proc/self/task/%d/ns/%s", thread.id, kind.name)
		if err := unix.Mount(source, pin, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin namespace %s: %w", kind.name, err)
		}
	}
	return nil
}

// unpin lets go of the node's namespaces.
func (m *Machine) unpin(name string) error {
	for _, kind := range kinds {
		err := unix.Unmount(m.pin(name, kind.name), unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) { // EINVAL: no mount point
			return fmt.Errorf("let go of namespace %s of node %s: %w", kind.name, name, err)
		}
	}
	return nil
}

// preparePins mounts a file system of its own at the folder of pins: a mount namespace
// can be pinned only where mounts are not passed on.
func (m *Machine) preparePins() error {
	if err := os.MkdirAll(m.options.Dir, 0o700); err != nil {
		return err
	}
	mounted, err := isMountPoint(m.options.Dir)
	if err != nil || mounted {
		return err
	}
	if err := unix.Mount("tmpfs", m.options.Dir, "tmpfs", 0, "mode=0700,size=1m"); err != nil {
		return fmt.Errorf("mount %s: %w", m.options.Dir, err)
	}
	if err := unix.Mount("", m.options.Dir, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("make %s private: %w", m.options.Dir, err), unix.Unmount(m.options.Dir, unix.MNT_DETACH))
	}
	return nil
}

func isMountPoint(dir string) (bool, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("list mounts: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == dir {
			return true, nil
		}
	}
	return false, nil
}

// thread is an operating system's thread with namespaces of its own; nothing else of
// this program ever runs on it.
type thread struct {
	id  int
	end func()
}

// newThread starts a thread on which enter ran.
func newThread(enter func() error) (thread, error) {
	type result struct {
		id  int
		err error
	}
	entered, end := make(chan result), make(chan struct{})
	go onThread(func() {
		err := enter()
		entered <- result{unix.Gettid(), err}
		if err == nil {
			<-end
		}
	})
	r := <-entered
	return thread{r.id, func() { close(end) }}, r.err
}

// onThread runs f on a thread that ends with it, to be called in a goroutine of its
// own. The first thread of a program never ends, and /proc shows its namespaces as the
// program's, so it is not taken.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f() // never unlocked, so the thread ends with the goroutine
		return
	}
	done := make(chan struct{})
	go func() { // cannot run here, because this goroutine has the thread
		defer close(done)
		onThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// Enter runs f on a thread in the node's namespaces; a program that f starts is in
// them, too.
func (m *Machine) Enter(name string, f func() error) error {
	done := make(chan error)
	go onThread(func() {
		err := m.enter(name)
		if err == nil {
			err = f()
		}
		done <- err
	})
	return <-done
}

func (m *Machine) enter(name string) error {
	// The threads of a program share their working directory and root, with which none
	// may change its mounts.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter node %s: %w", name, err)
	}
	for _, kind := range kinds { // mounts last: then the pins are out of sight
		fd, err := unix.Open(m.pin(name, kind.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("enter node %s, which does not run: %w", name, err)
		}
		err = unix.Setns(fd, kind.flag)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("enter node %s: namespace %s: %w", name, kind.name, err)
		}
	}
	return nil
}
