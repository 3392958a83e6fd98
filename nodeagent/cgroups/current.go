package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// noLimitV1 is above any limit of memory that cgroup v1 shows where there is none.
const noLimitV1 = 1 << 62

// Current reads the limits that the cgroup at path has; weights are not among them. What
// the machine does not count is nil.
func (m *Manager) Current(path string) (Settings, error) {
	var s Settings
	var errs []error
	read := func(controller, v1, v2 string) *int64 {
		limit, err := m.readLimit(controller, path, v1, v2)
		errs = append(errs, err)
		return limit
	}
	s.CPUQuota, s.CPUPeriod = read("cpu", "cpu.cfs_quota_us", "cpu.max"), quotaPeriod
	s.Memory = read("memory", "memory.limit_in_bytes", "memory.max")
	s.PIDs = read("pids", "pids.max", "pids.max")
	return s, errors.Join(errs...)
}

// quotaPeriod is the one that quotas are set with, in microseconds.
const quotaPeriod = 100_000

func (m *Manager) readLimit(controller, path, v1, v2 string) (*int64, error) {
	file := filepath.Join(m.mount, controller, path, v1)
	if m.v2 {
		file = filepath.Join(m.mount, path, v2)
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no such controller, or no such cgroup
	}
	if err != nil {
		return nil, fmt.Errorf("reading a limit of the cgroup %s: %w", path, err)
	}
	word, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if word == unlimitedV2 {
		return new(int64(Unlimited)), nil
	}
	limit, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading a limit of the cgroup %s: %s: %w", path, file, err)
	}
	if limit < 0 || limit >= noLimitV1 {
		limit = Unlimited
	}
	return &limit, nil
}
