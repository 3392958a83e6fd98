package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killIn kills the processes of the cgroup in dir. It is for a Pod of which nothing may
// run any more: an agent that was killed while a container was made may have left a
// process that the runtime does not know of.
func killIn(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the processes of the cgroup %s: %w", dir, err)
	}
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil || pid <= 0 {
			continue // in another PID namespace: not ours to see
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("killing process %d, left in the cgroup %s: %w", pid, dir, err)
		}
	}
	return nil
}
