package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc; the kernel's USER_HZ, 100 on every
// architecture that we build for.
const ticksPerSecond = 100

// cpuTimes are how long each program that we started has computed so far, by its name.
// On a busy computer they say more than the time that has gone by.
type cpuTimes map[string]time.Duration

// readCPU sums the CPU times of this process's children by program.
func readCPU() (cpuTimes, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	times := cpuTimes{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended since
		}
		if err != nil {
			return nil, err
		}
		name, parent, used, err := parseStat(text)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if parent == os.Getpid() {
			times[name] += used
		}
	}
	return times, nil
}

// parseStat reads a program's name, its parent and its CPU time, see proc_pid_stat(5).
func parseStat(text []byte) (name string, parent int, used time.Duration, err error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return "", 0, 0, fmt.Errorf("no name in %q", text)
	}
	// Behind the name: state, parent, … and as the 12th and 13th user and system time.
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 13 {
		return "", 0, 0, fmt.Errorf("%d fields in %q", len(fields), text)
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return "", 0, 0, err
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return "", 0, 0, err
		}
		ticks += n
	}
	return string(text[open+1 : end]), parent, time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// perPod says what each program computed since before, in milliseconds for one Pod.
func (now cpuTimes) perPod(before cpuTimes, pods int) map[string]float64 {
	each := map[string]float64{}
	for name, used := range now {
		each[name] = (used - before[name]).Seconds() * 1000 / float64(pods)
	}
	return each
}
