// Package preload gives the runtime the images that lie as archives in a folder, so that
// a machine needs no registry for them.
//
// It never writes to the folder and never removes an image: one whose archive is gone
// becomes an image like any other. It keeps nothing on disk; after a crash every archive
// is read again, of which the runtime writes only what it lacks.
package preload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// settleDelay lets an archive be written to its end before it is read.
	settleDelay = 200 * time.Millisecond
	// lookInterval is how often the folder is compared with what is here although nothing
	// was announced.
	lookInterval = 5 * time.Minute
	// awayDelay is the time between two tries while the runtime does not answer: it may
	// start after the agent.
	awayDelay = time.Second
)

// Importer is the runtime.
type Importer interface {
	// ImportImages reads an archive, and returns the names of its images once containers
	// can use them.
	ImportImages(ctx context.Context, archive io.Reader) ([]string, error)
}

// Options are what a Folder works with.
type Options struct {
	// Path is the folder; one that does not exist holds nothing.
	Path     string
	Importer Importer
	// Here says whether an image still is on this machine.
	Here func(ctx context.Context, name string) (bool, error)
	// Answers says by its error that the runtime does not.
	Answers func(ctx context.Context) error
	Clock   clock.WithTicker
	// Problem is told what is wrong with an archive, once for each change of that.
	Problem func(archive string, err error)
	// Imported is called after images have come.
	Imported func()
}

// Folder imports archives. Names and Ready may be called from many goroutines.
type Folder struct {
	Options
	first chan struct{}

	mu    sync.Mutex
	known map[string]archive
}

// archive is a file as it was when it was read.
type archive struct {
	size    int64
	changed time.Time
	names   []string
	problem string
}

func (a archive) sameFile(o archive) bool { return a.size == o.size && a.changed.Equal(o.changed) }

// NewFolder returns a Folder; Run makes it work.
func NewFolder(o Options) *Folder {
	return &Folder{Options: o, first: make(chan struct{}), known: map[string]archive{}}
}

// Ready returns when every archive has been read once by a runtime that answers, so that nobody asks a registry
// for an image that is about to be here.
func (f *Folder) Ready(ctx context.Context) error {
	select {
	case <-f.first:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Names returns the images of all archives: they must stay.
func (f *Folder) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, a := range f.known {
		names = append(names, a.names...)
	}
	return names
}

// Run imports what is there, and then what comes or changes, until ctx ends. A kernel
// that cannot announce changes leaves the interval.
func (f *Folder) Run(ctx context.Context) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot watch the folder of images, will look in intervals", "path", f.Path, "interval", lookInterval)
		watcher = &fsnotify.Watcher{}
	} else {
		defer func() { _ = watcher.Close() }() // nothing follows that could fail by it
	}
	ticker := f.Clock.NewTicker(lookInterval)
	defer ticker.Stop()
	settle := f.Clock.NewTimer(settleDelay)
	defer settle.Stop()
	for first := true; ; {
		if err == nil {
			if err := watcher.Add(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				klog.FromContext(ctx).Error(err, "Cannot watch the folder of images, will look in intervals", "path", f.Path)
			}
		}
		err := f.look(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			klog.FromContext(ctx).V(2).Info("The runtime does not answer, will import images when it does", "err", err)
			settle.Reset(awayDelay)
		case first:
			close(f.first)
			first = false
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C():
				again = true
			case <-settle.C():
				again = true
			case e := <-watcher.Events:
				if isArchive(filepath.Base(e.Name)) {
					settle.Reset(settleDelay)
				}
			case err := <-watcher.Errors:
				klog.FromContext(ctx).Error(err, "Watching the folder of images failed, will look in a while", "path", f.Path)
			}
		}
	}
}

// isArchive leaves out what is being written under another name, and what people keep
// beside.
func isArchive(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	return slices.ContainsFunc([]string{".tar", ".tar.gz", ".tgz", ".tar.zst"}, func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}

// look brings what is known in line with the folder. Its error says that the runtime does
// not answer, so that nothing can be said of what is left.
func (f *Folder) look(ctx context.Context) error {
	entries, err := os.ReadDir(f.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.FromContext(ctx).Error(err, "Cannot read the folder of images, will look again", "path", f.Path)
		return nil
	}
	present, imported := map[string]bool{}, false
	for _, entry := range entries {
		if !isArchive(entry.Name()) {
			continue
		}
		present[entry.Name()] = true
		did, err := f.lookAt(ctx, entry.Name())
		if imported = imported || did; err != nil || ctx.Err() != nil {
			return err
		}
	}
	f.mu.Lock()
	for name := range f.known {
		if !present[name] {
			delete(f.known, name)
		}
	}
	f.mu.Unlock()
	if imported {
		f.Imported()
	}
	return nil
}

// lookAt imports an archive that has changed, or whose images are gone, and says whether
// it did. Its error is that of look.
func (f *Folder) lookAt(ctx context.Context, name string) (imported bool, away error) {
	path := filepath.Join(f.Path, name)
	now, err := stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // removed since
	}
	f.mu.Lock()
	before, seen := f.known[name]
	f.mu.Unlock()
	if err == nil && seen && before.sameFile(now) && before.problem == "" && f.allHere(ctx, before.names) {
		return false, nil
	}
	if err == nil {
		if now.names, err = f.importFile(ctx, path); err != nil {
			away = f.Answers(ctx)
		}
	}
	if ctx.Err() != nil || away != nil {
		return false, away
	}
	if err != nil {
		now.problem, now.names = err.Error(), before.names // what it held before stays wanted
	}
	f.note(name, now)
	switch {
	case now.problem == "":
		klog.FromContext(ctx).Info("Imported images", "archive", path, "images", now.names)
	case now.problem != before.problem:
		f.Problem(path, err)
	}
	return now.problem == "", nil
}

// stat is an archive whose content nobody has read yet.
func stat(path string) (archive, error) {
	info, err := os.Stat(path)
	if err != nil {
		return archive{}, err
	}
	if !info.Mode().IsRegular() {
		return archive{}, fmt.Errorf("%s is no file", path)
	}
	return archive{size: info.Size(), changed: info.ModTime()}, nil
}

func (f *Folder) note(name string, a archive) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[name] = a
}

func (f *Folder) allHere(ctx context.Context, names []string) bool {
	for _, name := range names {
		if here, err := f.Here(ctx, name); err == nil && !here {
			return false
		}
	}
	return true
}

func (f *Folder) importFile(ctx context.Context, path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return f.Importer.ImportImages(ctx, file)
}
