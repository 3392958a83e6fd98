package staticpods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	// maxManifest is the most that is read of a manifest, in bytes, as upstream.
	maxManifest = 10 << 20
	// settleDelay lets a file be written to its end before it is read.
	settleDelay = 100 * time.Millisecond
)

// Report is told what is wrong with a manifest at place; nil says that it is good again.
// It is called once for each change of that.
type Report func(place string, err error)

// Files reads the manifests in a folder, or in a single file.
type Files struct {
	// Path is the folder or the file, Node the name of the node, Interval how often all
	// is read again although nothing was announced.
	Path, Node string
	Interval   time.Duration
	Clock      clock.WithTicker
	Report     Report

	// good holds the Pods of each file as they were when it was last readable.
	good     map[string][]*keelsonv1.Pod
	problems problems
}

// Run reads at once, then after each change, and gives all Pods to set each time. Set is
// called with the first ones before started is; a path that does not exist holds none.
// A kernel that cannot announce changes leaves the interval.
func (f *Files) Run(ctx context.Context, set func([]*keelsonv1.Pod), started func()) {
	f.good, f.problems = map[string][]*keelsonv1.Pod{}, problems{report: f.Report}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot watch manifests, will read them in intervals", "path", f.Path, "interval", f.Interval)
		watcher = &fsnotify.Watcher{}
	} else {
		defer func() { _ = watcher.Close() }() // nothing follows that could fail by it
	}
	ticker := f.Clock.NewTicker(f.Interval)
	defer ticker.Stop()
	settle := f.Clock.NewTimer(0)
	defer settle.Stop()
	for first := true; ; first = false {
		if err == nil {
			f.watch(ctx, watcher)
		}
		if pods, err := f.read(); err == nil {
			set(pods)
			f.problems.say(f.Path, nil)
		} else {
			f.problems.say(f.Path, err) // what runs goes on
		}
		if first {
			started()
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
				if f.concerns(e.Name) {
					settle.Reset(settleDelay)
				}
			case err := <-watcher.Errors:
				klog.FromContext(ctx).Error(err, "Watching manifests failed, will read them in a while", "path", f.Path)
			}
		}
	}
}

// watch asks for announcements; a folder that was made anew needs it again. Without
// them the interval finds changes.
func (f *Files) watch(ctx context.Context, watcher *fsnotify.Watcher) {
	dir := f.Path
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	if err := watcher.Add(dir); err != nil {
		klog.FromContext(ctx).V(4).Info("Cannot watch for manifests", "path", dir, "err", err)
	}
}

// concerns says that a file of this name may be a manifest.
func (f *Files) concerns(name string) bool {
	if info, err := os.Stat(f.Path); err == nil && !info.IsDir() {
		return true // a link may lead to what changed
	}
	return !strings.HasPrefix(filepath.Base(name), ".")
}

// read returns the Pods of all manifests, in the order of the files' names. One that
// cannot be used is reported; what it said before goes on.
func (f *Files) read() ([]*keelsonv1.Pod, error) {
	paths, err := f.paths()
	if err != nil {
		return nil, err
	}
	var pods []*keelsonv1.Pod
	good := map[string][]*keelsonv1.Pod{}
	for _, path := range paths {
		found, err := f.readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		f.problems.say(path, err)
		if err != nil {
			found = f.good[path]
		}
		good[path] = found
		pods = append(pods, found...)
	}
	for path := range f.good {
		if _, still := good[path]; !still {
			f.problems.forget(path)
		}
	}
	f.good = good
	return pods, nil
}

func (f *Files) paths() ([]string, error) {
	info, err := os.Stat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the manifests: %w", err)
	case !info.IsDir():
		return []string{f.Path}, nil
	}
	entries, err := os.ReadDir(f.Path)
	if err != nil {
		return nil, fmt.Errorf("reading the manifests: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			paths = append(paths, filepath.Join(f.Path, e.Name()))
		}
	}
	return paths, nil
}

func (f *Files) readFile(path string) ([]*keelsonv1.Pod, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("provided manifest path is a directory, not recursing into manifest path")
	case !info.Mode().IsRegular():
		return nil, errors.New("manifest path is not a directory or file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := readAtMost(file)
	if err != nil {
		return nil, err
	}
	return parse(data, origin{source: SourceFile, place: path, node: f.Node})
}

func readAtMost(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("the manifest is larger than %d bytes", maxManifest)
	}
	return data, err
}

// problems says what changes of what is wrong.
type problems struct {
	report Report
	said   map[string]string
}

func (p *problems) say(place string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if p.said[place] == text {
		return
	}
	if p.said == nil {
		p.said = map[string]string{}
	}
	p.said[place] = text
	p.report(place, err)
}

// forget drops a place that is no more.
func (p *problems) forget(place string) { delete(p.said, place) }
