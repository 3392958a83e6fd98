package containerd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// screen is a terminal's or a pipe's other end: it can be written to while it is read.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (f *fixture) waitText(s *screen, want string) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("the output holds %q", want), func() bool { return strings.Contains(s.String(), want) })
}

func (f *fixture) checkNoExecLeft() {
	f.t.Helper()
	if left, err := os.ReadDir(filepath.Join(f.stateDir, "execs")); err == nil && len(left) > 0 {
		f.t.Errorf("pipes left: %v", left)
	}
}

func TestExec(t *testing.T) {
	f := newFixture(t)
	image := f.pull(f.push("user:1", func(s *imagebuild.Spec) { s.Config.User = "app" }))
	p := f.newPod()
	config := p.config("main", "sleep", "1000")
	config.ImageRef, config.Env, config.WorkingDir = image.Ref, []string{"COLOUR=blue"}, "/tmp"
	id := p.run(config)
	tests := map[string]struct {
		command            []string
		stdin              string
		wantOut, wantError string
		wantCode           int
	}{
		"its output is separate":     {command: []string{"sh", "-c", "echo out; echo bad >&2"}, wantOut: "out\n", wantError: "bad\n"},
		"its exit code is told":      {command: []string{"sh", "-c", "exit 42"}, wantCode: 42},
		"a signal is told as a code": {command: []string{"sh", "-c", "kill -9 $$"}, wantCode: 137},
		"it reads its input":         {command: []string{"wc", "-c"}, stdin: strings.Repeat("x", 300_000), wantOut: "300000\n"},
		"it has the container's user, folder and environment": {
			command: []string{"sh", "-c", "echo $(id -u) $(id -g) $(id -G) $PWD $COLOUR"}, wantOut: "1001 1002 1002 1003 /tmp blue\n"},
		"a lot of output comes whole": {command: []string{"sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"}, wantOut: strings.Repeat("x", 3_000_000)},
		"it is without input":         {command: []string{"cat"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out, bad screen
			streams := runtime.Streams{Stdout: &out, Stderr: &bad}
			if test.stdin != "" {
				streams.Stdin = strings.NewReader(test.stdin)
			}
			err := f.Exec(t.Context(), id, test.command, streams)
			code := 0
			if exit, ok := errors.AsType[*runtime.ExitError](err); ok {
				code, err = exit.Code, nil
			}
			if err != nil || code != test.wantCode {
				t.Errorf("code %d, error %v, want code %d", code, err, test.wantCode)
			}
			if out.String() != test.wantOut || bad.String() != test.wantError {
				t.Errorf("output %.100q and %q, want %.100q and %q", out.String(), bad.String(), test.wantOut, test.wantError)
			}
		})
	}
	f.checkNoExecLeft()
}

func TestExecCannotStart(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("main", "sleep 1000")
	ended := p.shell("ended", "exit 0")
	p.waitExited(ended)
	tests := map[string]struct {
		container string
		command   []string
		want      string
	}{
		"no such command":       {container: id, command: []string{"nonesuch"}, want: `exec: "nonesuch": executable file not found in $PATH`},
		"the container ended":   {container: ended, command: []string{"true"}, want: "container is in CONTAINER_EXITED state"},
		"no such container":     {container: "nonesuch", command: []string{"true"}, want: `failed to find container "nonesuch" in store`},
		"a sandbox is not one":  {container: p.sandbox.ID, command: []string{"true"}, want: "in store: not found"},
		"nothing to be started": {container: id, want: "no command was given"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := f.Exec(t.Context(), test.container, test.command, runtime.Streams{Stdout: io.Discard})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	f.checkNoExecLeft()
}

func TestExecOnATerminal(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("main", "sleep 1000")
	keys, typed := io.Pipe()
	var out screen
	sizes := make(chan runtime.TerminalSize, 1)
	done := make(chan error, 1)
	go func() {
		done <- f.Exec(t.Context(), id, []string{"sh"}, runtime.Streams{Stdin: keys, Stdout: &out, TTY: true, Resize: sizes})
	}()
	sizes <- runtime.TerminalSize{Width: 132, Height: 43}
	f.waitText(&out, "#")
	f.eventually("the size has arrived", func() bool {
		fmt.Fprint(typed, "stty size; echo $TERM\n")
		return strings.Contains(out.String(), "43 132\r\n")
	})
	f.waitText(&out, "xterm")
	fmt.Fprint(typed, "exit 7\n")
	if exit, ok := errors.AsType[*runtime.ExitError](<-done); !ok || exit.Code != 7 {
		t.Errorf("ended as %v", exit)
	}
	f.must(typed.Close())
	f.checkNoExecLeft()
}

// processes counts what runs in a container. Orphans become zombies there, because the
// first process is no init.
func (p *pod) processes(id string) int {
	p.t.Helper()
	var out screen
	p.must(p.Exec(context.Background(), id, []string{"sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.[RSD]'"}, runtime.Streams{Stdout: &out}))
	var count int
	_, err := fmt.Sscan(out.String(), &count)
	p.must(err)
	return count
}

func TestExecEndsWithItsClient(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("main", "sleep 1000")
	before := p.processes(id)
	tests := map[string]func(cancel func()) io.Writer{
		"that leaves":             func(cancel func()) io.Writer { return notify{cancel} },
		"that cannot be written":  func(func()) io.Writer { return notify{} },
		"that stops reading also": func(cancel func()) io.Writer { return &stuck{cancel: cancel} },
	}
	for name, client := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := f.Exec(ctx, id, []string{"sh", "-c", "while true; do echo noise; sleep 0.01; done; true"}, runtime.Streams{Stdout: client(cancel)})
			if err == nil || !strings.Contains(err.Error(), "command was ended") {
				t.Errorf("error %v", err)
			}
			f.eventually("its processes have ended", func() bool { return p.processes(id) == before })
		})
	}
	f.checkNoExecLeft()
}

