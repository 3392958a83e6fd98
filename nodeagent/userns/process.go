package userns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// In makes a user namespace with the range and, owned by it, those that flags name
// (CLONE_NEWNET, …), and calls f while they live. dir is the folder of links to them,
// such as dir+"/user" and dir+"/net"; what f binds or opens of them lives on.
//
// The namespaces are those of a child that is held before it runs anything and ends with
// this process, at the latest.
func In(r Range, flags uintptr, f func(dir string) error) error {
	result := make(chan error, 1)
	go func() {
		// The thread is the child's tracer and parent: the child is killed when it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		result <- in(r, flags, f)
	}()
	return <-result
}

func in(r Range, flags uintptr, f func(dir string) error) (err error) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(r.HostID), Size: int(r.Length)}}
	child, err := os.StartProcess("/proc/self/exe", []string{"keelson-userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | flags,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Ptrace:    true, // it stops where it would begin to run the program
		Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return fmt.Errorf("make a user namespace: %w", err)
	}
	defer func() { _ = child.Release() }()
	defer func() {
		if killErr := child.Kill(); killErr != nil && !errors.Is(killErr, os.ErrProcessDone) {
			err = errors.Join(err, fmt.Errorf("end the first process of a user namespace: %w", killErr))
		}
		err = errors.Join(err, reap(child.Pid))
	}()
	return f(fmt.Sprintf("/proc/%d/ns", child.Pid))
}

// reap waits until the child is gone. It is traced, so stops are reported too.
func reap(pid int) error {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if errors.Is(err, syscall.ECHILD) || err == nil && (status.Exited() || status.Signaled()) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for the first process of a user namespace: %w", err)
		}
	}
}
