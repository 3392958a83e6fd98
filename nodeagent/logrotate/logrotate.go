// Package logrotate keeps the logs of running containers from growing without end: a log
// that has become too large is renamed, its writer is told to open the path again, and
// what was put aside earlier is compressed or removed. Names and numbers are those of
// upstream's kubelet (pkg/kubelet/logs).
//
// It never touches a log's content, never compresses a file that may still be written,
// and keeps nothing in memory that the names of the files do not say. It may die between
// any two steps: a log that is not at its path means that its writer has not been told
// yet, and is told again; half of a compressed file has another name.
package logrotate

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/logs"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/state"
)

// Containers is what the runtime holds; runtime.Storage has it.
type Containers interface {
	Peek(ctx context.Context) ([]runtime.PodState, error)
	ReopenLog(ctx context.Context, containerID string) error
}

// Options are what a Rotator works with.
type Options struct {
	Containers Containers
	// MaxSize is how large a log may be when it is looked at, in bytes; a negative number
	// switches rotation off.
	MaxSize int64
	// MaxFiles is how many files a container may have, the one that is written included;
	// at least 2.
	MaxFiles int
	// Workers is how many logs are rotated at a time, Interval how often all are looked at.
	Workers  int
	Interval time.Duration
	Clock    clock.WithTicker
}

// Rotator rotates logs.
type Rotator struct{ Options }

// New returns a Rotator.
func New(o Options) *Rotator { return &Rotator{o} }

// Run looks at all logs now and then until ctx ends.
func (r *Rotator) Run(ctx context.Context) {
	if r.MaxSize < 0 {
		return
	}
	ticker := r.Clock.NewTicker(r.Interval)
	defer ticker.Stop()
	for {
		if err := r.Rotate(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot rotate the logs of all containers, will retry")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// Rotate looks at the log of every running container once.
func (r *Rotator) Rotate(ctx context.Context) error {
	pods, err := r.Containers.Peek(ctx)
	if err != nil {
		return fmt.Errorf("listing the containers: %w", err)
	}
	var mu sync.Mutex
	var errs []error
	fail := func(pod runtime.PodState, c runtime.Container, err error) {
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("container %s of Pod %s/%s: %w", c.Name, pod.Namespace, pod.Name, err))
		}
	}
	var group sync.WaitGroup
	turns := make(chan struct{}, max(r.Workers, 1))
	for _, pod := range pods {
		for _, c := range pod.Containers {
			if c.LogPath == "" {
				continue
			}
			if c.State == runtime.Exited {
				fail(pod, c, restore(c.LogPath))
			}
			if c.State != runtime.Running {
				continue
			}
			due, err := r.due(c.LogPath)
			if err == nil && !due {
				continue
			}
			turns <- struct{}{}
			group.Go(func() {
				defer func() { <-turns }()
				if err == nil {
					err = r.rotate(ctx, c)
				}
				fail(pod, c, err)
			})
		}
	}
	group.Wait()
	return errors.Join(errs...)
}

// restore gives the log of a container that ended between renaming and telling its name
// back: nothing was written after it.
func restore(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	files, err := logs.Rotated(path)
	if err != nil || len(files) == 0 {
		return err
	}
	latest := files[len(files)-1]
	if strings.HasSuffix(latest, logs.CompressedSuffix) || strings.HasSuffix(latest, logs.TemporarySuffix) {
		return nil // not the one that was put aside last
	}
	if err := os.Rename(latest, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("giving a log its name back: %w", err)
	}
	return nil
}

// due says that the log is too large, or not at its path.
func (r *Rotator) due(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return info.Size() >= r.MaxSize, nil
}

// rotate works on one log.
func (r *Rotator) rotate(ctx context.Context, c runtime.Container) error {
	if _, err := os.Lstat(c.LogPath); errors.Is(err, fs.ErrNotExist) {
		// Renamed by an agent that died then, or the writer could not be told: what was
		// put aside last may still be written.
		return r.Containers.ReopenLog(ctx, c.ID)
	}
	files, err := logs.Rotated(c.LogPath)
	if err != nil {
		return err
	}
	// One more is put aside below, and the writer makes another.
	p := computePlan(files, max(r.MaxFiles-2, 0))
	for _, file := range p.Remove {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing an old log: %w", err)
		}
	}
	for _, file := range p.Compress {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := compress(ctx, file); err != nil {
			return fmt.Errorf("compressing an old log: %w", err)
		}
	}
	return r.putAside(ctx, c)
}

// putAside renames the log and has another one begun.
func (r *Rotator) putAside(ctx context.Context, c runtime.Container) error {
	aside := c.LogPath + "." + r.Clock.Now().Format(stampFormat)
	for _, taken := range []string{aside, aside + logs.CompressedSuffix} {
		if _, err := os.Lstat(taken); err == nil {
			return nil // put aside in this very second: later
		}
	}
	if err := os.Rename(c.LogPath, aside); err != nil {
		return fmt.Errorf("putting the log aside: %w", err)
	}
	err := r.Containers.ReopenLog(ctx, c.ID)
	if err == nil {
		klog.FromContext(ctx).V(4).Info("Put a container's log aside", "container", c.Name, "log", aside)
		return nil
	}
	// The writer goes on in the file that it has open: it gets its name back, unless the
	// writer has begun another one after all.
	if backErr := os.Link(aside, c.LogPath); backErr == nil {
		err = errors.Join(err, os.Remove(aside))
	} else if !errors.Is(backErr, fs.ErrExist) {
		err = errors.Join(err, backErr)
	}
	return err
}

// compress replaces a file by a compressed one with logs.CompressedSuffix. When it is
// interrupted one of both is whole and has its name.
func compress(ctx context.Context, path string) (err error) {
	from, err := state.OpenRegular(path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // it was only read
	info, err := from.Stat()
	if err != nil {
		return err
	}
	temporary := path + logs.TemporarySuffix
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = to.Close()           // it may be closed
			_ = os.Remove(temporary) // it may have its name; else it is left over, and known as such
		}
	}()
	writer := gzip.NewWriter(to)
	if _, err = io.Copy(writer, &interruptible{ctx, from}); err != nil {
		return err
	}
	if err = writer.Close(); err != nil {
		return err
	}
	if err = to.Sync(); err != nil { // before the original goes
		return err
	}
	if err = to.Close(); err != nil {
		return err
	}
	if err = os.Rename(temporary, path+logs.CompressedSuffix); err != nil {
		return err
	}
	return os.Remove(path)
}

// interruptible reads until its context ends.
type interruptible struct {
	ctx  context.Context //nolint:containedctx // io.Reader takes none
	from io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.from.Read(p)
}
