package containerd

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// groupAnnotation makes the runc shims of containerd 1.6 to 2.x serve all containers
// with the same value from one process.
const groupAnnotation = "io.containerd.runc.v2.group"

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maskedPaths and readonlyPaths hide what of the kernel is not namespaced.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
		"/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func cgroupPath(parent, id string) string { return path.Join("/", parent, id) }

// pauseFiles are the root folder of pause containers and the program.
type pauseFiles struct{ root, program string }

// sandboxSpec renders the pause container: nothing but the pause program, no
// capabilities, and the namespaces that the Pod's containers join.
func sandboxSpec(config runtime.SandboxConfig, id string, pause pauseFiles, m machine) *specs.Spec {
	namespaces := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if !config.HostPID {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if !config.HostIPC {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	if config.Hostname != "" {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if config.NetNSPath != "" {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: config.NetNSPath})
	}
	shares := uint64(2)
	return &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: pause.root, Readonly: true},
		Hostname: config.Hostname,
		Process: &specs.Process{
			Args: []string{"/pause"}, Cwd: "/", Env: []string{defaultPath}, NoNewPrivileges: true,
			User: specs.User{UID: 65535, GID: 65535}, Capabilities: &specs.LinuxCapabilities{},
			OOMScoreAdj: new(max(-998, m.minOOMScoreAdj)),
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/pause", Type: "bind", Source: pause.program, Options: []string{"bind", "ro", "nosuid", "nodev"}},
		},
		Annotations: map[string]string{groupAnnotation: id},
		Linux: &specs.Linux{
			CgroupsPath: cgroupPath(config.CgroupParent, id), Namespaces: namespaces, Sysctl: sandboxSysctls(config),
			MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths,
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
				CPU:     &specs.LinuxCPU{Shares: &shares},
			},
		},
	}
}

type specInput struct {
	config     runtime.ContainerConfig
	image      runtime.Image
	user       specs.User
	cgroupPath string
	// held are the namespaces of a sandbox without a process, else sandboxPID is it.
	held       *held
	sandboxPID uint32
	// targetPID is a process whose PID namespace the container joins, 0 for its own.
	targetPID uint32
	shm       string
	machine   machine
	// devices are those of the machine, for a privileged container; seccomp is the
	// profile on this machine, for one that names it.
	devices []specs.LinuxDevice
	seccomp *specs.LinuxSeccomp
	// appArmor is the name of a profile that is loaded, empty for none.
	appArmor string
	labels   labels
}

// containerSpec renders the OCI spec of a container.
func containerSpec(in specInput) (*specs.Spec, error) {
	args := processArgs(in.image, in.config.Command, in.config.Args)
	if len(args) == 0 {
		return nil, fmt.Errorf("container %s has no command: neither its image %s nor its spec names one", in.config.Name, in.config.Image)
	}
	cwd := in.config.WorkingDir
	if cwd == "" {
		cwd = in.image.WorkingDir
	}
	if cwd == "" {
		cwd = "/"
	}
	var base []string // what image and Pod may override
	if in.config.TTY {
		base = append(base, terminalEnv)
	}
	if in.config.Hostname != "" {
		base = append(base, "HOSTNAME="+in.config.Hostname)
	}
	spec := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: in.config.Security.ReadOnlyRootFilesystem},
		Process: &specs.Process{
			Args: args, Cwd: cwd, Env: mergeEnv(base, in.image.Env, in.config.Env), User: in.user, Terminal: in.config.TTY,
			Capabilities: processCapabilities(in),
			OOMScoreAdj:  new(max(in.config.Resources.OOMScoreAdj, in.machine.minOOMScoreAdj)),
		},
		Mounts:      containerMounts(in.shm, in.config.Mounts),
		Annotations: containerAnnotations(in),
		Linux: &specs.Linux{
			CgroupsPath: in.cgroupPath, Namespaces: containerNamespaces(in),
			MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths,
			RootfsPropagation: rootPropagation(in.config.Mounts),
			Resources:         linuxResources(in.config.Resources, in.machine),
		},
	}
	return spec, applySecurity(spec, in)
}

