package containerd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// Labels of a containerd container, for people and filters; the extensions hold what
// this package reads back.
const (
	labelKind         = "keelson.dev/kind"
	labelPodUID       = "keelson.dev/pod-uid"
	labelPodNamespace = "keelson.dev/pod-namespace"
	labelPodName      = "keelson.dev/pod-name"
	labelContainer    = "keelson.dev/container"

	extensionRecord = "keelson.dev/record"
	extensionStatus = "keelson.dev/status"
)

type kind string

const (
	kindSandbox   kind = "sandbox"
	kindContainer kind = "container"
)

// record is what is known when a sandbox or container is created. It never changes.
type record struct {
	Kind kind `json:"kind"`
	runtime.PodIdentity
	Attempt    uint32    `json:"attempt"`
	CreatedAt  time.Time `json:"createdAt"`
	CgroupPath string    `json:"cgroupPath"`

	// Of a sandbox.
	HostNetwork bool `json:"hostNetwork,omitempty"`
	// Held are the namespaces of a sandbox without a process, nil for one with a process.
	Held *held `json:"held,omitempty"`

	// Of a container.
	Container                  string `json:"container,omitempty"`
	SandboxID                  string `json:"sandboxID,omitempty"`
	Image                      string `json:"image,omitempty"`
	ImageID                    string `json:"imageID,omitempty"`
	ChainID                    string `json:"chainID,omitempty"`
	SpecHash                   string `json:"specHash,omitempty"`
	LogPath                    string `json:"logPath,omitempty"`
	StopSignal                 string `json:"stopSignal,omitempty"`
	TerminationMessageHostPath string `json:"terminationMessageHostPath,omitempty"`
	Stdin                      bool   `json:"stdin,omitempty"`
	StdinOnce                  bool   `json:"stdinOnce,omitempty"`
	TTY                        bool   `json:"tty,omitempty"`
	// Resources are those it is made with, nil in records of older versions.
	Resources *runtime.Resources `json:"resources,omitempty"`
	// User is as whom it is made to run, nil in records of older versions.
	User *runtime.User `json:"user,omitempty"`
	// Users are the IDs of its user namespace, nil for the machine's own; Mapped are the
	// paths of the machine that are mounted with the IDs of that namespace.
	Users  *userns.Range `json:"users,omitempty"`
	Mapped []string      `json:"mapped,omitempty"`
	// ProcessLabel is the SELinux label with categories that are nobody else's, MountLabel
	// that of the files that it sees.
	ProcessLabel string `json:"processLabel,omitempty"`
	MountLabel   string `json:"mountLabel,omitempty"`
}

// interactive says that this process relays the container's streams, see relay.
func (r record) interactive() bool { return r.Stdin || r.TTY }

// status is what is learnt later. It is stored before containerd forgets the task.
type status struct {
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	ExitCode   int32     `json:"exitCode,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Message    string    `json:"message,omitempty"`
	// Resources are those of the last update, nil when there was none.
	Resources *runtime.Resources `json:"resources,omitempty"`
}

func (s status) finished() bool { return !s.FinishedAt.IsZero() }

// idOf names a sandbox or container by what it is, so that a creation that is repeated
// after a crash meets its own remains instead of making a second one.
func idOf(k kind, uid types.UID, container string, attempt uint32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%d", k, uid, container, attempt))
	return hex.EncodeToString(sum[:])
}

func (r record) id() string { return idOf(r.Kind, r.UID, r.Container, r.Attempt) }

func (r record) labels() map[string]string {
	labels := map[string]string{
		labelKind:         string(r.Kind),
		labelPodUID:       string(r.UID),
		labelPodNamespace: r.Namespace,
		labelPodName:      r.Name,
	}
	if r.Kind == kindContainer {
		labels[labelContainer] = r.Container
	}
	return labels
}

// encodeExtension stores a value as JSON, so that later versions may add fields.
func encodeExtension(value any) (typeurl.Any, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode container extension: %w", err)
	}
	return &anypb.Any{TypeUrl: "keelson.dev/json", Value: data}, nil
}

// decode reads back what was stored with a container; ok is false when the container
// is not ours.
func decode(stored containers.Container) (r record, s status, ok bool, err error) {
	extension, ok := stored.Extensions[extensionRecord]
	if !ok {
		return record{}, status{}, false, nil
	}
	if err := json.Unmarshal(extension.GetValue(), &r); err != nil {
		return record{}, status{}, true, fmt.Errorf("decode the record of container %s: %w", stored.ID, err)
	}
	if extension, ok := stored.Extensions[extensionStatus]; ok {
		if err := json.Unmarshal(extension.GetValue(), &s); err != nil {
			return record{}, status{}, true, fmt.Errorf("decode the status of container %s: %w", stored.ID, err)
		}
	}
	return r, s, true, nil
}
