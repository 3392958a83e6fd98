package containerd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/containerd"
)

// session is one attached client.
type session struct {
	*fixture
	typed    *io.PipeWriter
	out, bad screen
	done     chan error
	cancel   context.CancelFunc
}

func (f *fixture) attach(id string, tty bool, sizes chan runtime.TerminalSize) *session {
	f.t.Helper()
	s := &session{fixture: f, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	keys, typed := io.Pipe()
	s.typed = typed
	streams := runtime.Streams{Stdin: keys, Stdout: &s.out, Stderr: &s.bad, TTY: tty, Resize: sizes}
	r := f.Runtime
	go func() { s.done <- r.Attach(ctx, id, streams) }()
	f.t.Cleanup(func() {
		cancel()
		_ = typed.Close()
	})
	return s
}

func (s *session) send(text string) {
	s.t.Helper()
	_, err := io.WriteString(s.typed, text)
	s.must(err)
}

// answer sends a line until its answer shows: a session joins a little after Attach is
// called.
func (s *session) answer(line, want string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%q is answered with %q", line, want), func() bool {
		s.send(line)
		return strings.Contains(s.out.String(), want)
	})
}

func (p *pod) interactive(name string, edit func(*runtime.ContainerConfig), command ...string) string {
	p.t.Helper()
	config := p.config(name, command...)
	config.Stdin = true
	if edit != nil {
		edit(&config)
	}
	return p.run(config)
}

const echoLines = "while read line; do echo got $line; echo error $line >&2; done; echo input ended; exit 5"

func TestAttachToAnInput(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.interactive("main", nil, "sh", "-c", echoLines)
	first, second := f.attach(id, false, nil), f.attach(id, false, nil)
	first.answer("one\n", "got one\n")
	first.waitText(&first.bad, "error one\n")
	second.answer("two\n", "got two\n")
	f.waitText(&first.out, "got two\n")

	// The end of a client's input ends its session and nothing else.
	f.must(first.typed.Close())
	f.must(<-first.done)
	second.answer("three\n", "got three\n")
	if strings.Contains(first.out.String(), "three") {
		t.Error("a session that has ended got output")
	}
	// So does a client that leaves.
	second.cancel()
	if err := <-second.done; err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("the session ended with %v", err)
	}
	third := f.attach(id, false, nil)
	third.answer("four\n", "got four\n")
	f.must(f.StopContainer(t.Context(), id, 0))
	f.must(<-third.done)
	for _, want := range []string{"got one", "got two", "got three", "got four", "error four"} {
		if !strings.Contains(p.output(id), want+"\n") {
			t.Errorf("the log does not hold %q", want)
		}
	}
}

func TestAttachOnce(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.interactive("main", func(c *runtime.ContainerConfig) { c.StdinOnce = true }, "sh", "-c", echoLines)
	s := f.attach(id, false, nil)
	s.answer("one\n", "got one\n")
	f.must(s.typed.Close())
	f.must(<-s.done)
	if !strings.HasSuffix(s.out.String(), "input ended\n") {
		t.Errorf("output %q", s.out.String())
	}
	if got := p.waitExited(id); got.ExitCode != 5 {
		t.Errorf("ended as %+v", got)
	}
}

func TestAttachToATerminal(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.interactive("main", func(c *runtime.ContainerConfig) { c.TTY, c.StdinOnce = true, true }, "sh")
	sizes := make(chan runtime.TerminalSize, 1)
	s := f.attach(id, true, sizes)
	sizes <- runtime.TerminalSize{Width: 101, Height: 37}
	s.answer("stty size; echo $TERM\n", "37 101\r\n")
	s.waitText(&s.out, "xterm\r\n")

	// Leaving a terminal does not hang up, whatever stdinOnce says.
	s.cancel()
	if err := <-s.done; !errors.Is(err, context.Canceled) {
		t.Errorf("the session ended with %v", err)
	}
	f.must(s.typed.Close())
	s = f.attach(id, true, nil)
	s.answer("echo still $((1+1))\n", "still 2\r\n")
	s.send("exit 3\n")
	f.must(<-s.done)
	if got := p.waitExited(id); got.ExitCode != 3 {
		t.Errorf("ended as %+v", got)
	}
	if !strings.Contains(p.output(id), "still 2\r\n") {
		t.Errorf("log %q", p.output(id))
	}
}

func TestInteractiveOverRestarts(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.interactive("main", nil, "sh", "-c", "printf 'prompt> '; "+echoLines)
	p.waitOutput(id, "prompt> ")
	s := f.attach(id, false, nil)
	s.answer("before\n", "got before\n")
	f.restartAgent()
	if err := <-s.done; err == nil || !strings.Contains(err.Error(), "the node agent ends") {
		t.Errorf("the session ended with %v", err)
	}

	s = f.attach(id, false, nil)
	s.answer("after\n", "got after\n")
	f.daemon.Kill()
	s.answer("alone\n", "got alone\n")
	f.daemon.Restart()
	f.eventually("containerd answers", func() bool {
		_, err := f.List(t.Context())
		return err == nil
	})
	s.answer("again\n", "got again\n")
	if strings.Contains(p.output(id), "input ended") {
		t.Error("a restart has ended the input")
	}
	f.must(f.StopContainer(t.Context(), id, 0))
	f.must(<-s.done)
}

