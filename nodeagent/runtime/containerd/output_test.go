package containerd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// waiting returns a script that says "ready" and goes on when the returned function is
// called, and the mount that it needs.
func (f *fixture) waiting(script string) (string, runtime.Mount, func()) {
	dir := f.t.(*testing.T).TempDir()
	full := "echo ready; while [ ! -e /flags/go ]; do sleep 0.02; done; " + script
	return full, runtime.Mount{HostPath: dir, ContainerPath: "/flags"}, func() {
		f.must(os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	}
}

// logHolds tells without an agent whether a log holds a text.
func (f *fixture) logHolds(path, want string) func() bool {
	return func() bool {
		data, err := os.ReadFile(path)
		f.must(err)
		return strings.Contains(string(data), want)
	}
}

func (p *pod) checkNumbered(id string, lines int) {
	p.t.Helper()
	got := strings.Split(strings.TrimSpace(p.output(id)), "\n")
	if len(got) != lines+1 || got[0] != "ready" {
		p.t.Fatalf("%d lines that begin with %q, want ready and %d more", len(got), got[0], lines)
	}
	for i, line := range got[1:] {
		if line != fmt.Sprintf("line %d of the container that talks", i) {
			p.t.Fatalf("line %d is %q", i, line)
		}
	}
}

const talk = "i=0; while [ $i -lt 5000 ]; do echo line $i of the container that talks; i=$((i+1)); done"

func TestOutputWithoutAnAgent(t *testing.T) {
	tests := map[string]struct {
		after    string
		wantCode int32
	}{
		"of a container that runs on": {after: "; sleep 1000"},
		"of a container that ends":    {after: "; exit 9", wantCode: 9},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.newPod()
			script, mount, proceed := f.waiting(talk + test.after)
			config := p.config("chatty", "sh", "-c", script)
			config.Mounts = []runtime.Mount{mount}
			id := p.run(config)
			p.waitOutput(id, "ready")
			f.must(f.Close())
			proceed()
			f.eventually("the log is whole without an agent", f.logHolds(config.LogPath, " line 4999 "))
			f.connect()
			if test.wantCode != 0 {
				if got := p.waitExited(id); got.ExitCode != test.wantCode {
					t.Errorf("ended as %+v", got)
				}
			}
			p.checkNumbered(id, 5000)
		})
	}
}

func TestExitIsAnnouncedAfterTheLastOutput(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	events := f.Events(t.Context())
	for attempt := range 10 {
		id := p.shell("talks", fmt.Sprintf("seq 1 60000; echo last %d", attempt))
		for event := range events {
			if event.ContainerID == id && event.Type == runtime.ContainerExited {
				break
			}
		}
		if got := p.output(id); !strings.HasSuffix(got, fmt.Sprintf("60000\nlast %d\n", attempt)) {
			t.Fatalf("attempt %d: the log ends in %q", attempt, got[max(0, len(got)-40):])
		}
		if left := f.loggers(); len(left) != 0 {
			t.Errorf("loggers of an ended container: %v", left)
		}
	}
}

func TestOutputWhileTheShimHangs(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	script, mount, proceed := f.waiting(talk)
	config := p.config("orphan", "sh", "-c", script)
	config.Mounts = []runtime.Mount{mount}
	p.waitOutput(p.run(config), "ready")
	for _, shim := range f.daemon.Shims() {
		f.must(syscall.Kill(shim, syscall.SIGSTOP)) // not killed: containerd would end the container too
	}
	proceed()
	f.eventually("the log is whole without the shim", f.logHolds(config.LogPath, " line 4999 "))
	for _, shim := range f.daemon.Shims() {
		f.must(syscall.Kill(shim, syscall.SIGCONT))
	}
}

func TestUsersMayOpenTheirOutput(t *testing.T) {
	f := newFixture(t)
	image := f.pull(f.push("user:1", func(s *imagebuild.Spec) { s.Config.User = "app" }))
	p := f.newPod()
	config := p.config("user", "sh", "-c", "echo as $(id -u) > /dev/stdout; echo error > /dev/stderr")
	config.ImageRef = image.Ref
	id := p.run(config)
	p.waitExited(id)
	if got := p.output(id); !strings.Contains(got, "as 1001\n") || !strings.Contains(got, "error\n") {
		t.Errorf("output %q", got)
	}
}

func TestLogThatCannotBeMade(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	config := p.config("nowhere", "echo", "lost")
	config.LogPath = "/no/such/folder/0.log"
	id, err := f.CreateContainer(t.Context(), config)
	f.must(err)
	err = f.StartContainer(t.Context(), id)
	if err == nil || !strings.Contains(err.Error(), "create container log: open /no/such/folder/0.log") {
		t.Errorf("StartContainer = %v", err)
	}
}
