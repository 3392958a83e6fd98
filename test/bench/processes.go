package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is what one process has used.
type process struct {
	program string
	// cpu are seconds of processor time, those of ended children that it has waited
	// for included: a shim's runc, an agent's iptables.
	cpu      float64
	rss, pss uint64 // bytes; PSS divides shared pages among those that share them
}

// Usage is what the processes of one program cost.
type Usage struct {
	Program string `json:"program"`
	// Count, RSS and PSS are those at the end of the time.
	Count int    `json:"count"`
	RSS   uint64 `json:"rssBytes"`
	PSS   uint64 `json:"pssBytes"`
	// CPU are the seconds of processor time used within the time.
	CPU float64 `json:"cpuSeconds"`
	// Workload says that these run in containers: the same on any cluster.
	Workload bool `json:"workload,omitempty"`
}

// workloadPrograms run inside Pods of the benchmark.
var workloadPrograms = []string{"testserver"}

// ticksPerSecond is USER_HZ, in which the kernel's /proc counts: 100 on every
// architecture that Go runs on.
const ticksPerSecond = 100

// takeProcesses looks at every process of this machine but this one and the first,
// which only reaps.
func takeProcesses() (map[int]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		if pid == 1 || pid == os.Getpid() {
			continue
		}
		p, ok, err := readProcess(dir)
		if err != nil {
			return nil, err
		}
		if ok {
			all[pid] = p
		}
	}
	return all, nil
}

// readProcess reads one folder of /proc; ok is false for what has no program and what
// ended meanwhile.
func readProcess(dir string) (p process, ok bool, err error) {
	texts := map[string][]byte{}
	for _, file := range []string{"cmdline", "stat", "smaps_rollup"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return process{}, false, nil
		}
		if err != nil {
			return process{}, false, err
		}
		texts[file] = text
	}
	argv0, _, _ := bytes.Cut(texts["cmdline"], []byte{0})
	if len(argv0) == 0 {
		return process{}, false, nil
	}
	p.program = filepath.Base(string(argv0))
	if p.cpu, err = parseCPU(string(texts["stat"])); err != nil {
		return process{}, false, fmt.Errorf("%s/stat: %w", dir, err)
	}
	if p.rss, err = parseMemory(string(texts["smaps_rollup"]), "Rss:"); err != nil {
		return process{}, false, fmt.Errorf("%s/smaps_rollup: %w", dir, err)
	}
	if p.pss, err = parseMemory(string(texts["smaps_rollup"]), "Pss:"); err != nil {
		return process{}, false, fmt.Errorf("%s/smaps_rollup: %w", dir, err)
	}
	return p, true, nil
}

// parseCPU sums utime, stime, cutime and cstime of proc_pid_stat(5).
func parseCPU(stat string) (seconds float64, err error) {
	end := strings.LastIndexByte(stat, ')') // a program's name may hold anything
	if end < 0 {
		return 0, fmt.Errorf("no program in %q", stat)
	}
	fields := strings.Fields(stat[end+1:]) // begins with field 3
	if len(fields) < 15 {
		return 0, fmt.Errorf("too short: %q", stat)
	}
	for _, field := range fields[11:15] { // fields 14 to 17
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		seconds += float64(ticks) / ticksPerSecond
	}
	return seconds, nil
}

// parseMemory finds a line such as "Pss:   123 kB".
func parseMemory(rollup, name string) (bytes uint64, err error) {
	for line := range strings.Lines(rollup) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("no line %s", name)
}

// sumUsage sums by program what processes have used between two looks, largest
// memory first.
func sumUsage(before, after map[int]process) []Usage {
	sums := map[string]*Usage{}
	for pid, p := range after {
		sum := sums[p.program]
		if sum == nil {
			sum = &Usage{Program: p.program, Workload: slices.Contains(workloadPrograms, p.program)}
			sums[p.program] = sum
		}
		sum.Count++
		sum.RSS += p.rss
		sum.PSS += p.pss
		sum.CPU += p.cpu - before[pid].cpu
	}
	var list []Usage
	for _, program := range slices.Sorted(maps.Keys(sums)) {
		list = append(list, *sums[program])
	}
	slices.SortStableFunc(list, func(a, b Usage) int { return int(b.PSS>>10) - int(a.PSS>>10) })
	return list
}
