package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/logs"
)

// readSize is how much output one read takes.
const readSize = 32 << 10

// pump moves a container's output from its two named pipes into its log file. The shim
// holds both ends of the pipes open, so a pump may go and another come.
type pump struct {
	runtime *Runtime
	id      string
	file    *logs.File
	pipes   []*os.File
	// writers keep the pipes from ending before the shim has opened them.
	writers []*os.File
	// taken is the pipes' part of the budget.
	taken int
	ended chan struct{}
	// suspended: unfinished lines are continued by the next pump.
	mu        sync.Mutex
	suspended bool
	complain  sync.Once
}

func (r *Runtime) pipeDir(id string) string { return filepath.Join(r.options.StateDir, "pipes", id) }

func pipePath(dir string, stream logs.Stream) string { return filepath.Join(dir, string(stream)) }

// openPumpOf opens the pump of an object unless it has one. A fresh pump makes the
// pipes; an old one without pipes has nothing to read. The object is busy.
func (r *Runtime) openPumpOf(o *object, fresh bool) error {
	if o.pump != nil || o.record.Kind != kindContainer || o.record.LogPath == "" {
		return nil
	}
	p, err := r.openPump(o, fresh)
	if err != nil {
		return fmt.Errorf("follow the output of container %s: %w", o.id, err)
	}
	o.pump = p
	return nil
}

func (r *Runtime) openPump(o *object, fresh bool) (_ *pump, err error) {
	dir := r.pipeDir(o.id)
	p := &pump{runtime: r, id: o.id, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			p.closeFiles()
		}
	}()
	if fresh {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	streams := []logs.Stream{logs.Stdout, logs.Stderr}
	for _, stream := range streams {
		if err := p.openPipe(pipePath(dir, stream), fresh); err != nil {
			if !fresh && errors.Is(err, fs.ErrNotExist) {
				p.closeFiles()
				return nil, nil
			}
			return nil, err
		}
	}
	if p.file, err = logs.Open(o.record.LogPath, r.options.Clock); err != nil {
		if fresh {
			return nil, err
		}
		// The log's folder is gone; the output still has to be read, or the container
		// stops at a full pipe.
		r.options.Log.Error(err, "Cannot continue a container's log, its output is dropped", "container", o.id)
		p.file, err = logs.Open(os.DevNull, r.options.Clock)
		if err != nil {
			return nil, err
		}
	}
	var readers sync.WaitGroup
	for i, stream := range streams {
		readers.Go(func() { p.run(p.pipes[i], p.file.NewStream(stream)) })
	}
	go func() {
		readers.Wait()
		p.closeFiles()
		close(p.ended)
	}()
	return p, nil
}

func (p *pump) openPipe(path string, fresh bool) error {
	if fresh {
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make pipe %s: %w", path, err)
		}
		// Both ends: this open does not wait for anybody.
		writer, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		p.writers = append(p.writers, writer)
	}
	pipe, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	p.pipes = append(p.pipes, pipe)
	p.taken += p.runtime.pipes.enlarge(pipe, fresh)
	return nil
}

// run reads one pipe until its end. No buffer is held while the container is silent.
func (p *pump) run(pipe *os.File, writer *logs.StreamWriter) {
	err := p.read(pipe, writer)
	if err == nil {
		err = writer.Finish()
	} else if p.isSuspended() {
		err = writer.Suspend()
	}
	if err != nil {
		p.complainOnce(err)
	}
}

func (p *pump) read(pipe *os.File, writer *logs.StreamWriter) error {
	connection, err := pipe.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var n int
		var readErr error
		err := connection.Read(func(fd uintptr) bool {
			buffer := p.runtime.buffers.Get().(*[readSize]byte)
			defer p.runtime.buffers.Put(buffer)
			n, readErr = unix.Read(int(fd), buffer[:])
			if errors.Is(readErr, unix.EAGAIN) || errors.Is(readErr, unix.EINTR) {
				return false
			}
			if n > 0 {
				if _, err := writer.Write(buffer[:n]); err != nil {
					p.complainOnce(err)
				}
			}
			return true
		})
		switch {
		case err != nil:
			return err
		case readErr != nil:
			return readErr
		case n == 0:
			return nil
		}
	}
}

func (p *pump) complainOnce(err error) {
	p.complain.Do(func() {
		p.runtime.options.Log.Error(err, "Container output is not in its log from here on", "container", p.id)
	})
}

// connected drops the ends that were kept until the shim had opened its own.
func (p *pump) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, writer := range p.writers {
		_ = writer.Close()
	}
	p.writers = nil
}

// drain waits for the end of the output. At the timeout it gives up and returns false.
// When ctx ends first the rest is left to the next pump.
func (p *pump) drain(ctx context.Context, timeout <-chan time.Time) (bool, error) {
	p.connected()
	select {
	case <-p.ended:
		return true, nil
	case <-timeout:
		p.stop(false)
		return false, nil
	case <-ctx.Done():
		p.suspend()
		return false, fmt.Errorf("wait for the end of the output of container %s: %w", p.id, ctx.Err())
	}
}

// suspend stops reading; the next pump continues where this one stopped.
func (p *pump) suspend() { p.stop(true) }

func (p *pump) stop(suspended bool) {
	p.mu.Lock()
	p.suspended = suspended
	p.mu.Unlock()
	for _, pipe := range p.pipes {
		_ = pipe.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; a pipe cannot refuse it
	}
	<-p.ended
}

func (p *pump) isSuspended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.suspended
}

func (p *pump) closeFiles() {
	p.connected()
	for _, pipe := range p.pipes {
		_ = pipe.Close()
	}
	if p.file != nil {
		_ = p.file.Close()
	}
	p.runtime.pipes.release(p.taken)
	p.taken = 0
}

// closePumps suspends every pump, at the end of the process.
func (r *Runtime) closePumps() {
	for id := range r.objects.changes() {
		o := r.objects.get(id)
		if o == nil {
			continue
		}
		o.busy.Lock()
		if o.pump != nil {
			o.pump.suspend()
			o.pump = nil
		}
		o.busy.Unlock()
	}
}
