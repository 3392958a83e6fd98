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
)

const procMount = "/proc"

// ReopenLog implements runtime.Storage. This process writes the log of an interactive
// container itself; a logger program of any other one is told by SIGHUP.
func (r *Runtime) ReopenLog(ctx context.Context, containerID string) error {
	if err := r.ensureSynced(ctx); err != nil {
		return err
	}
	o := r.objects.get(containerID)
	if o == nil || o.record.LogPath == "" {
		return nil
	}
	if o.record.interactive() {
		o.busy.Lock()
		y := o.relay
		o.busy.Unlock()
		if y == nil {
			return nil // it does not run: there is nothing to write
		}
		return y.log.reopen()
	}
	f := r.objects.facts(o)
	if !f.running {
		return nil
	}
	err := hangUpLogger(procMount, int(f.pid), r.options.LoggerBinary, o.record.LogPath)
	if errors.Is(err, errNoLogger) && !r.objects.facts(o).running {
		return nil
	}
	return err
}

var errNoLogger = errors.New("the logger of the container does not run")

// hangUpLogger tells the logger that writes the log at path to open it again. pid is the
// container's first process: its parent, the shim, is the logger's, too, unless it died.
func hangUpLogger(proc string, pid int, program, path string) error {
	wanted := strings.Join([]string{program, "log", path}, "\x00") + "\x00"
	candidates := siblings(proc, pid)
	if told, err := hangUp(proc, candidates, wanted); told || err != nil {
		return err
	}
	everybody, err := numericEntries(proc)
	if err != nil {
		return fmt.Errorf("looking for the logger of %s: %w", path, err)
	}
	told, err := hangUp(proc, everybody, wanted)
	if err == nil && !told {
		err = fmt.Errorf("reopening %s: %w", path, errNoLogger)
	}
	return err
}

// hangUp signals the first process with the wanted command line.
func hangUp(proc string, pids []int, wanted string) (told bool, err error) {
	for _, pid := range pids {
		if !isCommand(proc, pid, wanted) {
			continue
		}
		process, err := os.FindProcess(pid) // holds on to this process, should the number be used again
		if err != nil {
			continue
		}
		if !isCommand(proc, pid, wanted) {
			_ = process.Release()
			continue
		}
		err = process.Signal(syscall.SIGHUP)
		_ = process.Release()
		if errors.Is(err, os.ErrProcessDone) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("telling the logger, process %d: %w", pid, err)
		}
		return true, nil
	}
	return false, nil
}

func isCommand(proc string, pid int, wanted string) bool {
	data, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cmdline"))
	return err == nil && string(data) == wanted
}

// siblings are the processes with the same parent, none when that cannot be told.
func siblings(proc string, pid int) []int {
	stat, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	// The name, in parentheses, may hold anything; state and parent follow it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return nil
	}
	lists, err := filepath.Glob(filepath.Join(proc, fields[1], "task", "*", "children"))
	if err != nil {
		return nil
	}
	var found []int
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that ended
		}
		for word := range strings.FieldsSeq(string(data)) {
			if child, err := strconv.Atoi(word); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

func numericEntries(proc string) ([]int, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	var found []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			found = append(found, pid)
		}
	}
	return found, err
}
