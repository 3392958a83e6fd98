// Package volumes makes the volumes of Pods on this machine, keeps the files in them
// up to date, and takes them away.
//
// What a volume holds is computed by pure functions (payload.go) from the Pod and the
// objects it names; the rest is files and mounts below <root>/pods/<uid>/volumes, under
// the names that upstream uses. Files that come from the API change atomically: a
// program sees all the old ones or all the new ones. The package never follows a link
// that a container made out of its volume, and never removes anything while something
// is still mounted below a Pod's folder.
//
// It keeps nothing that matters in memory. After a crash SetUp finds what is there and
// completes it; TearDown reads the machine's table of mounts, so it also frees what an
// earlier process left.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/objects"
)

// Tokens gives tokens of service accounts; *tokens.Manager is one.
type Tokens interface {
	// Token returns a valid token and when to ask for the next one.
	Token(ctx context.Context, request TokenRequest) (token string, refresh time.Time, err error)
	// Forget drops the tokens of a Pod that left the node.
	Forget(pod types.UID)
}

// TrustBundles gives trust anchors; *trust.Cache is one.
type TrustBundles interface {
	// Anchors returns the certificates that source selects, as PEM.
	Anchors(ctx context.Context, source *corev1.ClusterTrustBundleProjection) ([]byte, error)
}

// Certificates gives keys and their certificates; *podcerts.Manager is one.
type Certificates interface {
	// Bundle returns a key, the chain of its certificates, both as PEM, and when to ask
	// again.
	Bundle(ctx context.Context, request CertificateRequest) (key, chain []byte, again time.Time, err error)
	// Forget drops the keys of a Pod that left the node.
	Forget(pod types.UID)
}

// CertificateRequest says which certificate a Pod's files are to hold.
type CertificateRequest struct {
	Pod *keelsonv1.Pod
	// Volume and Index say where Source stands.
	Volume string
	Index  int
	Source *corev1.PodCertificateProjection
}

// TokenRequest says which token a Pod's file is to hold.
type TokenRequest struct {
	Pod                types.UID
	PodName            string
	Namespace, Account string
	// Audience is empty for the API server's own.
	Audience          string
	ExpirationSeconds int64
}

// Options are what a Manager works with.
type Options struct {
	// PodsDir holds a folder for each Pod.
	PodsDir string
	Objects objects.Reader
	Tokens  Tokens
	Trust   TrustBundles
	Images  Images
	// Certificates may be nil where no Pod has any.
	Certificates Certificates
	Mounter      Mounter
	Clock        clock.PassiveClock
	// Allocatable is what the node can give: files about resources name it where a
	// container has no limit, and it bounds volumes in memory.
	Allocatable func() corev1.ResourceList
}

// Manager makes and removes volumes. Calls for one Pod must not overlap.
type Manager struct {
	Options

	mu sync.Mutex
	// written says by Pod and volume what the files of it are.
	written map[types.UID]map[string]digest
}

// New returns a Manager.
func New(o Options) *Manager {
	return &Manager{Options: o, written: map[types.UID]map[string]digest{}}
}

// SetUpError says which volume could not be made.
type SetUpError struct {
	Volume string
	Err    error
	// Stale says that the volume is there, with files of an earlier time.
	Stale bool
}

func (e *SetUpError) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

func (e *SetUpError) Unwrap() error { return e.Err }

// Errors returns the volumes that err, from SetUp, is about.
func Errors(err error) []*SetUpError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*SetUpError
		for _, e := range joined.Unwrap() {
			all = append(all, Errors(e)...)
		}
		return all
	}
	if one, ok := errors.AsType[*SetUpError](err); ok {
		return []*SetUpError{one}
	}
	return nil
}

// SetUp makes every volume that a container of pod mounts, and brings files that come
// from the API up to date. It says when to look again without being asked, zero for
// never. Its error joins a *SetUpError for each volume that is not as it should be.
func (m *Manager) SetUp(ctx context.Context, pod *keelsonv1.Pod) (time.Time, error) {
	var again time.Time
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !mounted(&pod.Spec, v.Name) {
			continue
		}
		refresh, err := m.setUp(ctx, pod, v)
		if err != nil {
			errs = append(errs, &SetUpError{Volume: v.Name, Err: err, Stale: m.hasFiles(pod.UID, v)})
		}
		again = earlier(again, refresh)
	}
	return again, errors.Join(errs...)
}

