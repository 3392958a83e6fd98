// Package doctor tells, before anything is started, what a machine lacks to run a
// cluster and how to get it: every problem at once, each with its fix.
//
// It changes nothing on the machine: kernel features are tried in network
// namespaces that end with the command that tried them. It keeps no state.
package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Tool is a program of the distribution that Keelson calls.
type Tool struct {
	Program string
	// Package is the Debian package that brings it.
	Package string
}

// tools are the programs that a machine needs.
var tools = []Tool{
	{"containerd", "containerd"},
	{"containerd-shim-runc-v2", "containerd"},
	{"runc", "runc"},
	{"iptables", "iptables"},
	{"iptables-save", "iptables"},
	{"iptables-restore", "iptables"},
	{"ip", "iproute2"},
}

// Built is a program that is built from this repository.
type Built struct {
	Path string
	// Make is the target that builds it.
	Make string
}

// Facts are what the machine has; Judge decides whether that is enough.
type Facts struct {
	Root bool
	// MissingTools and MissingBuilt are the programs that were not found.
	MissingTools []Tool
	MissingBuilt []Built
	Filesystems  []string
	// CgroupV2 is true on the unified hierarchy alone; Controllers are the
	// usable ones of whichever hierarchy there is.
	CgroupV2    bool
	Controllers []string
	// LinkErrors is what making a kind of interface in a new network namespace
	// answered, by kind; NATError is the same for reading iptables' nat table.
	LinkErrors map[string]error
	NATError   error
}

// Gather looks at this machine.
func Gather(ctx context.Context, built []Built) (Facts, error) {
	f := Facts{Root: os.Geteuid() == 0, LinkErrors: map[string]error{}}
	for _, t := range tools {
		if _, err := exec.LookPath(t.Program); err != nil {
			f.MissingTools = append(f.MissingTools, t)
		}
	}
	for _, b := range built {
		if info, err := os.Stat(b.Path); err != nil || info.Mode()&0o111 == 0 {
			f.MissingBuilt = append(f.MissingBuilt, b)
		}
	}
	var err error
	if f.Filesystems, err = filesystems(); err != nil {
		return f, err
	}
	if f.CgroupV2, f.Controllers, err = cgroups("/sys/fs/cgroup"); err != nil {
		return f, err
	}
	if f.Root {
		f.tryNetwork(ctx)
	}
	return f, nil
}

// tryNetwork makes one interface of each kind and reads the nat table, each in a
// namespace of its own that ends with the command.
func (f *Facts) tryNetwork(ctx context.Context) {
	missing := func(program string) bool {
		return slices.ContainsFunc(f.MissingTools, func(t Tool) bool { return t.Program == program })
	}
	if !missing("ip") {
		f.LinkErrors["bridge"] = inNewNetwork(ctx, "ip", "link", "add", "kls-try0", "type", "bridge")
		f.LinkErrors["veth"] = inNewNetwork(ctx, "ip", "link", "add", "kls-try0", "type", "veth", "peer", "name", "kls-try1")
	}
	if !missing("iptables") {
		f.NATError = inNewNetwork(ctx, "iptables", "-w", "-t", "nat", "-S")
	}
}

func inNewNetwork(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		return errors.New(text)
	}
	return err
}

func filesystems() ([]string, error) {
	f, err := os.Open("/proc/filesystems")
	if err != nil {
		return nil, fmt.Errorf("list file systems: %w", err)
	}
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 {
			names = append(names, fields[len(fields)-1])
		}
	}
	return names, nil
}

// cgroups lists the controllers: in version 1 each is a folder that is mounted.
func cgroups(root string) (v2 bool, controllers []string, err error) {
	data, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err == nil {
		return true, strings.Fields(string(data)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, nil, fmt.Errorf("list cgroup controllers: %w", err)
	}
	for _, name := range neededControllers {
		// The root group of a mounted hierarchy holds this file.
		if _, err := os.Stat(filepath.Join(root, name, "cgroup.procs")); err == nil {
			controllers = append(controllers, name)
		}
	}
	return false, controllers, nil
}