func TestInteractiveOutputWaitsForTheAgent(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	script, mount, proceed := f.waiting(talk + "; sleep 1000")
	id := p.interactive("main", func(c *runtime.ContainerConfig) { c.Mounts = []runtime.Mount{mount} }, "sh", "-c", script)
	p.waitOutput(id, "ready")
	f.must(f.Close())
	proceed()
	f.connect()
	p.waitOutput(id, "line 4999 ")
	p.checkNumbered(id, 5000)
}

func TestInteractiveExitIsAnnouncedAfterTheLastOutput(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	events := f.Events(t.Context())
	id := p.interactive("main", nil, "sh", "-c", "seq 1 60000; printf last")
	for event := range events {
		if event.ContainerID == id && event.Type == runtime.ContainerExited {
			break
		}
	}
	if got := p.output(id); !strings.HasSuffix(got, "60000\nlast\n") {
		t.Errorf("the log ends in %q", got[max(0, len(got)-40):])
	}
}

func TestInteractiveContainerThatCannotStart(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	config := p.config("main", "nonesuch")
	config.Stdin = true
	id, err := f.CreateContainer(t.Context(), config)
	f.must(err)
	if err := f.StartContainer(t.Context(), id); err == nil || !strings.Contains(err.Error(), "executable file not found") {
		t.Errorf("StartContainer = %v", err)
	}
	if got := p.container(id); got.Reason != "StartError" {
		t.Errorf("ended as %+v", got)
	}
}

func TestAttachToALog(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("main", "i=0; while [ ! -e /tmp/end ]; do echo $((i=i+1)); echo bad >&2; sleep 0.05; done; echo last")
	p.waitOutput(id, "3\n")
	s := f.attach(id, false, nil)
	s.eventually("output arrives", func() bool { return s.out.String() != "" && s.bad.String() != "" })
	if strings.HasPrefix(s.out.String(), "1\n") {
		t.Error("the past was sent")
	}
	f.must(f.Exec(t.Context(), id, []string{"touch", "/tmp/end"}, runtime.Streams{}))
	f.must(<-s.done)
	if !strings.HasSuffix(s.out.String(), "last\n") {
		t.Errorf("output %q", s.out.String())
	}
}

func TestJoinTheProcessesOfAnother(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	target := p.shell("main", "exec sleep 4321")
	config := p.config("debugger", "sh", "-c", "cat /proc/1/cmdline; echo; sleep 1000 & wait")
	config.PIDTargetID = target
	debugger := p.run(config)
	p.waitOutput(debugger, "sleep\x004321")

	f.must(f.StopContainer(t.Context(), debugger, 0))
	if got := p.container(target); got.State != runtime.Running {
		t.Errorf("the target is %v", got.State)
	}
	f.eventually("nothing of the debugger runs", func() bool { return p.processes(target) == 4 })

	second := p.config("debugger", "sleep", "1000")
	second.PIDTargetID = target
	id := p.run(second)
	f.must(f.StopContainer(t.Context(), target, 0))
	p.waitExited(id)

	third := p.config("debugger", "true")
	third.PIDTargetID = target
	if _, err := f.CreateContainer(t.Context(), third); err == nil || !strings.Contains(err.Error(), "is not running - in state CONTAINER_EXITED") {
		t.Errorf("CreateContainer = %v", err)
	}
}

func TestShareTheProcessesOfThePod(t *testing.T) {
	f := newFixture(t)
	p := f.newPod(func(c *runtime.SandboxConfig) { c.SharePID = true })
	config := p.config("main", "sh", "-c", "sleep 4322 & wait")
	config.SharePID = true
	main := p.run(config)
	other := p.config("other", "sh", "-c", "while ! grep -q 4322 /proc/*/cmdline; do sleep 0.02; done; echo seen; echo $HOSTNAME; cat /proc/1/cmdline; echo")
	other.SharePID, other.Hostname = true, "box"
	got := p.waitExited(p.run(other))
	if out := p.output(got.ID); out != "seen\nbox\n/pause\x00\n" {
		t.Errorf("it saw %q", out)
	}
	f.must(f.StopContainer(t.Context(), main, 0))
	if got := p.waitExited(main); got.ExitCode != 137 {
		t.Errorf("ended as %+v", got)
	}
	if left := f.daemon.Processes("sleep 4322"); len(left) > 0 {
		t.Errorf("processes left of an ended container: %v", left)
	}
}

var _ runtime.Streamer = (*containerd.Runtime)(nil)