// containerAnnotations let the shim of the sandbox's process serve the container too. Without
// that process the shim is the container's own: one that is shared ends with the last of its
// containers, and the next one could find it ending.
func containerAnnotations(in specInput) map[string]string {
	if in.held != nil {
		return nil
	}
	return map[string]string{groupAnnotation: in.config.SandboxID}
}

// sandboxNamespaces are those that all containers of the Pod join.
func sandboxNamespaces(in specInput) []specs.LinuxNamespace {
	if in.held == nil {
		of := func(name string) string { return fmt.Sprintf("/proc/%d/ns/%s", in.sandboxPID, name) }
		return []specs.LinuxNamespace{
			{Type: specs.IPCNamespace, Path: of("ipc")},
			{Type: specs.UTSNamespace, Path: of("uts")},
			{Type: specs.NetworkNamespace, Path: of("net")},
		}
	}
	var joined []specs.LinuxNamespace
	for _, namespace := range []specs.LinuxNamespace{
		{Type: specs.IPCNamespace, Path: in.held.IPC},
		{Type: specs.UTSNamespace, Path: in.held.UTS},
		{Type: specs.NetworkNamespace, Path: in.held.Net},
	} {
		if namespace.Path != "" { // else the machine's, which the container is started in
			joined = append(joined, namespace)
		}
	}
	return joined
}

func containerNamespaces(in specInput) []specs.LinuxNamespace {
	namespaces := append([]specs.LinuxNamespace{{Type: specs.MountNamespace}}, sandboxNamespaces(in)...)
	switch {
	case in.targetPID != 0:
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: fmt.Sprintf("/proc/%d/ns/pid", in.targetPID)})
	case !in.config.HostPID:
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if in.machine.unified && !in.config.Security.Privileged {
		namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return namespaces
}

// processArgs applies the Pod's rules: command replaces ENTRYPOINT and drops CMD, args
// replace CMD.
func processArgs(image runtime.Image, command, args []string) []string {
	switch {
	case len(command) > 0:
		return slices.Concat(command, args)
	case len(args) > 0:
		return slices.Concat(image.Entrypoint, args)
	default:
		return slices.Concat(image.Entrypoint, image.Cmd)
	}
}

// mergeEnv keeps the order of first appearance; the later value of a name wins.
func mergeEnv(lists ...[]string) []string {
	merged := []string{}
	position := map[string]int{}
	for _, entry := range slices.Concat(append([][]string{{defaultPath}}, lists...)...) {
		name, _, _ := strings.Cut(entry, "=")
		if at, ok := position[name]; ok {
			merged[at] = entry
			continue
		}
		position[name] = len(merged)
		merged = append(merged, entry)
	}
	return merged
}

func containerMounts(shm string, mounts []runtime.Mount) []specs.Mount {
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		{Destination: "/dev/shm", Type: "bind", Source: shm, Options: []string{"rbind", "rw"}},
	}
	for _, m := range mounts {
		destination := path.Clean(m.ContainerPath)
		all = slices.DeleteFunc(all, func(other specs.Mount) bool { return other.Destination == destination })
		all = append(all, bindMount(m))
	}
	// A mount hides what lies below, so parents come first.
	slices.SortStableFunc(all, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return all
}

func linuxResources(r runtime.Resources, m machine) *specs.LinuxResources {
	resources := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	if r.CPUShares != 0 || r.CPUQuota != 0 {
		resources.CPU = &specs.LinuxCPU{}
	}
	if r.CPUShares != 0 {
		resources.CPU.Shares = new(r.CPUShares)
	}
	if r.CPUQuota != 0 {
		resources.CPU.Quota = new(r.CPUQuota)
	}
	if r.CPUQuota != 0 && r.CPUPeriod != 0 {
		resources.CPU.Period = new(r.CPUPeriod)
	}
	for _, size := range slices.Sorted(maps.Keys(r.HugePages)) {
		resources.HugepageLimits = append(resources.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: uint64(r.HugePages[size])})
	}
	if r.MemoryLimit != 0 {
		resources.Memory = &specs.LinuxMemory{Limit: new(r.MemoryLimit)}
		if m.swapLimit { // the same sum of memory and swap: no swap
			resources.Memory.Swap = new(r.MemoryLimit)
		}
		if m.unified { // as the kubelet: out of memory ends the container, not one process of it
			resources.Unified = map[string]string{"memory.oom.group": "1"}
		}
	}
	return resources
}
