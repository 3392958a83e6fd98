package containerd

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	linuxcap "github.com/containerd/containerd/v2/pkg/cap"
	"golang.org/x/sys/unix"
)

// machine is what this package must know about the machine it runs on.
type machine struct {
	// unified: cgroup v2 is the only hierarchy.
	unified bool
	// swapLimit: the memory controller accounts swap, so it can be forbidden.
	swapLimit bool
	// minOOMScoreAdj is the lowest value this process may give to others.
	minOOMScoreAdj int
	// capabilities are this process's: no container can have more.
	capabilities []string
}

const cgroupRoot = "/sys/fs/cgroup"

func readMachine() machine {
	m := machine{unified: exists(cgroupRoot + "/cgroup.controllers")}
	if m.unified {
		found, _ := filepath.Glob(cgroupRoot + "/*/memory.swap.max") // only a bad pattern fails
		m.swapLimit = len(found) > 0
	} else {
		m.swapLimit = exists(cgroupRoot + "/memory/memory.memsw.limit_in_bytes")
	}
	m.minOOMScoreAdj = -1000
	if !mayLowerOOMScore() {
		m.minOOMScoreAdj = ownOOMScoreAdj()
	}
	var err error
	if m.capabilities, err = linuxcap.Current(); err != nil {
		m.capabilities = capabilities // it can only be /proc that is missing
	}
	return m
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func mayLowerOOMScore() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[unix.CAP_SYS_RESOURCE/32].Effective&(1<<(unix.CAP_SYS_RESOURCE%32)) != 0
}

func ownOOMScoreAdj() int {
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0
	}
	value, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return value
}

// oomKills reads how many processes the kernel killed in a cgroup for lack of memory.
func (m machine) oomKills(cgroup string) (int, error) {
	path := filepath.Join(cgroupRoot, "memory", cgroup, "memory.oom_control")
	if m.unified {
		path = filepath.Join(cgroupRoot, cgroup, "memory.events")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read OOM kills: %w", err)
	}
	return parseOOMKills(data)
}

func parseOOMKills(data []byte) (int, error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if count, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			return strconv.Atoi(count)
		}
	}
	return 0, fmt.Errorf("no line oom_kill in %q", data)
}
