package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// changes tells when a log file may have changed. It watches the folder: a file that
// takes the place of another is not the one that was watched.
type changes struct {
	watcher *fsnotify.Watcher
	path    string
}

func watch(path string) (*changes, error) {
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) { // it was renamed, and is made again in the same folder
		target, err = filepath.EvalSymlinks(filepath.Dir(path))
		target = filepath.Join(target, filepath.Base(path))
	}
	if err != nil {
		return nil, fmt.Errorf("open container log: %w", err)
	}
	path = target
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch container log %s: %w", path, err)
	}
	if err := watcher.Add(filepath.Dir(path)); err != nil {
		_ = watcher.Close() // the first error says it all
		return nil, fmt.Errorf("watch container log %s: %w", path, err)
	}
	return &changes{watcher: watcher, path: path}, nil
}

func (c *changes) close() { _ = c.watcher.Close() } // it only gives back a descriptor

// wait returns after a change, or when ended is closed; an error says that ctx ended or
// the kernel cannot tell.
func (c *changes) wait(ctx context.Context, ended <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return nil
		case err := <-c.watcher.Errors:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				return nil // some were lost
			}
			return err
		case event := <-c.watcher.Events:
			if event.Name == c.path && event.Op != fsnotify.Chmod {
				return nil
			}
		}
	}
}
