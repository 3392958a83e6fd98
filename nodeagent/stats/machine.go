package stats

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// readMachineMemory reads the memory of the whole machine.
func readMachineMemory(procMount string) (memory, error) {
	path := filepath.Join(procMount, "meminfo")
	data, err := os.ReadFile(path)
	if err != nil {
		return memory{}, err
	}
	kib := map[string]uint64{}
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		if n, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
			kib[strings.TrimSuffix(fields[0], ":")] = n
		}
	}
	total, free := kib["MemTotal"]<<10, kib["MemFree"]<<10
	if total == 0 || free > total {
		return memory{}, fmt.Errorf("%s makes no sense: MemTotal %d, MemFree %d bytes", path, total, free)
	}
	m := memory{usage: total - free, rss: kib["AnonPages"] << 10, cache: kib["Cached"] << 10, limit: total}
	m.workingSet = m.usage - min(m.usage, kib["Inactive(file)"]<<10)
	return m, nil
}

// readInterfaces reads the counters of the interfaces that process pid sees, except the
// loopback. "self" is this one.
func readInterfaces(procMount, pid string) ([]statsv1alpha1.InterfaceStats, error) {
	path := filepath.Join(procMount, pid, "net", "dev")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseInterfaces(string(data), path)
}

func parseInterfaces(text, path string) ([]statsv1alpha1.InterfaceStats, error) {
	const rxBytes, rxErrors, txBytes, txErrors, columns = 0, 2, 8, 10, 16
	var out []statsv1alpha1.InterfaceStats
	var errs []error
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(fields) < columns || name == "lo" {
			continue
		}
		number := func(column int) *uint64 {
			n, err := strconv.ParseUint(fields[column], 10, 64)
			if err != nil {
				errs = append(errs, fmt.Errorf("reading %s of %s: %w", name, path, err))
			}
			return &n
		}
		out = append(out, statsv1alpha1.InterfaceStats{Name: name,
			RxBytes: number(rxBytes), RxErrors: number(rxErrors), TxBytes: number(txBytes), TxErrors: number(txErrors)})
	}
	return out, errors.Join(errs...)
}

// fileSystem is in bytes and inodes.
type fileSystem struct{ capacity, available, used, inodes, inodesFree uint64 }

func readFileSystem(dir string) (fileSystem, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fileSystem{}, fmt.Errorf("reading the file system of %s: %w", dir, err)
	}
	block := uint64(s.Frsize)
	return fileSystem{
		capacity: s.Blocks * block, available: s.Bavail * block, used: (s.Blocks - s.Bfree) * block,
		inodes: s.Files, inodesFree: s.Ffree,
	}, nil
}
