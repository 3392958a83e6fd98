package agent

import (
	"context"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/objects"
	"github.com/keelson-dev/keelson/nodeagent/tokens"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

const (
	// measureInterval is how often volumes on disk with a limit are measured, as
	// upstream's eviction manager.
	measureInterval = 10 * time.Second
	reasonEvicted   = "Evicted"
)

// objectCache reads what Pods of this node name; *objects.Cache is one.
type objectCache interface {
	objects.Reader
	Track(pod *keelsonv1.Pod)
	Forget(uid types.UID)
	Wait()
}

// newVolumes makes Pods' volumes on this machine from the objects of the API.
func (a *agent) newVolumes() *volumes.Manager {
	return volumes.New(volumes.Options{
		PodsDir: filepath.Join(a.options.RootDir, lifecycle.PodsFolder),
		Objects: a.objects, Tokens: tokens.NewManager(tokens.API{Client: a.api.client}, a.clock),
		Trust:   a.trust,
		Images:  a.imageVolumes,
		Mounter: volumes.Kernel{}, Clock: a.clock,
		Allocatable: func() corev1.ResourceList { return a.nodeAnyway().Status.Allocatable },
	})
}

// trackObjects watches what pod names as long as it may need it.
func (a *agent) trackObjects(pod *keelsonv1.Pod) {
	if terminal(pod) {
		a.forgetObjects(pod.UID)
		return
	}
	a.objects.Track(pod)
	a.trust.Track(pod)
}

func (a *agent) forgetObjects(uid types.UID) {
	a.objects.Forget(uid)
	a.trust.Forget(uid)
}

// measureVolumes ends Pods whose volumes on disk grow beyond their limits.
func (a *agent) measureVolumes(ctx context.Context) {
	ticker := a.clock.NewTicker(measureInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		for _, pod := range a.admitted.list() {
			a.evictOverfull(ctx, pod)
		}
	}
}

func (a *agent) evictOverfull(ctx context.Context, pod *keelsonv1.Pod) {
	if !pod.DeletionTimestamp.IsZero() {
		return
	}
	message, err := a.volumes.Overfull(pod)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot measure the volumes of a Pod, will retry", "pod", klog.KObj(pod))
	}
	if message == "" {
		return
	}
	klog.FromContext(ctx).Info("Evicting a Pod", "pod", klog.KObj(pod), "reason", message)
	a.manager.Reject(pod.UID, reasonEvicted, message)
	a.manager.Recorder.Record(pod, lifecycle.Note{Type: corev1.EventTypeWarning, Reason: reasonEvicted, Message: message})
	a.admitted.remove(pod.UID) // once is enough
	a.pool.Wake(pod.UID)
}
