package containerd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// execTimeout bounds one call to the shim about a command; runc itself may be slow.
const execTimeout = time.Minute

// Exec implements runtime.Streamer. A Read of Stdin that has begun may outlast it.
func (r *Runtime) Exec(ctx context.Context, containerID string, command []string, streams runtime.Streams) error {
	if len(command) == 0 {
		return errors.New("exec: no command was given")
	}
	o, err := r.runningContainer(ctx, containerID)
	if err != nil {
		return fmt.Errorf("failed to exec in container: %w", err)
	}
	spec, err := r.execSpec(ctx, o, command, streams.TTY)
	if err != nil {
		return fmt.Errorf("failed to exec in container: %w", err)
	}
	id := rand.Text()
	e := &execution{
		runtime: r, object: o, id: id, streams: streams, failed: make(chan error, 2),
		pipes: pipes{dir: r.execDir(o.id, id), stdin: streams.Stdin != nil, terminal: streams.TTY},
	}
	return e.run(ctx, spec)
}

// runningContainer finds a container that runs; the errors are those of containerd's
// CRI plug-in.
func (r *Runtime) runningContainer(ctx context.Context, id string) (*object, error) {
	if err := r.ensureSynced(ctx); err != nil {
		return nil, err
	}
	o := r.objects.get(id)
	if o == nil || o.record.Kind != kindContainer {
		return nil, fmt.Errorf("failed to find container %q in store: %w", id, errdefs.ErrNotFound)
	}
	if state := stateOf(r.objects.facts(o)); state != runtime.Running {
		return nil, fmt.Errorf("container is in %s state", criState(state))
	}
	return o, nil
}

func criState(s runtime.State) string {
	switch s {
	case runtime.Created:
		return "CONTAINER_CREATED"
	case runtime.Running:
		return "CONTAINER_RUNNING"
	case runtime.Exited:
		return "CONTAINER_EXITED"
	default:
		return "CONTAINER_UNKNOWN"
	}
}

// execSpec is the process of the container with another command: user, environment,
// folder and capabilities are the container's.
func (r *Runtime) execSpec(ctx context.Context, o *object, command []string, tty bool) (*specs.Process, error) {
	stored, err := r.client.ContainerService().Get(ctx, o.id)
	if err != nil {
		return nil, r.explain("read container "+o.id, err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(stored.Spec.GetValue(), &spec); err != nil {
		return nil, fmt.Errorf("decode the OCI spec of container %s: %w", o.id, err)
	}
	if spec.Process == nil {
		return nil, fmt.Errorf("the OCI spec of container %s has no process", o.id)
	}
	return execProcess(spec.Process, command, tty), nil
}

func execProcess(container *specs.Process, command []string, tty bool) *specs.Process {
	process := *container
	process.Args, process.Terminal, process.ConsoleSize = command, tty, nil
	if tty {
		process.Env = mergeEnv(container.Env, []string{terminalEnv})
	}
	return &process
}

// execution is one command in a container.
type execution struct {
	runtime *Runtime
	object  *object
	id      string
	pipes   pipes
	streams runtime.Streams
	// failed receives why the client cannot be served any more.
	failed chan error
	pid    uint32
}

func (e *execution) run(ctx context.Context, spec *specs.Process) (err error) {
	if err := e.pipes.make(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.pipes.remove()) }()
	ends, err := e.pipes.open()
	if err != nil {
		return err
	}
	defer ends.close()
	// A command that was created or started must be found again whatever happens to
	// ctx, so the calls about it do not end with it.
	detached := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, e.delete(detached)) }()
	if err := e.start(detached, spec); err != nil {
		return fmt.Errorf("failed to exec in container: failed to start exec %q: %w", e.id, native(err))
	}
	return e.serve(ctx, ends)
}

func (e *execution) start(ctx context.Context, spec *specs.Process) error {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	encoded, err := typeurl.MarshalAnyToProto(spec)
	if err != nil {
		return fmt.Errorf("encode the process: %w", err)
	}
	if _, err := e.runtime.client.TaskService().Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: e.object.id, ExecID: e.id, Spec: encoded, Terminal: e.pipes.terminal,
		Stdin: e.pipes.stdinPath(), Stdout: e.pipes.stdoutPath(), Stderr: e.pipes.stderrPath(),
	}); err != nil {
		return err
	}
	started, err := e.runtime.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: e.object.id, ExecID: e.id})
	if err != nil {
		return err
	}
	e.pid = started.Pid
	return nil
}

