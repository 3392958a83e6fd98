// Package leaks compares what a machine holds before and after: processes, mounts,
// interfaces, routes, iptables chains and rules, cgroups, and files in Keelson's
// folders. A test that ends with an empty difference has left nothing behind.
package leaks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Snapshot is what a machine holds: sorted lines by kind of thing.
type Snapshot map[string][]string

// folders that are empty, or absent, on a machine without Keelson.
var folders = []string{"/run/keelson", "/run/netns", "/var/lib/keelson", "/var/log/pods", "/var/log/containers"}

// Take looks at this process's machine: its network, mount and process namespaces.
func Take() (Snapshot, error) {
	s := Snapshot{}
	for kind, list := range map[string]func() ([]string, error){
		"process":   processes,
		"mount":     mounts,
		"interface": interfaces,
		"route":     routes,
		"iptables":  iptablesRules,
		"cgroup":    cgroups,
		"file":      files,
	} {
		lines, err := list()
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
		slices.Sort(lines)
		s[kind] = lines
	}
	return s, nil
}

// Compare returns an error with everything that after holds and s does not.
func (s Snapshot) Compare(after Snapshot) error {
	var faults []error
	for kind, lines := range after {
		for _, line := range surplus(s[kind], lines) {
			faults = append(faults, fmt.Errorf("left behind: %s %s", kind, line))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// surplus are the lines of after beyond those of before, repeated ones counted.
func surplus(before, after []string) []string {
	count := map[string]int{}
	for _, line := range before {
		count[line]++
	}
	var extra []string
	for _, line := range after {
		if count[line]--; count[line] < 0 {
			extra = append(extra, line)
		}
	}
	return extra
}

// processes are command lines without PIDs; kernel threads and zombies have none.
func processes() ([]string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, path := range dirs {
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			continue // ended meanwhile, or a kernel thread
		}
		lines = append(lines, strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " ")))
	}
	return lines, nil
}

// mounts are mount points with their type and root.
func mounts() ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		_, after, ok := strings.Cut(line, " - ")
		if len(fields) < 5 || !ok {
			return nil, fmt.Errorf("cannot read %q", line)
		}
		lines = append(lines, fields[4]+" "+strings.Fields(after)[0]+" "+fields[3])
	}
	return lines, nil
}

func interfaces() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, link := range links {
		lines = append(lines, link.Attrs().Name+" "+link.Type())
	}
	return lines, nil
}

func routes() ([]string, error) {
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, route := range list {
		lines = append(lines, fmt.Sprintf("%v via %v type %d protocol %d", route.Dst, route.Gw, route.Type, route.Protocol))
	}
	return lines, nil
}

// counters are packet and byte counts, which differ without any leak.
var counters = regexp.MustCompile(`\[\d+:\d+\]`)

// iptablesRules are chains and rules that are Keelson's, or in chains of the kernel.
func iptablesRules() ([]string, error) {
	out, err := exec.Command("iptables-save").Output()
	if err != nil {
		return nil, err
	}
	var lines []string
	table := ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, "-A"), strings.HasPrefix(line, ":KLS"), strings.HasPrefix(line, ":KEELSON"):
			lines = append(lines, table+": "+counters.ReplaceAllString(line, ""))
		}
	}
	return lines, nil
}

// cgroups are the folders below a cgroup named keelson, in every hierarchy.
func cgroups() ([]string, error) {
	var lines []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case entry.IsDir() && strings.Contains(path, "keelson"):
			lines = append(lines, path)
		}
		return nil
	})
	return lines, err
}

func files() ([]string, error) {
	var lines []string
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && path != folder {
				lines = append(lines, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}
