package stats

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Amount is how much there is of something, in bytes or pieces.
type Amount struct{ Available, Capacity int64 }

// Memory is what the machine has left: as upstream all but the working set.
func (s *Sampler) Memory() (Amount, error) {
	m, err := readMachineMemory(s.ProcMount)
	if err != nil {
		return Amount{}, err
	}
	return Amount{Available: int64(m.limit - min(m.workingSet, m.limit)), Capacity: int64(m.limit)}, nil
}

// PodsMemory is what is left of what all Pods may have together; false when they may
// have everything.
func (s *Sampler) PodsMemory() (Amount, bool, error) {
	m, err := s.cgroups.memory(s.PodsCgroup)
	if gone(err) || err == nil && m.limit == 0 {
		return Amount{}, false, nil
	}
	return Amount{Available: int64(m.limit - min(m.workingSet, m.limit)), Capacity: int64(m.limit)}, err == nil, err
}

// Processes is how many more there can be on this machine, threads included.
func (s *Sampler) Processes() (Amount, error) {
	running, most, err := readProcesses(s.ProcMount)
	return Amount{Available: most - running, Capacity: most}, err
}

// readProcesses reads how many processes and threads there are, and can be.
func readProcesses(proc string) (running, most int64, err error) {
	for _, limit := range []string{"sys/kernel/pid_max", "sys/kernel/threads-max"} {
		n, err := readNumber(filepath.Join(proc, limit))
		if err != nil {
			return 0, 0, err
		}
		if most == 0 || int64(n) < most {
			most = int64(n)
		}
	}
	path := filepath.Join(proc, "loadavg")
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	// "0.20 0.18 0.12 1/80 11206": of 80 processes and threads one runs now.
	if fields := strings.Fields(string(data)); len(fields) > 3 {
		_, count, _ := strings.Cut(fields[3], "/")
		if running, err = strconv.ParseInt(count, 10, 64); err == nil {
			return running, most, nil
		}
	}
	return 0, 0, fmt.Errorf("%s makes no sense: %q", path, data)
}

// Disk is a file system.
type Disk struct {
	Bytes, Inodes Amount
	// Device tells file systems apart.
	Device uint64
}

// ReadDisk asks the file system that dir is on; nothing is walked through.
func ReadDisk(dir string) (Disk, error) {
	fs, err := readFileSystem(dir)
	if err != nil {
		return Disk{}, err
	}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return Disk{}, fmt.Errorf("reading the file system of %s: %w", dir, err)
	}
	return Disk{
		Bytes:  Amount{Available: int64(fs.available), Capacity: int64(fs.capacity)},
		Inodes: Amount{Available: int64(fs.inodesFree), Capacity: int64(fs.inodes)}, Device: stat.Dev,
	}, nil
}

// PodMemory is the working set of a Pod and of each container that runs, by name.
func (s *Sampler) PodMemory(pod runtime.PodState) (total int64, containers map[string]int64, err error) {
	box := sandbox(pod)
	if box == nil {
		return 0, map[string]int64{}, nil
	}
	m, err := s.cgroups.memory(box.CgroupParent)
	if err != nil {
		return 0, nil, err
	}
	containers = map[string]int64{}
	for _, c := range pod.Containers {
		if c.State != runtime.Running {
			continue
		}
		if used, err := s.cgroups.memory(c.CgroupPath); err == nil { // else it has just gone
			containers[c.Name] = int64(used.workingSet)
		}
	}
	return int64(m.workingSet), containers, nil
}

// PodProcesses is how many processes and threads a Pod has.
func (s *Sampler) PodProcesses(pod runtime.PodState) (int64, error) {
	box := sandbox(pod)
	if box == nil {
		return 0, nil
	}
	n, err := s.cgroups.processes(box.CgroupParent)
	return int64(n), err
}
