package agent

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/preload"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// reasonImportFailed is of events about the Node.
const reasonImportFailed = "ImageImportFailed"

// newPreloaded reads the folder of images; nil without one.
func (a *agent) newPreloaded() *preload.Folder {
	importer, can := a.storage.(preload.Importer)
	if a.options.ImageDir == "" || !can {
		return nil
	}
	return preload.NewFolder(preload.Options{
		Path: a.options.ImageDir, Importer: importer, Clock: a.clock,
		Here: func(ctx context.Context, name string) (bool, error) {
			image, err := a.runtime.Image(ctx, name)
			return image != nil, err
		},
		Answers: func(ctx context.Context) error {
			_, err := a.runtime.Info(ctx)
			return err
		},
		Problem: func(archive string, err error) {
			klog.Background().Error(err, "Cannot import images, will try again when the archive changes", "archive", archive)
			a.warnNode(reasonImportFailed, "Cannot import images from "+archive+": "+err.Error())
		},
		Imported: func() { a.collector.Pulled() },
	})
}

// preloadedFirst lets nobody ask for an image before the folder was read once.
func (a *agent) preloadedFirst(next lifecycle.Images) lifecycle.Images {
	if a.preloaded == nil {
		return next
	}
	return afterPreload{next, a.preloaded}
}

type afterPreload struct {
	lifecycle.Images
	folder *preload.Folder
}

// Ensure implements lifecycle.Images.
func (p afterPreload) Ensure(ctx context.Context, request images.Request, report func(images.Event)) (runtime.Image, error) {
	if err := p.folder.Ready(ctx); err != nil {
		return runtime.Image{}, err
	}
	return p.Images.Ensure(ctx, request, report)
}
