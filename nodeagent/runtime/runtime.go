// Package runtime is the node agent's view of whatever runs containers.
//
// The agent's core (podworker, agent) knows only the interfaces of this package;
// runtime/containerd implements them on containerd, runtime/fake in memory with
// faults on demand. All identity lives with the runtime's own objects (labels), so
// an agent that starts finds again, through List, everything an earlier one left.
package runtime

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// Runtime runs sandboxes and containers on this machine. Every method may be
// repeated after a crash at any point: stopping what is stopped and removing what
// is gone succeed.
type Runtime interface {
	ImageService

	// Info names the runtime; its error says that the runtime does not answer.
	Info(ctx context.Context) (Info, error)

	// List returns every Pod of which the runtime holds a sandbox or a container,
	// running or not.
	List(ctx context.Context) ([]PodState, error)

	// Pod returns what the runtime holds of one Pod; the zero lists when nothing.
	Pod(ctx context.Context, uid types.UID) (PodState, error)

	// RunSandbox makes the namespaces that the Pod's containers will share, and a pause
	// container in them where they need one. When it fails nothing of it is left running.
	RunSandbox(ctx context.Context, config SandboxConfig) (Sandbox, error)

	// StopSandbox lets go of the namespaces; the sandbox stays listed as not ready.
	StopSandbox(ctx context.Context, id string) error

	// RemoveSandbox forgets a stopped sandbox and frees all it held.
	RemoveSandbox(ctx context.Context, id string) error

	// CreateContainer prepares a container in a running sandbox and returns its ID.
	CreateContainer(ctx context.Context, config ContainerConfig) (string, error)

	// StartContainer starts it. A *StartError means that the container itself cannot
	// run (no such command, not executable); the container is then listed as exited
	// with that code and message, also after a restart of the agent.
	StartContainer(ctx context.Context, id string) error

	// UpdateContainer gives a running container other resources, all of them but
	// OOMScoreAdj. One that does not run is an error.
	UpdateContainer(ctx context.Context, id string, resources Resources) error

	// StopContainer sends the stop signal, waits up to grace, kills, and returns when
	// the container has exited. Zero grace kills at once. A second call with a shorter
	// grace may run beside the first.
	StopContainer(ctx context.Context, id string, grace time.Duration) error

	// RemoveContainer forgets a container that does not run. Its log file stays.
	RemoveContainer(ctx context.Context, id string) error

	// Events delivers changes until ctx ends; the channel is then closed. After a lost
	// connection an Event of type Resync says that changes may have been missed.
	Events(ctx context.Context) <-chan Event
}

// ImageService holds images on this machine.
type ImageService interface {
	// Image returns a local image by reference or digest, nil when it is not here.
	Image(ctx context.Context, ref string) (*Image, error)

	// Pull fetches and unpacks ref, and returns when containers can use it. The registry
	// is asked with as; nil is nobody. The error text carries what the registry answered.
	Pull(ctx context.Context, ref string, as *Credential) (Image, error)
}

// Credential is a user of a registry.
type Credential struct {
	Username, Password string
	// Secret is where it comes from; nil for the node's own.
	Secret *SecretRef
}

// SecretRef names a Secret of the API.
type SecretRef struct {
	UID             types.UID
	Namespace, Name string
}

// Info names the runtime for Node status and logs.
type Info struct {
	// Name is "containerd".
	Name string
	// Version is the daemon's version, such as "1.6.20".
	Version string
}

// Image is an image that containers can use.
type Image struct {
	// Ref is the normalised name, such as "docker.io/library/busybox:latest".
	Ref string
	// Digest is the repository digest, such as "docker.io/library/busybox@sha256:…".
	Digest string
	// ID is the digest of the image's configuration, "sha256:…".
	ID string
	// Entrypoint, Cmd, Env, WorkingDir, User and StopSignal come from the image.
	Entrypoint, Cmd, Env         []string
	WorkingDir, User, StopSignal string
	// Size is the sum of the compressed layers in bytes.
	Size int64
}

