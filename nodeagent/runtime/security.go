package runtime

// Security says as whom a container's process runs and what it may do beyond the
// capabilities. The zero value is a process as its image says, with the runtime's
// default restrictions.
type Security struct {
	// RunAsUser and RunAsGroup replace what the image says; nil keeps it.
	RunAsUser, RunAsGroup *int64
	// SupplementalGroups are added to those that the image's /etc/group gives the user,
	// or, with StrictGroups, are all there are beside the main one.
	SupplementalGroups []int64
	StrictGroups       bool
	// Privileged gives all capabilities and devices that the agent has, and hides
	// nothing of /proc and /sys.
	Privileged bool
	// ReadOnlyRootFilesystem lets nobody write into the image's files.
	ReadOnlyRootFilesystem bool
	// NoNewPrivileges keeps set-user-ID programs from giving more rights.
	NoNewPrivileges bool
	// UnmaskedProc hides nothing of /proc.
	UnmaskedProc bool
	Seccomp      Seccomp
	AppArmor     AppArmor
	// SELinux is the container's own word on its label, nil for that of the Pod.
	SELinux *SELinux
}

// SELinux are the parts of a label that a Pod chooses; empty parts are the machine's
// choice. They mean nothing on a machine without SELinux.
type SELinux struct{ User, Role, Type, Level string }

// AppArmorType says which profile confines a process.
type AppArmorType string

const (
	// AppArmorUnset is RuntimeDefault on a machine that can confine, none on others, as
	// containerd's CRI plug-in has it.
	AppArmorUnset AppArmorType = ""
	// AppArmorUnconfined is none.
	AppArmorUnconfined AppArmorType = "Unconfined"
	// AppArmorRuntimeDefault is the profile that container runtimes share. A privileged
	// container is not confined by it.
	AppArmorRuntimeDefault AppArmorType = "RuntimeDefault"
	// AppArmorLocalhost is a profile that is loaded on this machine.
	AppArmorLocalhost AppArmorType = "Localhost"
)

// AppArmor is a process's profile.
type AppArmor struct {
	Type AppArmorType
	// Profile is the name of an AppArmorLocalhost profile.
	Profile string
}

// SeccompType says which system calls a process may use.
type SeccompType string

const (
	// SeccompUnconfined filters none.
	SeccompUnconfined SeccompType = ""
	// SeccompRuntimeDefault is the profile that container runtimes share.
	SeccompRuntimeDefault SeccompType = "RuntimeDefault"
	// SeccompLocalhost is a profile on this machine.
	SeccompLocalhost SeccompType = "Localhost"
)

// Seccomp is a process's filter of system calls.
type Seccomp struct {
	Type SeccompType
	// Path is the file of a SeccompLocalhost profile, an OCI seccomp object as JSON.
	Path string
}
