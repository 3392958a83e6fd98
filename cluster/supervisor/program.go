package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/cluster/internal/process"
)

const (
	probeTimeout = 5 * time.Second
	// Until it is ready a program is asked often, because somebody waits for it.
	probePeriodStarting = 100 * time.Millisecond
	probePeriodReady    = 5 * time.Second
	defaultStopTimeout  = 10 * time.Second
)

// runProgram starts the program and returns why it ended. When ctx ends it stops
// the program, after everything that depends on it.
func (s *supervisor) runProgram(ctx context.Context, c *unit) error {
	log := LogFile(s.options.LogDir, c.Name)
	before := sizeOf(log)
	cmd, err := s.start(c.Component)
	if err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Started component", "component", c.Name, "pid", cmd.Process.Pid)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()

	probing, stopProbing := context.WithCancel(ctx)
	var probe sync.WaitGroup
	probe.Go(func() { s.probe(probing, c) })
	defer probe.Wait()
	defer stopProbing()

	select {
	case err := <-exited:
		return withLastWords(describeExit(err), lastLine(log, before))
	case <-ctx.Done():
	}
	if c.Leave || c.forgotten() {
		return nil
	}
	for _, dependent := range s.dependents(c.Name) {
		<-dependent.stopped
	}
	return s.stop(c.Component, cmd.Process, exited)
}

func (s *supervisor) start(c Component) (*exec.Cmd, error) {
	log, err := openLog(LogFile(s.options.LogDir, c.Name))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	args := c.Command.Args
	if c.Command.ArgsNow != nil {
		args = c.Command.ArgsNow()
	}
	cmd := exec.Command(c.Command.Path, args...)
	cmd.Env = append(append(os.Environ(), c.Command.Env...), process.Mark(s.options.Owner, c.Name)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = process.Detached()
	start := cmd.Start
	if c.Command.Within != nil {
		start = func() error { return c.Command.Within(cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Command.Path, err)
	}
	s.started(c.Name, cmd.Process.Pid)
	return cmd, nil
}

// stop ends a child. It is not reaped before exited says so, hence its pid cannot
// have been reused.
func (s *supervisor) stop(c Component, p *os.Process, exited <-chan error) error {
	grace := c.StopTimeout
	if grace == 0 {
		grace = defaultStopTimeout
	}
	if err := p.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.Name, err)
	}
	select {
	case err := <-exited:
		return describeExit(err)
	case <-s.options.Clock.After(grace):
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", c.Name, err)
	}
	return describeExit(<-exited)
}

func (s *supervisor) probe(ctx context.Context, c *unit) {
	for {
		period := s.probeOnce(ctx, c)
		select {
		case <-ctx.Done():
			return
		case <-s.options.Clock.After(period):
		}
	}
}

// waitReady returns when the component was ready once, or ctx ended.
func (s *supervisor) waitReady(ctx context.Context, c *unit) {
	for s.probeOnce(ctx, c) != probePeriodReady {
		select {
		case <-ctx.Done():
			return
		case <-s.options.Clock.After(probePeriodStarting):
		}
	}
}

func (s *supervisor) probeOnce(ctx context.Context, c *unit) (again time.Duration) {
	var err error
	if c.Ready != nil {
		attempt, cancel := context.WithTimeout(ctx, probeTimeout)
		err = c.Ready(attempt)
		cancel()
	}
	switch {
	case ctx.Err() != nil:
		return 0
	case err != nil:
		s.set(c.Name, Starting, err.Error())
		return probePeriodStarting
	}
	s.markReady(c)
	return probePeriodReady
}

// withLastWords adds what a program printed last, which is usually why it ended,
// unless somebody killed it.
func withLastWords(err error, words string) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if words == "" || ok && !exit.Exited() {
		return err
	}
	return fmt.Errorf("%w: %s", err, words)
}

// describeExit never returns nil: a program that is kept up must not end.
func describeExit(err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return errors.New("ended by itself with exit code 0")
	case errors.As(err, &exit):
		return fmt.Errorf("ended: %w", exit)
	default:
		return fmt.Errorf("wait for its end: %w", err)
	}
}
