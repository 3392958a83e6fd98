// Package lifecycle makes one Pod real: sandbox, containers, restarts, stop and
// clean-up. It is the podworker's Syncer.
//
// computePlan decides from the Pod and from what the runtime holds; the Manager
// executes the plan. The runtime, the network, images and the API each sit behind an
// interface. The package never starts a container of a Pod that is being deleted,
// never removes a finalizer while anything of the Pod runs, and keeps nothing on disk
// that the runtime's labels or the API do not also say: after a crash the next sync
// finds the containers and carries on.
package lifecycle

import (
	"context"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/hostfiles"
	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/objects"
	"github.com/keelson-dev/keelson/nodeagent/podworker"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// Attachment is a Pod's place in the Pod network.
type Attachment struct {
	NetNSPath string
	// IP is the Pod's address; SecondIP that of the other family, zero without one.
	IP, SecondIP netip.Addr
}

// IPs returns the Pod's addresses, the primary one first.
func (a Attachment) IPs() []string {
	if !a.SecondIP.IsValid() {
		return []string{a.IP.String()}
	}
	return []string{a.IP.String(), a.SecondIP.String()}
}

// Network attaches Pods; both methods may be repeated.
type Network interface {
	// Attach gives the Pod its network namespace, owned by a user namespace with the IDs
	// of users where they are given.
	Attach(ctx context.Context, id runtime.PodIdentity, users *userns.Range) (Attachment, error)
	Detach(ctx context.Context, uid types.UID) error
}

// Images makes sure that a container's image is here; *images.Manager is one.
type Images interface {
	// Ensure returns the image, or a *images.Error that says why the container waits.
	Ensure(ctx context.Context, request images.Request, report func(images.Event)) (runtime.Image, error)
	// Forget drops what is kept of a Pod that left the node.
	Forget(uid types.UID)
}

// StatusSink takes the newest status of each Pod and brings it to the API.
type StatusSink interface {
	// Get returns the last status set, false when none was.
	Get(uid types.UID) (corev1.PodStatus, bool)
	// Set replaces it; writing happens on its own.
	Set(pod *keelsonv1.Pod, s corev1.PodStatus)
	// Flush returns when the last status set is in the API, or the Pod is not.
	Flush(ctx context.Context, pod *keelsonv1.Pod) error
	// Release removes the finalizer that keeps the Pod in the API.
	Release(ctx context.Context, pod *keelsonv1.Pod) error
	// Forget drops what is kept of a Pod that left the node.
	Forget(uid types.UID)
}

// Cgroups holds the Pods' own cgroups; *cgroups.Manager is one. Every method may be
// repeated.
type Cgroups interface {
	// Pod is the cgroup of a Pod.
	Pod(class corev1.PodQOSClass, uid types.UID) string
	// Owns says that path is such a cgroup: that of another root is none.
	Owns(path string) bool
	// Ensure makes the cgroup of a Pod, or changes what it is given.
	Ensure(path string, s cgroups.Settings) error
	// Current reads the limits that the cgroup at path has.
	Current(path string) (cgroups.Settings, error)
	// Memory is how many bytes are in use below path.
	Memory(path string) (int64, error)
	// Remove removes the cgroup of a Pod, whatever its class was.
	Remove(uid types.UID) error
}

// Note is an event to record about one container, or the Pod when Container is empty.
type Note struct {
	Container, Type, Reason, Message string
}

// Recorder writes events.
type Recorder interface {
	Record(pod *keelsonv1.Pod, note Note)
}

// Services returns all Services that the Pod may hear of, and may wait a moment for
// some to be complete. Its error says that they are not known yet.
type Services func(ctx context.Context, pod *keelsonv1.Pod) ([]keelsonv1.Service, error)

// Options are what a Manager works with.
type Options struct {
	Runtime  runtime.Runtime
	Network  Network
	Images   Images
	Status   StatusSink
	Cgroups  Cgroups
	Volumes  Volumes
	Recorder Recorder
	Services Services
	Probes   Probes
	Hooks    Hooks
	Users    Users
	// Objects reads what variables come from.
	Objects objects.Reader
	// MayStart says whether what the Pod needs of the node is free; nil: it is. Whoever says
	// no wakes the Pod later.
	MayStart func(uid types.UID) bool
	// Allocatable is what the node can give, the limit of containers without one.
	Allocatable func() corev1.ResourceList
	// ForbidPrivileged starts no privileged containers.
	ForbidPrivileged bool
	// RuntimeHandler returns the handler of a RuntimeClass.
	RuntimeHandler func(ctx context.Context, class string) (string, error)
	Clock          clock.Clock
	// Dead says which containers that have ended stay.
	Dead DeadPolicy
	// PhaseChanged is told of each change; nil when nobody counts. It must not wait.
	PhaseChanged func(uid types.UID, from, to corev1.PodPhase)

	// RuntimeName is the scheme of container IDs.
	RuntimeName string
	// HostIPs are the node's addresses, the primary one first; Hostname the machine's name.
	HostIPs  []string
	Hostname string
	// Capacity is what limits are measured against.
	Capacity Capacity
	// RootDir holds a folder for each Pod; PodLogDir and ContainerLogDir the logs and
	// the links to them.
	RootDir, PodLogDir, ContainerLogDir string
	// HostsFile and ResolverFile are the machine's.
	HostsFile, ResolverFile string
	DNS                     hostfiles.ClusterDNS
}

// Manager implements podworker.Syncer.
type Manager struct {
	Options
	backoff *flowcontrol.Backoff

	mu   sync.Mutex
	pods map[types.UID]*podMemory
}

// podMemory is what is remembered of a Pod between syncs. Losing it costs nothing
// but a fresh back-off and one more Attach.
type podMemory struct {
	attachment *Attachment
	// recheck: the next sync asks the network again. What is known stays known until
	// then, or a status that is computed meanwhile would lack the address.
	recheck bool
	// waiting says why containers do not run.
	waiting map[string]corev1.ContainerStateWaiting
	// failure ends the Pod: the node refused it, or its time is over.
	failure *status.Failure
	// unsettled wakes who shows the health of a Pod that is being stopped; nil when
	// nobody does.
	unsettled chan struct{}
	// resize is about the resources that the Pod was given.
	resize resizeMemory
	// setBack holds, by container, ends that the machine's clock has not come to yet.
	setBack map[string]seenEnd
}

const (
	crashBackoffFirst = 10 * time.Second
	crashBackoffMax   = 5 * time.Minute
)

// New returns a Manager.
func New(o Options) *Manager {
	backoff := flowcontrol.NewBackOff(crashBackoffFirst, crashBackoffMax)
	backoff.Clock = o.Clock
	return &Manager{Options: o, backoff: backoff, pods: map[types.UID]*podMemory{}}
}

// Reject makes the Pod fail for the given reason at its next sync.
func (m *Manager) Reject(uid types.UID, reason, message string) {
	m.remember(uid, func(p *podMemory) { p.failure = &status.Failure{Reason: reason, Message: message} })
}

// remember changes what is kept of a Pod.
func (m *Manager) remember(uid types.UID, change func(*podMemory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pods[uid]
	if p == nil {
		p = &podMemory{waiting: map[string]corev1.ContainerStateWaiting{}}
		m.pods[uid] = p
	}
	change(p)
}

// recall returns a copy of what is kept of a Pod.
func (m *Manager) recall(uid types.UID) podMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pods[uid]
	if p == nil {
		return podMemory{}
	}
	out := podMemory{attachment: p.attachment, recheck: p.recheck, failure: p.failure, resize: p.resize, waiting: map[string]corev1.ContainerStateWaiting{}}
	for name, w := range p.waiting {
		out.waiting[name] = w
	}
	return out
}

func (m *Manager) setWaiting(uid types.UID, container string, w *corev1.ContainerStateWaiting) {
	m.remember(uid, func(p *podMemory) {
		if w == nil {
			delete(p.waiting, container)
		} else {
			p.waiting[container] = *w
		}
	})
}

func (m *Manager) forget(pod *keelsonv1.Pod) {
	m.mu.Lock()
	delete(m.pods, pod.UID)
	m.mu.Unlock()
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			m.backoff.DeleteEntry(backoffKey(pod, &list[i]))
		}
	}
	m.backoff.GC() // entries of images that Pods no longer have
	m.Probes.Forget(pod.UID)
	m.Images.Forget(pod.UID)
	m.Status.Forget(pod.UID)
}

func backoffKey(pod *keelsonv1.Pod, c *corev1.Container) string {
	return string(pod.UID) + "/" + c.Name + "/" + specHash(c)
}

var _ podworker.Syncer = (*Manager)(nil)
