package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// terminalEnv is what a process on a terminal gets, as by containerd's CRI plug-in.
const terminalEnv = "TERM=xterm"

// A process is a container's first when execID is empty, else a command in it.

func (r *Runtime) closeStdin(ctx context.Context, containerID, execID string) error {
	_, err := r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: containerID, ExecID: execID, Stdin: true})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		return r.explain("close the input of "+containerID, err)
	}
	return nil
}

// followSize gives the terminal the sizes that the client sends.
func (r *Runtime) followSize(ctx context.Context, containerID, execID string, streams runtime.Streams) {
	if !streams.TTY || streams.Resize == nil {
		return
	}
	for {
		select {
		case size, ok := <-streams.Resize:
			if !ok {
				return
			}
			if size.Width == 0 || size.Height == 0 {
				continue
			}
			_, err := r.client.TaskService().ResizePty(ctx, &tasks.ResizePtyRequest{
				ContainerID: containerID, ExecID: execID, Width: uint32(size.Width), Height: uint32(size.Height),
			})
			if err = native(err); err != nil && !errdefs.IsNotFound(err) && ctx.Err() == nil {
				r.options.Log.V(2).Info("Cannot resize a terminal", "container", containerID, "reason", err.Error())
			}
		case <-ctx.Done():
			return
		}
	}
}

// killExec kills a command and what it has started in its own process group.
func (r *Runtime) killExec(ctx context.Context, o *object, execID string, pid uint32) error {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	if err := killGroup(pid, o.record.CgroupPath); err != nil {
		r.options.Log.V(2).Info("Cannot kill the process group of a command", "container", o.id, "reason", err.Error())
	}
	_, err := r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: o.id, ExecID: execID, Signal: uint32(sigkill)})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return r.explain("kill a command in "+o.id, err)
	}
	return nil
}

// killGroup kills the process group that pid leads, provided that pid is in the given
// cgroup: a number that another process has now, or that comes from another PID
// namespace, is left alone.
func killGroup(pid uint32, cgroup string) error {
	if pid == 0 {
		return nil
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the cgroup of process %d: %w", pid, err)
	}
	if !strings.Contains(string(data), cgroup) {
		return nil
	}
	group, err := syscall.Getpgid(int(pid))
	if errors.Is(err, syscall.ESRCH) || err == nil && group != int(pid) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the process group of process %d: %w", pid, err)
	}
	if err := syscall.Kill(-group, sigkill); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", group, err)
	}
	return nil
}

// deleteExec makes the shim forget an ended command. The shim waits some seconds for
// processes that still hold its output.
func (r *Runtime) deleteExec(ctx context.Context, containerID, execID string) error {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	_, err := r.client.TaskService().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: containerID, ExecID: execID})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		return r.explain("delete a command in "+containerID, err)
	}
	return nil
}

func (r *Runtime) execsDir() string { return filepath.Join(r.options.StateDir, "execs") }

// execDir holds the streams of a command. Its name is how the next process finds the
// command when this one is killed.
func (r *Runtime) execDir(containerID, execID string) string {
	return filepath.Join(r.execsDir(), containerID+"_"+execID)
}

// sweepExecs ends the commands of an earlier process: their clients are gone. What
// cannot be ended now is left for the next start, because Pods do not depend on it.
func (r *Runtime) sweepExecs(ctx context.Context) {
	entries, err := os.ReadDir(r.execsDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.options.Log.Error(err, "Cannot look for commands that an earlier process left")
	}
	for _, entry := range entries {
		containerID, execID, _ := strings.Cut(entry.Name(), "_")
		if err := r.sweepExec(ctx, containerID, execID); err != nil {
			r.options.Log.Error(err, "Cannot end a command that an earlier process left", "container", containerID)
		}
	}
}

func (r *Runtime) sweepExec(ctx context.Context, containerID, execID string) error {
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: containerID, ExecID: execID})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		return r.explain("read a command in "+containerID, err)
	}
	if o := r.objects.get(containerID); err == nil && o != nil {
		if err := r.killExec(ctx, o, execID, got.Process.Pid); err != nil {
			return err
		}
		if err := r.awaitExec(ctx, containerID, execID); err != nil {
			return err
		}
		if err := r.deleteExec(ctx, containerID, execID); err != nil {
			return err
		}
	}
	return pipes{dir: r.execDir(containerID, execID)}.remove()
}

func (r *Runtime) awaitExec(ctx context.Context, containerID, execID string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanUpTimeout)
	defer cancel()
	_, err := r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: containerID, ExecID: execID})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		return r.explain("wait for the end of a command in "+containerID, err)
	}
	return nil
}
