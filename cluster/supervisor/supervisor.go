package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/internal/process"
)

// Options of a supervisor.
type Options struct {
	Components []Component
	// Owner marks the children; see Leftovers.
	Owner string
	// LogDir, StateFile and LockFile are where logs, state and the lock go.
	LogDir    string
	StateFile string
	LockFile  string
	Clock     clock.WithTicker
}

// ErrRunning is returned when another supervisor holds the lock.
var ErrRunning = errors.New("another supervisor is running")

type supervisor struct {
	options Options
	board   *board
	// ready and stopped are closed when the component was ready for the first
	// time, and when it will not run any more.
	ready   map[string]chan struct{}
	stopped map[string]chan struct{}
}

// Run keeps the components up until ctx ends, then stops them, dependents first.
func Run(ctx context.Context, o Options) error {
	if err := checkComponents(o.Components); err != nil {
		return err
	}
	unlock, err := lock(o.LockFile)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(o.LogDir, 0o750); err != nil {
		return fmt.Errorf("create the directory of logs: %w", err)
	}
	s, err := newSupervisor(ctx, o)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	for _, c := range o.Components {
		group.Go(func() {
			defer close(s.stopped[c.Name])
			s.keepUp(ctx, c)
		})
	}
	logs, stopLogs := context.WithCancel(context.WithoutCancel(ctx))
	var logGroup sync.WaitGroup
	logGroup.Go(func() { s.keepLogsSmall(logs) })
	group.Wait()
	stopLogs()
	logGroup.Wait()
	return nil
}

func newSupervisor(ctx context.Context, o Options) (*supervisor, error) {
	self, err := process.Of(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("look at this process: %w", err)
	}
	now := o.Clock.Now()
	s := &supervisor{
		options: o,
		board: &board{
			path:    o.StateFile,
			now:     o.Clock.Now,
			onError: func(err error) { klog.FromContext(ctx).Error(err, "Cannot publish the state") },
			state:   State{Supervisor: self, StartedAt: now},
		},
		ready:   map[string]chan struct{}{},
		stopped: map[string]chan struct{}{},
	}
	for _, c := range o.Components {
		s.ready[c.Name] = make(chan struct{})
		s.stopped[c.Name] = make(chan struct{})
		s.board.state.Components = append(s.board.state.Components, ComponentState{Name: c.Name, Phase: Waiting, Since: now})
	}
	return s, s.board.write()
}

// lock makes this process the only supervisor of its data. The kernel drops the
// lock when the process ends, however it ends; children do not inherit it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		closeErr := f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: it holds %s", ErrRunning, path)
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), closeErr)
	}
	return func() { _ = f.Close() }, nil // closing drops the lock
}

// keepUp runs one component until ctx ends.
func (s *supervisor) keepUp(ctx context.Context, c Component) {
	log := klog.FromContext(ctx).WithValues("component", c.Name)
	if !s.waitFor(ctx, c) {
		s.set(c.Name, Stopped, "")
		return
	}
	var wait backoff
	for {
		started := s.options.Clock.Now()
		err := s.once(ctx, c)
		if ctx.Err() != nil || err == nil { // a program never ends without an error
			break
		}
		wait = wait.next(s.options.Clock.Since(started))
		log.Info("Component ended and starts again", "reason", err, "after", time.Duration(wait))
		s.set(c.Name, BackingOff, err.Error())
		select {
		case <-ctx.Done():
		case <-s.options.Clock.After(time.Duration(wait)):
			continue
		}
		break
	}
	<-ctx.Done()
	if !c.Leave {
		s.set(c.Name, Stopped, "")
	}
	log.V(2).Info("Component stopped")
}

// waitFor returns true once every dependency was ready.
func (s *supervisor) waitFor(ctx context.Context, c Component) bool {
	for _, d := range c.DependsOn {
		s.set(c.Name, Waiting, "waits for "+d)
		select {
		case <-ctx.Done():
			return false
		case <-s.ready[d]:
		}
	}
	return true
}

// once runs the task, waits for the condition, or starts the program and returns
// when it has ended.
func (s *supervisor) once(ctx context.Context, c Component) error {
	switch {
	case c.Command != nil:
		return s.runProgram(ctx, c)
	case c.Task != nil:
		s.started(c.Name, 0)
		if err := c.Task(ctx); err != nil {
			return err
		}
		s.markReady(c.Name)
		return nil
	default:
		s.started(c.Name, 0)
		s.waitReady(ctx, c)
		return nil
	}
}

func (s *supervisor) started(name string, pid int) {
	s.board.update(name, func(c *ComponentState) {
		c.Phase, c.PID, c.Message = Starting, pid, ""
		c.Starts++
	})
}

func (s *supervisor) set(name string, phase Phase, message string) {
	s.board.update(name, func(c *ComponentState) {
		c.Phase, c.Message = phase, message
		if phase == BackingOff || phase == Stopped {
			c.PID = 0
		}
	})
}

func (s *supervisor) markReady(name string) {
	s.set(name, Ready, "")
	select {
	case <-s.ready[name]:
	default:
		close(s.ready[name]) // one goroutine at a time gets here: the program's probe, or the task
	}
}
