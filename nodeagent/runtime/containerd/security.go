package containerd

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"

	seccompprofile "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/pkg/apparmor"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/containerd/v2/pkg/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// hostShm is the machine's shared memory, for Pods that share its IPC namespace.
const hostShm = "/dev/shm"

func (r *Runtime) shmOf(config runtime.ContainerConfig) string {
	if config.HostIPC {
		return hostShm
	}
	return r.shmPath(config.SandboxID)
}

// sandboxSysctls are those that containerd's CRI plug-in sets, so that no privilege is
// needed for low ports and ping, and the Pod's own.
func sandboxSysctls(config runtime.SandboxConfig) map[string]string {
	all := map[string]string{}
	if config.NetNSPath != "" {
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
		all["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	if config.Users != nil { // the kernel takes only groups that there are
		all["net.ipv4.ping_group_range"] = fmt.Sprintf("0 %d", config.Users.Length-1)
	}
	maps.Copy(all, config.Sysctls)
	return all
}

// readSecurity reads from the machine what the container's rights take.
func (in *specInput) readSecurity() error {
	s := in.config.Security
	var err error
	if in.appArmor, err = appArmorName(s, apparmor.HostSupports()); err != nil {
		return fmt.Errorf("failed to generate apparmor spec opts: %w", err)
	}
	if s.Privileged {
		devices, err := oci.HostDevices()
		if err != nil {
			return fmt.Errorf("create container %s: list the machine's devices: %w", in.config.Name, err)
		}
		in.devices = devices
		return nil // system calls are not filtered
	}
	if s.Seccomp.Type == runtime.SeccompUnconfined {
		return nil
	}
	if !seccomp.IsEnabled() {
		return fmt.Errorf("failed to generate seccomp spec opts: seccomp is not supported")
	}
	if s.Seccomp.Type != runtime.SeccompLocalhost {
		return nil
	}
	data, err := os.ReadFile(s.Seccomp.Path)
	if err != nil {
		return fmt.Errorf("cannot load seccomp profile %q: %w", s.Seccomp.Path, err)
	}
	in.seccomp = &specs.LinuxSeccomp{}
	if err := json.Unmarshal(data, in.seccomp); err != nil {
		return fmt.Errorf("decoding seccomp profile failed %q: %w", s.Seccomp.Path, err)
	}
	return nil
}

// applySecurity changes a rendered spec by what the Pod says about the process's rights.
func applySecurity(spec *specs.Spec, in specInput) error {
	s := in.config.Security
	spec.Process.NoNewPrivileges = s.NoNewPrivileges
	spec.Process.ApparmorProfile = in.appArmor
	applyLabels(spec, in.labels, s.Privileged)
	if s.UnmaskedProc {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	}
	if s.Privileged {
		openUp(spec, in.devices)
		return nil
	}
	switch s.Seccomp.Type {
	case runtime.SeccompUnconfined:
	case runtime.SeccompRuntimeDefault:
		spec.Linux.Seccomp = seccompprofile.DefaultProfile(spec)
	case runtime.SeccompLocalhost:
		spec.Linux.Seccomp = in.seccomp
	default:
		return fmt.Errorf("container %s: unknown seccomp profile type %q", in.config.Name, s.Seccomp.Type)
	}
	return nil
}

// openUp takes the restrictions of an unprivileged container away.
func openUp(spec *specs.Spec, devices []specs.LinuxDevice) {
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	spec.Linux.Devices = devices
	spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	for i := range spec.Mounts {
		if m := &spec.Mounts[i]; m.Type == "sysfs" || m.Type == "cgroup" {
			m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(option string) bool { return option == "ro" })
			m.Options = append(m.Options, "rw")
		}
	}
	// Mounts of the Pod hide the machine's devices, not the other way round.
	spec.Linux.Devices = slices.DeleteFunc(slices.Clone(spec.Linux.Devices), func(d specs.LinuxDevice) bool {
		return slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return path.Clean(d.Path) == m.Destination })
	})
}
