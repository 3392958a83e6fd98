package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// deadShimTimeout bounds how long containerd may take to notice that a shim is gone;
	// deadShimPause is the time between two looks.
	deadShimTimeout = 10 * time.Second
	deadShimPause   = 50 * time.Millisecond
)

// shimClosed says that a shim ended while it was asked: containerd had sent the question
// and lost the connection. It forgets the shim's tasks a moment later, after it has told
// of their end.
func shimClosed(err error) bool {
	return err != nil && strings.Contains(err.Error(), "ttrpc: closed")
}

// afterShim returns what an error of a question to a shim means: not found, when the
// shim is gone and its task with it.
func (r *Runtime) afterShim(ctx context.Context, o *object, err error) error {
	if !shimClosed(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deadShimTimeout)
	defer cancel()
	for {
		task, getErr := r.task(ctx, o)
		switch {
		case getErr == nil && task == nil:
			return fmt.Errorf("the shim has ended: %w", errdefs.ErrNotFound)
		case getErr != nil && !shimClosed(getErr):
			return errors.Join(err, getErr)
		}
		timer := r.options.Clock.NewTimer(deadShimPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C():
		}
	}
}

// killLeftovers ends processes in the cgroup of an object that has no task: an agent
// that was killed while containerd 1.6 made the task leaves the process that the shim
// had started by then, and nothing else knows of it.
func (r *Runtime) killLeftovers(o *object) {
	pids, err := r.machine.processes(o.record.CgroupPath)
	if err != nil {
		r.options.Log.Error(err, "Cannot look for processes that nobody knows of", "container", o.id)
	}
	for _, pid := range pids {
		r.options.Log.Info("Killing a process that nobody knows of", "container", o.id, "pid", pid)
		if err := syscall.Kill(pid, sigkill); err != nil && !errors.Is(err, syscall.ESRCH) {
			r.options.Log.Error(err, "Cannot kill a process that nobody knows of", "container", o.id, "pid", pid)
		}
	}
}

// processes lists those of a cgroup; one that does not exist has none.
func (m machine) processes(cgroup string) ([]int, error) {
	if cgroup == "" {
		return nil, nil
	}
	pattern := filepath.Join(cgroupRoot, "*", cgroup, "cgroup.procs")
	if m.unified {
		pattern = filepath.Join(cgroupRoot, cgroup, "cgroup.procs")
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("look for the cgroup %s: %w", cgroup, err)
	}
	seen := map[int]bool{}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
			continue // it has just been removed
		}
		if err != nil {
			return nil, fmt.Errorf("list the processes of the cgroup %s: %w", cgroup, err)
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err == nil && pid > 0 && !seen[pid] { // 0: in another PID namespace
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}
