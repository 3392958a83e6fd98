package stats

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	rootCgroup = "/"
	// noLimit is above any limit that cgroup v1 shows when there is none.
	noLimit = 1 << 62
)

// memory is in bytes.
type memory struct {
	usage, workingSet, rss, cache uint64
	// limit is 0 without one.
	limit               uint64
	faults, majorFaults uint64
}

// throttling tells how a limit of processor time held a cgroup back; time in nanoseconds.
type throttling struct{ periods, throttled, nanos uint64 }

// cgroupReader reads the files of one cgroup file system.
type cgroupReader struct {
	mount string
	v2    bool
}

func newCgroupReader(mount string) *cgroupReader {
	_, err := os.Stat(filepath.Join(mount, "cgroup.controllers"))
	return &cgroupReader{mount: mount, v2: err == nil}
}

// path of a file; controller names the hierarchy on v1.
func (r *cgroupReader) path(controller, cgroup, file string) string {
	if r.v2 {
		return filepath.Join(r.mount, cgroup, file)
	}
	return filepath.Join(r.mount, controller, cgroup, file)
}

// cpu returns the processor time used so far, in nanoseconds.
func (r *cgroupReader) cpu(cgroup string) (uint64, error) {
	if !r.v2 {
		return readNumber(r.path("cpuacct", cgroup, "cpuacct.usage"))
	}
	values, err := readKeys(r.path("", cgroup, "cpu.stat"), "usage_usec")
	return values[0] * 1000, err
}

// throttling is zero where no limit is set.
func (r *cgroupReader) throttling(cgroup string) (throttling, error) {
	if r.v2 {
		v, err := readKeys(r.path("", cgroup, "cpu.stat"), "nr_periods", "nr_throttled", "throttled_usec")
		return throttling{v[0], v[1], v[2] * 1000}, err
	}
	v, err := readKeys(r.path("cpu", cgroup, "cpu.stat"), "nr_periods", "nr_throttled", "throttled_time")
	return throttling{v[0], v[1], v[2]}, err
}

// memory reads a cgroup's memory with all below it.
func (r *cgroupReader) memory(cgroup string) (memory, error) {
	usage, limit, keys := "memory.usage_in_bytes", "memory.limit_in_bytes",
		[]string{"total_rss", "total_cache", "total_inactive_file", "total_pgfault", "total_pgmajfault"}
	if r.v2 {
		usage, limit, keys = "memory.current", "memory.max", []string{"anon", "file", "inactive_file", "pgfault", "pgmajfault"}
	}
	var m memory
	var err error
	if m.usage, err = readNumber(r.path("memory", cgroup, usage)); err != nil {
		return memory{}, err
	}
	stat, err := readKeys(r.path("memory", cgroup, "memory.stat"), keys...)
	if err != nil {
		return memory{}, err
	}
	m.rss, m.cache, m.faults, m.majorFaults = stat[0], stat[1], stat[3], stat[4]
	m.workingSet = m.usage - min(stat[2], m.usage)
	if m.limit, err = readNumber(r.path("memory", cgroup, limit)); err != nil {
		return memory{}, err
	}
	if m.limit >= noLimit {
		m.limit = 0
	}
	return m, nil
}

// processes returns how many there are, threads included, as the kubelet counts.
func (r *cgroupReader) processes(cgroup string) (uint64, error) {
	return readNumber(r.path("pids", cgroup, "pids.current"))
}

// readNumber reads a file with one number; "max" is noLimit.
func readNumber(path string) (uint64, error) {
	var buffer [64]byte
	data, err := readSmall(path, buffer[:])
	if err != nil {
		return 0, err
	}
	data = bytes.TrimSpace(data)
	if string(data) == "max" {
		return noLimit, nil
	}
	n, err := strconv.ParseUint(string(data), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return n, nil
}

// readSmall reads what fits into buffer. Many files are read again and again: os.ReadFile
// would cost several allocations and twice the time for each.
func readSmall(path string, buffer []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buffer)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return buffer[:n], nil
}

// readKeys reads a file of lines "<key> <number>" and returns the numbers of keys in
// their order, 0 for those that are not there.
func readKeys(path string, keys ...string) ([]uint64, error) {
	values := make([]uint64, len(keys))
	data, err := os.ReadFile(path)
	if err != nil {
		return values, err
	}
	var errs []error
	for line := range bytes.Lines(data) {
		key, value, _ := bytes.Cut(line, []byte(" "))
		for i, wanted := range keys {
			if string(key) != wanted {
				continue
			}
			if values[i], err = strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				errs = append(errs, fmt.Errorf("reading %s of %s: %w", key, path, err))
			}
		}
	}
	return values, errors.Join(errs...)
}
