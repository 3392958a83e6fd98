package containerd

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// capabilities of a container that asks for nothing, as containerd's default.
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

const allCapabilities = "ALL"

// processCapabilities are none in effect for a user other than root, as the kernel
// would have it after a change of user.
func processCapabilities(in specInput) *specs.LinuxCapabilities {
	bounding := computeCapabilities(in.config.AddCapabilities, in.config.DropCapabilities, in.machine.capabilities)
	if in.config.Security.Privileged {
		bounding = in.machine.capabilities
	}
	effective := bounding
	if in.user.UID != 0 {
		effective = nil
	}
	return &specs.LinuxCapabilities{Bounding: bounding, Effective: effective, Permitted: effective}
}

// computeCapabilities changes the default set as containerd's CRI plug-in does: ALL
// first, so that single names make exceptions of it; what is both added and dropped is
// dropped. all is what ALL stands for.
func computeCapabilities(add, drop, all []string) []string {
	set := slices.Clone(capabilities)
	if slices.ContainsFunc(add, isAll) {
		set = slices.Clone(all)
	}
	if slices.ContainsFunc(drop, isAll) {
		set = nil
	}
	for _, name := range add {
		if name = capabilityName(name); !isAll(name) && !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	for _, name := range drop {
		name = capabilityName(name)
		set = slices.DeleteFunc(set, func(have string) bool { return have == name })
	}
	return set
}

func isAll(name string) bool { return strings.EqualFold(name, allCapabilities) }

func capabilityName(name string) string {
	name = strings.ToUpper(name)
	if isAll(name) || strings.HasPrefix(name, "CAP_") {
		return name
	}
	return "CAP_" + name
}
