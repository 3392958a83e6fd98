package agent

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/logrotate"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	// collectInterval is how often dead containers are looked at, as upstream.
	collectInterval         = time.Minute
	reasonContainerGCFailed = "ContainerGCFailed"
)

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// peekLister gives those who only look what the runtime holds, from memory.
type peekLister struct{ runtime.Storage }

// List implements stats.Lister.
func (l peekLister) List(ctx context.Context) ([]runtime.PodState, error) { return l.Peek(ctx) }

// newCollector keeps the disk of images from filling up.
func (a *agent) newCollector() *images.Collector {
	o := a.options.StorageOptions
	return images.NewCollector(images.CollectorOptions{
		Storage: a.storage, Clock: a.clock,
		Policy: images.Policy{
			HighPercent: o.ImageGCHighThreshold, LowPercent: o.ImageGCLowThreshold,
			MinAge: o.ImageMinimumGCAge.Duration, MaxAge: o.ImageMaximumGCAge.Duration,
		},
		Wanted: a.wantedImages,
		Disk: func(ctx context.Context) (int64, int64, error) {
			disk, err := a.imageDisk(ctx)
			return disk.Bytes.Capacity, disk.Bytes.Available, err
		},
		Warn: a.warnNode, Removed: a.metrics.imageRemoved, Changed: a.imagesChanged,
	})
}

// wantedImages are those that Pods of this node name: for containers that are about to
// start, or to start again, and for volumes. Those of archives stay, too.
func (a *agent) wantedImages() []string {
	var names []string
	if a.preloaded != nil {
		names = a.preloaded.Names()
	}
	for _, pod := range a.admitted.list() {
		for _, c := range pod.Spec.InitContainers {
			names = append(names, c.Image)
		}
		for _, c := range pod.Spec.Containers {
			names = append(names, c.Image)
		}
		for _, c := range pod.Spec.EphemeralContainers {
			names = append(names, c.Image)
		}
		for _, v := range pod.Spec.Volumes {
			if v.Image != nil {
				names = append(names, v.Image.Reference)
			}
		}
	}
	return names
}

// noticingImages tells when an image has come.
type noticingImages struct {
	lifecycle.Images
	pulled func()
}

// Ensure implements lifecycle.Images.
func (n noticingImages) Ensure(ctx context.Context, request images.Request, report func(images.Event)) (runtime.Image, error) {
	pulled := false
	image, err := n.Images.Ensure(ctx, request, func(e images.Event) {
		pulled = pulled || e.Reason == images.EventPulling
		report(e)
	})
	if pulled && err == nil {
		n.pulled()
	}
	return image, err
}

// newRotator keeps logs from growing without end. The size was validated.
func (a *agent) newRotator() (*logrotate.Rotator, error) {
	o := a.options.StorageOptions
	size, err := o.logMaxSize()
	if err != nil {
		return nil, err
	}
	return logrotate.New(logrotate.Options{
		Containers: a.storage, MaxSize: size, MaxFiles: o.ContainerLogMaxFiles, Workers: o.ContainerLogMaxWorkers,
		Interval: o.ContainerLogMonitorInterval.Duration, Clock: a.clock,
	}), nil
}

// deadPolicy says which dead containers stay.
func (a *agent) deadPolicy() lifecycle.DeadPolicy {
	o := a.options.StorageOptions
	return lifecycle.DeadPolicy{
		MinAge: o.MinimumContainerTTLDuration.Duration, PerContainer: o.MaximumDeadContainersPerContainer, Total: o.MaximumDeadContainers,
	}
}

// collectContainers removes dead containers now and then.
func (a *agent) collectContainers(ctx context.Context) {
	ticker := a.clock.NewTicker(collectInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		if err := a.manager.RemoveDead(ctx, a.deadPolicy()); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot remove all dead containers, will retry")
			a.warnNode(reasonContainerGCFailed, err.Error())
		}
		if pods, err := a.storage.Peek(ctx); err == nil { // else the next time
			a.disks.Keep(pods)
		}
	}
}
