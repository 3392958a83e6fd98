package lifecycle

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

// Volumes makes the volumes of Pods; *volumes.Manager does. Every method may be
// repeated.
type Volumes interface {
	// SetUp makes the Pod's volumes and brings their files up to date; it says when to
	// do so again. Its error joins a *volumes.SetUpError for each volume that is not as
	// it should be.
	SetUp(ctx context.Context, pod *keelsonv1.Pod) (time.Time, error)
	// Mounts lists what a container mounts of them, given its variables.
	Mounts(ctx context.Context, pod *keelsonv1.Pod, c *corev1.Container, variables []string) ([]runtime.Mount, error)
	// FilePath and ReadFile are for files in volumes that containers write.
	FilePath(pod *keelsonv1.Pod, volume, path string) (string, bool)
	ReadFile(pod *keelsonv1.Pod, volume, path string) (string, error)
	// ReleaseMounts frees what Mounts made for the start of the container.
	ReleaseMounts(pod *keelsonv1.Pod, c *corev1.Container) error
	// TearDown removes everything of the Pod's volumes.
	TearDown(ctx context.Context, uid types.UID) error
	// ImageVolumes lists the volumes that the container mounts and whose images are not
	// mounted yet; MountImage mounts one, whose image ref is here.
	ImageVolumes(pod *keelsonv1.Pod, c *corev1.Container) ([]*corev1.Volume, error)
	MountImage(ctx context.Context, pod *keelsonv1.Pod, v *corev1.Volume, ref string) error
}

// staleRetry is how soon files that could not be brought up to date are tried again
// when nothing is heard of the objects that they come from.
const staleRetry = time.Minute

// setUpVolumes makes or updates the Pod's volumes and says when to look again. Files that
// are merely old stop nothing: the Pod runs on with them, as upstream.
func (m *Manager) setUpVolumes(ctx context.Context, pod *keelsonv1.Pod) (time.Time, error) {
	again, err := m.Volumes.SetUp(ctx, m.withOrigin(pod))
	if err == nil {
		return again, nil
	}
	if ctx.Err() != nil {
		return time.Time{}, ctx.Err()
	}
	missing := false
	for _, e := range volumes.Errors(err) {
		m.Recorder.Record(pod, Note{Type: corev1.EventTypeWarning, Reason: eventFailedMount, Message: e.Error()})
		missing = missing || !e.Stale
	}
	if missing {
		return time.Time{}, err
	}
	klog.FromContext(ctx).V(2).Info("Files of volumes could not be brought up to date", "err", err)
	return earlier(again, m.Clock.Now().Add(staleRetry)), nil
}

// releaseMounts is for when the container has started, or could not.
func (m *Manager) releaseMounts(ctx context.Context, pod *keelsonv1.Pod, c *corev1.Container) {
	if err := m.Volumes.ReleaseMounts(pod, c); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot free mounts of a container's start; they go with the Pod", "container", c.Name)
	}
}