// notify calls cancel at the first output, or refuses it.
type notify struct{ cancel func() }

func (n notify) Write(p []byte) (int, error) {
	if n.cancel == nil {
		return 0, errors.New("client is gone")
	}
	n.cancel()
	return len(p), nil
}

// stuck takes its first output when its client has left.
type stuck struct{ cancel func() }

func (s *stuck) Write([]byte) (int, error) {
	s.cancel()
	return 0, syscall.EPIPE
}

func TestManyExecsAtOnce(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("main", "sleep 1000")
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			var out screen
			err := f.Exec(t.Context(), id, []string{"sh", "-c", fmt.Sprintf("read x; echo $x; exit %d", i+1)},
				runtime.Streams{Stdin: strings.NewReader(fmt.Sprintf("input %d\n", i)), Stdout: &out})
			exit, ok := errors.AsType[*runtime.ExitError](err)
			if !ok || exit.Code != i+1 || out.String() != fmt.Sprintf("input %d\n", i) {
				t.Errorf("exec %d: %v, output %q", i, err, out.String())
			}
		})
	}
	group.Wait()
	f.checkNoExecLeft()
}

func TestExecOverTheEndOfItsContainer(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("main", "sleep 1000")
	var out screen
	done := make(chan error, 1)
	go func() {
		done <- f.Exec(t.Context(), id, []string{"sh", "-c", "echo here; sleep 1000"}, runtime.Streams{Stdout: &out})
	}()
	f.waitText(&out, "here")
	f.must(f.StopContainer(t.Context(), id, 0))
	if exit, ok := errors.AsType[*runtime.ExitError](<-done); !ok || exit.Code != 137 {
		t.Errorf("ended as %v", exit)
	}
	f.checkNoExecLeft()
}

func TestExecOverRestarts(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("main", "sleep 1000")
	before := p.processes(id)
	keys, typed := io.Pipe()
	var out screen
	done := make(chan error, 1)
	old := f.Runtime
	go func() {
		done <- old.Exec(t.Context(), id, []string{"sh", "-c", "cat; sh -c 'sleep 1001; true'; true"}, runtime.Streams{Stdin: keys, Stdout: &out})
	}()
	fmt.Fprintln(typed, "first")
	f.waitText(&out, "first")
	f.daemon.Kill()
	f.daemon.Restart()
	fmt.Fprintln(typed, "second")
	f.waitText(&out, "second")

	// A second runtime, as after kill -9 of the agent: the first one's goes.
	f.connect()
	_, err := f.List(t.Context())
	f.must(err)
	f.eventually("the command has ended", func() bool { return p.processes(id) == before })
	if err := <-done; err == nil {
		t.Error("the old exec ended well")
	}
	f.must(typed.Close())
	f.must(old.Close())
	f.checkNoExecLeft()
}