func (m *Manager) setUp(ctx context.Context, pod *keelsonv1.Pod, v *corev1.Volume) (time.Time, error) {
	switch {
	case v.EmptyDir != nil:
		return time.Time{}, m.setUpEmptyDir(pod, v)
	case v.HostPath != nil:
		return time.Time{}, checkHostPath(v.HostPath)
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
		return m.setUpFiles(ctx, pod, v)
	case v.Image != nil:
		return time.Time{}, nil // it is mounted when its image is here
	}
	return time.Time{}, fmt.Errorf("no volume plugin matched: this node makes no volumes of this kind")
}

// setUpFiles makes or updates a volume of files that come from the API.
func (m *Manager) setUpFiles(ctx context.Context, pod *keelsonv1.Pod, v *corev1.Volume) (time.Time, error) {
	files, refresh, err := m.collect(ctx, pod, v)
	if err != nil {
		return time.Time{}, err
	}
	dir := m.path(pod.UID, v)
	var mount func() error
	if medium(v) == corev1.StorageMediumMemory {
		mount = func() error { return m.Mounter.MountMemory(dir, "") }
	}
	made, err := m.makeFolder(dir, mount)
	if err != nil {
		return time.Time{}, err
	}
	sum := digestOf(files)
	if !made && m.wrote(pod.UID, v.Name) == sum {
		return refresh, nil
	}
	group := fsGroup(pod)
	if err := makeNested(dir, &pod.Spec, v.Name, files); err != nil {
		return time.Time{}, err
	}
	own := func() error { return giveToGroup(dir, group, true) }
	if err := writeFiles(dir, files, m.Clock.Now(), own); err != nil {
		return time.Time{}, err
	}
	m.note(pod.UID, v.Name, sum)
	return refresh, nil
}

// hasFiles says whether the volume holds files of the API, new or old.
func (m *Manager) hasFiles(uid types.UID, v *corev1.Volume) bool {
	if v.EmptyDir != nil || v.HostPath != nil || v.Image != nil {
		return false
	}
	_, err := os.Readlink(filepath.Join(m.path(uid, v), dataLink))
	return err == nil
}

func (m *Manager) wrote(uid types.UID, volume string) digest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.written[uid][volume]
}

func (m *Manager) note(uid types.UID, volume string, sum digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.written[uid] == nil {
		m.written[uid] = map[string]digest{}
	}
	m.written[uid][volume] = sum
}

// TearDown unmounts and removes everything of the Pod's volumes.
func (m *Manager) TearDown(ctx context.Context, uid types.UID) error {
	m.mu.Lock()
	delete(m.written, uid)
	m.mu.Unlock()
	if m.Tokens != nil {
		m.Tokens.Forget(uid)
	}
	if m.Certificates != nil {
		m.Certificates.Forget(uid)
	}
	dir := m.podDir(uid)
	if err := m.Mounter.UnmountBelow(dir); err != nil {
		return fmt.Errorf("unmounting the Pod's volumes: %w", err)
	}
	if err := m.releaseImages(ctx, uid); err != nil {
		return fmt.Errorf("releasing the images of the Pod's volumes: %w", err)
	}
	for _, name := range []string{volumesFolder, subPathsFolder} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("removing the Pod's volumes: %w", err)
		}
	}
	return nil
}

const (
	volumesFolder  = "volumes"
	subPathsFolder = "volume-subpaths"
)

func (m *Manager) podDir(uid types.UID) string { return filepath.Join(m.PodsDir, string(uid)) }

// path is where a volume is on this machine.
func (m *Manager) path(uid types.UID, v *corev1.Volume) string {
	if v.HostPath != nil {
		return v.HostPath.Path
	}
	return filepath.Join(m.podDir(uid), volumesFolder, pluginFolder(v), v.Name)
}

// pluginFolder is upstream's name for the folder of all volumes of one kind.
func pluginFolder(v *corev1.Volume) string {
	switch {
	case v.EmptyDir != nil:
		return "kubernetes.io~empty-dir"
	case v.ConfigMap != nil:
		return "kubernetes.io~configmap"
	case v.Secret != nil:
		return "kubernetes.io~secret"
	case v.DownwardAPI != nil:
		return "kubernetes.io~downward-api"
	case v.Image != nil:
		return imagePlugin
	default:
		return "kubernetes.io~projected"
	}
}

// mounted says whether a container of spec mounts the volume; upstream makes no others.
func mounted(spec *corev1.PodSpec, volume string) bool {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if names(list[i].VolumeMounts, volume) {
				return true
			}
		}
	}
	for i := range spec.EphemeralContainers {
		if names(spec.EphemeralContainers[i].VolumeMounts, volume) {
			return true
		}
	}
	return false
}

func names(mounts []corev1.VolumeMount, volume string) bool {
	for i := range mounts {
		if mounts[i].Name == volume {
			return true
		}
	}
	return false
}

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
