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
	// Version is what the published state says of the programs.
	Version string
	// Owner marks the children; see Leftovers.
	Owner string
	// LogDir, StateFile and LockFile are where logs, state and the lock go.
	LogDir    string
	StateFile string
	LockFile  string
	Clock     clock.WithTicker
	// Changes, unless nil, are made while the supervisor runs.
	Changes <-chan Change
	// Prepare, unless nil, runs before any component, when no other supervisor runs and
	// none can begin.
	Prepare func(ctx context.Context) error
}

// ErrRunning is returned when another supervisor holds the lock.
var ErrRunning = errors.New("another supervisor is running")

type supervisor struct {
	options Options
	board   *board

	// running has one goroutine for each unit.
	running sync.WaitGroup
	mu      sync.Mutex
	units   []*unit
}

// Run keeps the components up until ctx ends, then stops them, dependents first.
func Run(ctx context.Context, o Options) error {
	unlock, err := lock(o.LockFile)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(o.LogDir, 0o750); err != nil {
		return fmt.Errorf("create the directory of logs: %w", err)
	}
	if o.Prepare != nil {
		if err := o.Prepare(ctx); err != nil {
			return err
		}
	}
	s, err := newSupervisor(ctx, o)
	if err != nil {
		return err
	}
	if err := s.change(ctx, Change{Add: o.Components}); err != nil {
		return err
	}
	logs, stopLogs := context.WithCancel(context.WithoutCancel(ctx))
	var logGroup sync.WaitGroup
	logGroup.Go(func() { s.keepLogsSmall(logs) })
	s.followChanges(ctx)
	s.running.Wait()
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
			state:   State{Supervisor: self, Version: o.Version, StartedAt: now},
		},
	}
	return s, nil
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
func (s *supervisor) keepUp(ctx context.Context, c *unit) {
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
		s.set(c.Name, Stopped, "") // no more than a note where it is forgotten
	}
	log.V(2).Info("Component stopped")
}

// waitFor returns true once every dependency was ready.
func (s *supervisor) waitFor(ctx context.Context, c *unit) bool {
	for _, d := range c.dependsOn {
		s.set(c.Name, Waiting, "waits for "+d.Name)
		select {
		case <-ctx.Done():
			return false
		case <-d.ready:
		}
	}
	return true
}

// once runs the task, waits for the condition, or starts the program and returns
// when it has ended.
func (s *supervisor) once(ctx context.Context, c *unit) error {
	switch {
	case c.Command != nil:
		return s.runProgram(ctx, c)
	case c.Task != nil:
		s.started(c.Name, 0)
		if err := c.Task(ctx); err != nil {
			return err
		}
		s.markReady(c)
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

func (s *supervisor) markReady(c *unit) {
	s.set(c.Name, Ready, "")
	select {
	case <-c.ready:
	default:
		close(c.ready) // one goroutine at a time gets here: the program's probe, or the task
	}
}