// serve moves data until the command has ended and its output is written.
func (e *execution) serve(ctx context.Context, ends openPipes) error {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	exit := make(chan exitResult, 1)
	go func() { exit <- e.wait(life) }()
	go e.resize(life)
	if ends.stdin != nil {
		go e.feed(life, ends.stdin)
	}
	output := e.drain(ends)

	var result exitResult
	select {
	case result = <-exit:
	case err := <-e.failed:
		return e.abort(life, ends, exit, output, err)
	case <-ctx.Done():
		return e.abort(life, ends, exit, output, context.Cause(ctx))
	}
	select {
	case <-output:
	case err := <-e.failed:
		return e.abort(life, ends, nil, output, err)
	case <-ctx.Done():
		return e.abort(life, ends, nil, output, context.Cause(ctx))
	}
	select {
	case err := <-e.failed:
		return err
	default:
		return result.error()
	}
}

// abort ends the command because nobody wants it any more.
func (e *execution) abort(ctx context.Context, ends openPipes, exit <-chan exitResult, output <-chan struct{}, reason error) error {
	if exit != nil {
		if err := e.runtime.killExec(ctx, e.object, e.id, e.pid); err != nil {
			reason = errors.Join(reason, err)
		} else {
			<-exit
		}
	}
	ends.close()
	<-output
	return fmt.Errorf("command was ended: %w", reason)
}

// drain copies the output; the channel is closed when both streams have ended.
func (e *execution) drain(ends openPipes) <-chan struct{} {
	var group sync.WaitGroup
	group.Go(func() { e.copyOut(e.streams.Stdout, ends.stdout) })
	if ends.stderr != nil {
		group.Go(func() { e.copyOut(e.streams.Stderr, ends.stderr) })
	}
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	return done
}

func (e *execution) copyOut(to io.Writer, from io.Reader) {
	if to == nil {
		to = io.Discard
	}
	if _, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from}); err != nil {
		e.failed <- fmt.Errorf("write the output of the command: %w", err)
	}
}

// feed copies the input. Its end is the command's end of file, but a terminal goes on:
// to close it would hang up on the command.
func (e *execution) feed(ctx context.Context, stdin io.WriteCloser) {
	// An error is the end of the client or of the command; both show elsewhere.
	_, _ = io.Copy(struct{ io.Writer }{stdin}, struct{ io.Reader }{e.streams.Stdin})
	if e.streams.TTY || ctx.Err() != nil {
		return
	}
	_ = stdin.Close()
	if err := e.runtime.closeStdin(ctx, e.object.id, e.id); err != nil && ctx.Err() == nil {
		e.runtime.options.Log.Error(err, "Cannot close the input of a command", "container", e.object.id)
	}
}

func (e *execution) resize(ctx context.Context) {
	e.runtime.followSize(ctx, e.object.id, e.id, e.streams)
}

func (e *execution) delete(ctx context.Context) error {
	return e.runtime.deleteExec(ctx, e.object.id, e.id)
}

// exitResult is how a command ended.
type exitResult struct {
	code uint32
	err  error
}

func (x exitResult) error() error {
	if x.err == nil && x.code != 0 {
		return &runtime.ExitError{Code: int(x.code)}
	}
	return x.err
}

// wait returns how the command ended. It outlives restarts of the daemon.
func (e *execution) wait(ctx context.Context) exitResult {
	for {
		got, err := e.runtime.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: e.object.id, ExecID: e.id})
		if err = native(err); err == nil {
			return exitResult{code: got.ExitStatus}
		}
		if ctx.Err() != nil || !errdefs.IsUnavailable(err) {
			return exitResult{err: e.runtime.explain("wait for the end of a command in "+e.object.id, err)}
		}
		e.runtime.pauseFor(ctx, retryInterval)
	}
}
