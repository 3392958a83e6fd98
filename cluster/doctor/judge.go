package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

var neededControllers = []string{"cpu", "memory", "pids"}

// Problem is one thing that is wrong, and what to do about it.
type Problem struct{ What, Fix string }

// Judge returns everything that keeps a cluster from running on such a machine.
func Judge(f Facts) []Problem {
	var problems []Problem
	if !f.Root {
		problems = append(problems, Problem{
			"not running as root: containers, network namespaces and iptables need it", "run it again with sudo",
		})
	}
	problems = append(problems, judgePrograms(f)...)
	return append(problems, judgeKernel(f)...)
}

func judgePrograms(f Facts) []Problem {
	var problems []Problem
	byPackage := map[string][]string{}
	for _, t := range f.MissingTools {
		byPackage[t.Package] = append(byPackage[t.Package], t.Program)
	}
	for _, pkg := range slices.Sorted(maps.Keys(byPackage)) {
		problems = append(problems, Problem{strings.Join(byPackage[pkg], ", ") + " not found in PATH", "apt-get install " + pkg})
	}
	for _, b := range f.MissingBuilt {
		problems = append(problems, Problem{b.Path + " is missing", "make " + b.Make})
	}
	return problems
}

func judgeKernel(f Facts) []Problem {
	var problems []Problem
	if !slices.Contains(f.Filesystems, "overlay") {
		problems = append(problems, Problem{"the kernel has no overlay file system, which container images need", "modprobe overlay"})
	}
	for _, kind := range slices.Sorted(maps.Keys(f.LinkErrors)) {
		if err := f.LinkErrors[kind]; err != nil {
			problems = append(problems, Problem{fmt.Sprintf("cannot make a %s interface in a new network namespace: %v", kind, err), "modprobe " + kind})
		}
	}
	if f.NATError != nil {
		problems = append(problems, Problem{
			fmt.Sprintf("iptables cannot use the nat table: %v", f.NATError),
			"modprobe nf_nat nft_compat, or choose the other backend: update-alternatives --config iptables",
		})
	}
	for _, c := range neededControllers {
		if slices.Contains(f.Controllers, c) {
			continue
		}
		fix := "mount -t cgroup -o " + c + " cgroup /sys/fs/cgroup/" + c
		if f.CgroupV2 {
			fix = "boot with cgroup_enable=" + c
		}
		problems = append(problems, Problem{"the cgroup controller " + c + " is not available, so limits of containers cannot be kept", fix})
	}
	return problems
}

// Render is the text for a person: all problems, then one command for all the
// missing packages.
func Render(problems []Problem) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This machine cannot run a cluster yet (%d to fix):\n", len(problems))
	var packages []string
	for _, p := range problems {
		fmt.Fprintf(&b, "  - %s\n      fix: %s\n", p.What, p.Fix)
		if pkg, ok := strings.CutPrefix(p.Fix, "apt-get install "); ok {
			packages = append(packages, pkg)
		}
	}
	if len(packages) > 1 {
		fmt.Fprintf(&b, "All packages at once: apt-get install %s\n", strings.Join(packages, " "))
	}
	return b.String()
}