// State is where a sandbox or container is in its life.
type State string

// States of a container; a sandbox is Running or Exited.
const (
	Created State = "Created"
	Running State = "Running"
	Exited  State = "Exited"
	// Unknown means that the runtime could not tell.
	Unknown State = "Unknown"
)

// PodIdentity names the Pod to which a sandbox or container belongs.
type PodIdentity struct {
	UID       types.UID
	Namespace string
	Name      string
}

// PodState is what the runtime holds of one Pod.
type PodState struct {
	PodIdentity
	// Sandboxes and Containers are ordered newest first.
	Sandboxes  []Sandbox
	Containers []Container
}

// Sandbox is a Pod's shared namespaces and the pause process or files that hold them.
type Sandbox struct {
	ID        string
	Attempt   uint32
	State     State
	CreatedAt time.Time
	// HostNetwork says that the sandbox uses the machine's own network namespace.
	HostNetwork bool
	// PID is the pause process, 0 when none runs. NetNSPath is the network namespace where
	// there is none, empty for the machine's.
	PID       uint32
	NetNSPath string
	// CgroupParent is SandboxConfig.CgroupParent.
	CgroupParent string
}

// Container is one attempt at running one container of a Pod.
type Container struct {
	ID      string
	Name    string
	Attempt uint32
	State   State
	// SandboxID is the sandbox in which it was created.
	SandboxID string
	// Image is the reference as the Pod names it; ImageID is its repository digest.
	Image, ImageID string
	// SpecHash is ContainerConfig.SpecHash at creation.
	SpecHash string
	// CgroupPath is the container's own cgroup.
	CgroupPath string
	// Resources are those of the last UpdateContainer, or of its making. A container of
	// an older version of this package has none.
	Resources Resources
	// User is as whom its first process was started, nil for a container of an older
	// version of this package.
	User *User
	// LogPath is the file that its output goes to.
	LogPath                          string
	CreatedAt, StartedAt, FinishedAt time.Time
	// ExitCode, Reason and Message are set when State is Exited. Reason is
	// "Completed", "Error", "OOMKilled", ReasonStartError or "ContainerStatusUnknown".
	ExitCode        int32
	Reason, Message string
	// TerminationMessageHostPath is ContainerConfig.TerminationMessageHostPath.
	TerminationMessageHostPath string
}

// User is an identity by its numbers. The groups contain GID.
type User struct {
	UID, GID int64
	Groups   []int64
}

// SandboxConfig says how to make a sandbox.
type SandboxConfig struct {
	PodIdentity
	Attempt uint32
	// NetNSPath is the bind-mounted network namespace to join; empty means the
	// machine's own (hostNetwork).
	NetNSPath string
	// Hostname of the Pod's UTS namespace; empty (hostNetwork) shares the machine's.
	Hostname string
	// CgroupParent is the Pod's cgroup, such as "/keelson/burstable/pod<uid>".
	CgroupParent string
	// HostPID and HostIPC share the machine's process and IPC namespaces.
	HostPID, HostIPC bool
	// Sysctls are set in the Pod's namespaces.
	Sysctls map[string]string
	// SharePID makes one PID namespace for all containers.
	SharePID bool
	// Containers is how many will run beside each other, as far as is known.
	Containers int
	// Users are the machine's IDs that the Pod's processes have, in a user namespace of
	// their own, which owns the network namespace at NetNSPath; nil for the machine's.
	Users *userns.Range
	// SELinux is the Pod's word on the label of its processes, nil for the machine's choice.
	SELinux *SELinux
}

