// Package process recognises and ends processes across restarts of whoever
// started them.
//
// A process is named by pid and start time together, so that a reused pid is
// never taken for it, and signalled through a pidfd, so that it cannot be
// swapped in between. Nothing is recorded on disk: a child carries a mark in its
// environment and leads a session of its own, and Find looks for both, so a
// parent killed right after the fork loses nobody.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	envOwner = "KEELSON_SUPERVISED_FOR"
	envName  = "KEELSON_COMPONENT"
)

// Identity names one process for as long as the machine runs.
type Identity struct {
	PID int `json:"pid"`
	// StartTime is in clock ticks after boot, as /proc/PID/stat gives it.
	StartTime uint64 `json:"startTime"`
}

// Found is a marked process.
type Found struct {
	Identity
	Name string
}

// Mark returns the environment that lets Find recognise a child later.
func Mark(owner, name string) []string {
	return []string{envOwner + "=" + owner, envName + "=" + name}
}

// Detached makes a child lead its own session, so that a terminal's signals do
// not reach it and Find can tell it from its own children.
func Detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// Of returns the identity of a running process. A zombie counts as gone
// (fs.ErrNotExist).
func Of(pid int) (Identity, error) {
	s, err := readStat(pid)
	if err != nil {
		return Identity{}, err
	}
	if s.zombie {
		return Identity{}, fmt.Errorf("process %d ended: %w", pid, fs.ErrNotExist)
	}
	return Identity{PID: pid, StartTime: s.startTime}, nil
}

// Parent returns the pid of a process' parent. A zombie counts as gone
// (fs.ErrNotExist).
func Parent(pid int) (int, error) {
	s, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	if s.zombie {
		return 0, fmt.Errorf("process %d ended: %w", pid, fs.ErrNotExist)
	}
	return s.parent, nil
}

// Alive says whether that very process still runs.
func (i Identity) Alive() bool {
	now, err := Of(i.PID)
	return err == nil && now == i
}

// Find returns the processes marked for owner that lead a session and run one of
// the given executables (base names). The environment of other programs is not
// looked at.
func Find(owner string, executables []string) ([]Found, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Found
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		f, ok, err := inspect(pid, owner, executables)
		if err != nil && !gone(err) {
			return nil, fmt.Errorf("look at process %d: %w", pid, err)
		}
		if ok {
			found = append(found, f)
		}
	}
	return found, nil
}

func inspect(pid int, owner string, executables []string) (Found, bool, error) {
	s, err := readStat(pid)
	if err != nil || s.zombie || s.session != pid {
		return Found{}, false, err
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return Found{}, false, err
	}
	// The link of a program that was rebuilt since says so in its name.
	name := filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	if !slices.Contains(executables, name) {
		return Found{}, false, nil
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return Found{}, false, err
	}
	if lookup(env, envOwner) != owner {
		return Found{}, false, nil
	}
	return Found{Identity{pid, s.startTime}, lookup(env, envName)}, true, nil
}

func lookup(environ []byte, key string) string {
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(entry, []byte(key+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// End asks the process to end, and kills it when grace has passed. It returns
// once the process has ended, and no error if it had ended before.
func End(ctx context.Context, i Identity, grace time.Duration) error {
	fd, err := unix.PidfdOpen(i.PID, 0)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", i.PID, err)
	}
	defer unix.Close(fd)
	// From here on the pid cannot be reused under us; is it still the same one?
	if !i.Alive() {
		return nil
	}
	for _, step := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, grace}, {unix.SIGKILL, 10 * time.Second}} {
		if err := unix.PidfdSendSignal(fd, step.signal, nil, 0); err != nil && !gone(err) {
			return fmt.Errorf("send signal %v to process %d: %w", step.signal, i.PID, err)
		}
		ended, err := waitEnd(ctx, fd, step.wait)
		if err != nil {
			return fmt.Errorf("wait for process %d to end: %w", i.PID, err)
		}
		if ended {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end, even when killed", i.PID)
}

// waitEnd polls in short slices so that it notices the end of ctx.
func waitEnd(ctx context.Context, fd int, atMost time.Duration) (bool, error) {
	const slice = 100 * time.Millisecond
	for deadline := time.Now().Add(atMost); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(slice, max(0, time.Until(deadline))).Milliseconds()))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return false, err
		case n > 0:
			return true, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		case !time.Now().Before(deadline):
			return false, nil
		}
	}
}

type stat struct {
	zombie    bool
	parent    int
	session   int
	startTime uint64
}

// readStat reads /proc/PID/stat; see proc_pid_stat(5).
func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(data))
}

func parseStat(line string) (stat, error) {
	// The second field is the name in parentheses and may hold any character.
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("no process name in %q", line)
	}
	const state, parent, session, startTime = 0, 1, 3, 19 // fields 3, 4, 6 and 22
	fields := strings.Fields(line[end+1:])
	if len(fields) <= startTime {
		return stat{}, fmt.Errorf("%d fields after the name in %q", len(fields), line)
	}
	ppid, err := strconv.Atoi(fields[parent])
	if err != nil {
		return stat{}, fmt.Errorf("parent in %q: %w", line, err)
	}
	sid, err := strconv.Atoi(fields[session])
	if err != nil {
		return stat{}, fmt.Errorf("session id in %q: %w", line, err)
	}
	start, err := strconv.ParseUint(fields[startTime], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("start time in %q: %w", line, err)
	}
	return stat{zombie: fields[state] == "Z" || fields[state] == "X", parent: ppid, session: sid, startTime: start}, nil
}

// gone tells errors of a process that ended while we looked. A kernel thread has
// no executable and answers ENOENT as well.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