// ContainerConfig says how to make a container.
type ContainerConfig struct {
	PodIdentity
	Name      string
	Attempt   uint32
	SandboxID string
	// Image is the reference as the Pod names it; ImageRef is Image.Ref or Digest as
	// returned by Image or Pull.
	Image, ImageRef string
	// SpecHash identifies the container's part of the Pod spec.
	SpecHash string

	// Command and Args override the image's ENTRYPOINT and CMD as in a Pod.
	Command, Args []string
	WorkingDir    string
	// Env is "NAME=value"; it overrides the image's.
	Env []string
	// Stdin keeps an input open that clients can attach to; StdinOnce closes it when
	// the first of them has none left. TTY gives the process a terminal.
	Stdin, StdinOnce, TTY bool
	// AddCapabilities and DropCapabilities change the default set; names as in a Pod,
	// with or without CAP_, and ALL.
	AddCapabilities, DropCapabilities []string
	// PIDTargetID is the container of the same Pod whose PID namespace this one joins;
	// else SharePID joins the sandbox's. Without both it gets one of its own.
	PIDTargetID string
	SharePID    bool
	// HostPID and HostIPC are those of the sandbox.
	HostPID, HostIPC bool
	// Users are those of the sandbox. The files of the image and of Mounts belong to whom
	// they say, as the container sees it.
	Users    *userns.Range
	Security Security
	// Hostname is what HOSTNAME says to the process.
	Hostname string
	Mounts   []Mount
	// Resources are limits and weights for the container's cgroup.
	Resources    Resources
	CgroupParent string
	// LogPath is the CRI-format log file; its folder exists.
	LogPath string
	// TerminationMessageHostPath is remembered and returned in Container.
	TerminationMessageHostPath string
}

// Mount binds a path of the machine into a container.
type Mount struct {
	HostPath, ContainerPath string
	ReadOnly                bool
	// RecursiveReadOnly makes mounts below it for reading only too.
	RecursiveReadOnly bool
	// NoExec lets nobody execute its files.
	NoExec bool
	// Mapped says that its files have the user IDs of the Pod already, as MountImage makes
	// them; others get them when the container starts.
	Mapped bool
	// Relabel gives its files the container's SELinux label: they are made for the Pod.
	Relabel bool
	// Propagation is private when empty.
	Propagation Propagation
}

// Propagation says whether mounts made later show on the other side.
type Propagation string

const (
	// PropagationPrivate shows them on neither side.
	PropagationPrivate Propagation = ""
	// PropagationHostToContainer shows the machine's in the container.
	PropagationHostToContainer Propagation = "HostToContainer"
	// PropagationBidirectional also shows the container's on the machine.
	PropagationBidirectional Propagation = "Bidirectional"
)

// Resources are a container's cgroup settings; zero values set nothing.
type Resources struct {
	// CPUShares is the relative weight in cgroup v1 units (2 to 262144).
	CPUShares uint64
	// CPUQuota is the microseconds of CPU time in each CPUPeriod.
	CPUQuota  int64
	CPUPeriod uint64
	// MemoryLimit is in bytes.
	MemoryLimit int64
	// HugePages limits bytes by the kernel's name of the page size, such as 2MB.
	HugePages map[string]int64
	// OOMScoreAdj is applied as far as this process may, when the container starts.
	OOMScoreAdj int
	// Asked is what the Pod asked for, which the rest follows from. The runtime keeps it
	// and does not look at it.
	Asked corev1.ResourceRequirements
}

// EventType says what an Event is about.
type EventType string

const (
	// ContainerExited: a container has ended and its exit is recorded.
	ContainerExited EventType = "ContainerExited"
	// SandboxExited: the pause process has ended, or the namespaces are gone.
	SandboxExited EventType = "SandboxExited"
	// Resync: events may have been lost; List again. It names no Pod.
	Resync EventType = "Resync"
)

// ReasonStartError is the Reason of a container whose start ended in a *StartError.
const ReasonStartError = "StartError"

// Event is a change that the runtime made or noticed by itself.
type Event struct {
	Type        EventType
	PodUID      types.UID
	ContainerID string
}

// StartError says that a container cannot run as configured; the machine and the
// runtime are well.
type StartError struct {
	// ExitCode is 128 as containerd's CRI plug-in reports it, or the code that the
	// runtime gave.
	ExitCode int32
	Message  string
}

func (e *StartError) Error() string {
	return fmt.Sprintf("container cannot start (exit code %d): %s", e.ExitCode, e.Message)
}
