package containerd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestContainerEnds(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	tests := map[string]struct {
		command    []string
		memory     int64
		wantCode   int32
		wantReason string
		wantOutput string
	}{
		"with success":                   {command: []string{"echo", "hello"}, wantReason: "Completed", wantOutput: "hello\n"},
		"with an error":                  {command: []string{"sh", "-c", "echo bad >&2; exit 3"}, wantCode: 3, wantReason: "Error", wantOutput: "bad\n"},
		"by a signal":                    {command: []string{"sh", "-c", "kill -9 $$; sleep 1; sh -c 'exit 4'"}, wantCode: 4, wantReason: "Error"},
		"without a newline":              {command: []string{"printf", "no newline"}, wantReason: "Completed", wantOutput: "no newline"},
		"with more memory than it may":   {command: []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"}, memory: 16 << 20, wantCode: 137, wantReason: "OOMKilled"},
		"with a line longer than a page": {command: []string{"sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x"}, wantReason: "Completed", wantOutput: strings.Repeat("x", 40000)},
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // version 2 ends them all
		few := tests["with more memory than it may"]
		few.command = []string{"sh", "-c", strings.Join(few.command, " ") + "; echo unreachable"}
		tests["with a process that takes more memory than it may"] = few
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			config := p.config(strings.ReplaceAll(name, " ", "-"), test.command...)
			config.Resources.MemoryLimit = test.memory
			got := p.waitExited(p.run(config))
			want := runtime.Container{State: runtime.Exited, ExitCode: test.wantCode, Reason: test.wantReason, User: &runtime.User{Groups: []int64{0}}}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(runtime.Container{},
				"ID", "Name", "SandboxID", "Image", "ImageID", "SpecHash", "LogPath", "CreatedAt", "StartedAt", "FinishedAt", "CgroupPath", "Resources")); diff != "" {
				t.Errorf("container (-want +got):\n%s", diff)
			}
			if got.StartedAt.IsZero() || got.FinishedAt.Before(got.StartedAt) {
				t.Errorf("started at %v, finished at %v", got.StartedAt, got.FinishedAt)
			}
			if diff := cmp.Diff(test.wantOutput, p.output(got.ID)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

func TestContainerThatCannotStart(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id, err := f.CreateContainer(t.Context(), p.config("broken", "no-such-command"))
	f.must(err)
	err = f.StartContainer(t.Context(), id)
	var failure *runtime.StartError
	if !errors.As(err, &failure) || failure.ExitCode != 128 || !strings.Contains(failure.Message, `exec: "no-such-command": executable file not found in $PATH`) {
		t.Fatalf("StartContainer = %v", err)
	}
	check := func() {
		t.Helper()
		got := p.container(id)
		if got.State != runtime.Exited || got.ExitCode != 128 || got.Reason != "StartError" || got.Message != failure.Message {
			t.Errorf("container is %+v", got)
		}
	}
	check()
	f.restartAgent()
	check()
	if other := p.shell("fine", "exit 0"); p.waitExited(other).ExitCode != 0 {
		t.Error("the sandbox is of no use after a failed start")
	}
}

// TestAContainerMadeWhileTheListIsRead: a comparison that began when the container was
// being made finds it in the table, at its first count of changes, and not in the list.
func TestAContainerMadeWhileTheListIsRead(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id, err := f.CreateContainer(t.Context(), p.config("made", "true"))
	f.must(err)
	f.DropAsOfItsBeginning(id)
	f.must(f.StartContainer(t.Context(), id))
	p.waitExited(id)
}

func TestStop(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	t.Run("a container that ends on TERM", func(t *testing.T) {
		id := p.shell("polite", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
		p.waitOutput(id, "ready")
		f.must(f.StopContainer(t.Context(), id, time.Minute))
		if got := p.container(id); got.State != runtime.Exited || got.ExitCode != 7 || got.Reason != "Error" {
			t.Errorf("container is %+v", got)
		}
		if !strings.HasSuffix(p.output(id), "bye\n") {
			t.Errorf("last words are missing in %q", p.output(id))
		}
	})
	t.Run("a container that ignores TERM", func(t *testing.T) {
		id := p.shell("stubborn", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
		p.waitOutput(id, "ready")
		start := time.Now()
		f.must(f.StopContainer(t.Context(), id, 300*time.Millisecond))
		if got := p.container(id); got.State != runtime.Exited || got.ExitCode != 137 || time.Since(start) < 300*time.Millisecond {
			t.Errorf("container is %+v after %v", got, time.Since(start))
		}
	})
	t.Run("with a shorter grace beside a longer one", func(t *testing.T) {
		id := p.shell("twice", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
		p.waitOutput(id, "ready")
		first := make(chan error, 1)
		go func() { first <- f.StopContainer(t.Context(), id, time.Hour) }()
		f.must(f.StopContainer(t.Context(), id, 0))
		f.must(<-first)
	})
	t.Run("what is stopped, gone or never was", func(t *testing.T) {
		id := p.shell("quick", "exit 0")
		p.waitExited(id)
		f.must(f.StopContainer(t.Context(), id, time.Minute))
		f.must(f.RemoveContainer(t.Context(), id))
		f.must(f.RemoveContainer(t.Context(), id))
		f.must(f.StopContainer(t.Context(), id, time.Minute))
		f.must(f.StopSandbox(t.Context(), "never-was"))
	})
	t.Run("a running container is not removed", func(t *testing.T) {
		id := p.shell("busy", "sleep 1000")
		if err := f.RemoveContainer(t.Context(), id); err == nil || !strings.Contains(err.Error(), "stop it first") {
			t.Errorf("RemoveContainer = %v", err)
		}
	})
}

func TestEvents(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := f.Events(ctx)
	next := func(want runtime.Event) {
		t.Helper()
		for {
			select {
			case got := <-events:
				if got.Type == runtime.Resync {
					continue
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("event (-want +got):\n%s", diff)
				}
				return
			case <-time.After(patience):
				t.Fatalf("no event %v", want)
			}
		}
	}
	id := p.shell("one", "exit 1")
	next(runtime.Event{Type: runtime.ContainerExited, PodUID: p.identity.UID, ContainerID: id})
	if got := p.container(id); got.State != runtime.Exited {
		t.Errorf("container is %s when its exit is announced", got.State)
	}
	f.must(f.StopSandbox(t.Context(), p.sandbox.ID))
	next(runtime.Event{Type: runtime.SandboxExited, PodUID: p.identity.UID, ContainerID: p.sandbox.ID})
	cancel()
	for range events { // ends: the channel is closed
	}
}

func TestPodsShareNamespaces(t *testing.T) {
	for name, tc := range map[string]struct {
		companions int
		pause      bool
		shims      int
	}{
		"held by files, a shim for each": {companions: 2, shims: 2},
		"held by a process, one shim":    {companions: 3, pause: true, shims: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.newPod(func(c *runtime.SandboxConfig) { c.Containers = tc.companions })
			checkShared(t, p)
			if shims := f.daemon.Shims(); len(shims) != tc.shims {
				t.Errorf("%d shims for one Pod with two containers, want %d", len(shims), tc.shims)
			}
			if p.sandbox.PID != 0 != tc.pause {
				t.Errorf("the process of the sandbox is %d", p.sandbox.PID)
			}
		})
	}
}

func checkShared(t *testing.T, p *pod) {
	t.Helper()
	show := "hostname; for n in net ipc uts; do readlink /proc/self/ns/$n; done; echo shared > /dev/shm/file; sleep 1000"
	first, second := p.shell("first", show), p.shell("second", "cat /dev/shm/file; "+show)
	p.waitOutput(first, "uts:")
	p.waitOutput(second, "uts:")
	if diff := cmp.Diff("shared\n"+p.output(first), p.output(second)); diff != "" {
		t.Errorf("namespaces differ:\n%s", diff)
	}
	if !strings.HasPrefix(p.output(first), p.identity.Name+"\n") {
		t.Errorf("hostname in %q", p.output(first))
	}
}

func TestSandboxWithoutAProcessCannotShareOne(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	config := p.config("main", "true")
	config.SharePID = true
	if _, err := f.CreateContainer(t.Context(), config); err == nil || !strings.Contains(err.Error(), "has no process") {
		t.Errorf("CreateContainer = %v", err)
	}
}

func TestSandboxThatLostANamespaceHasEnded(t *testing.T) {
	f := newFixture(t)
	kept, lost := f.newPod(), f.newPod()
	f.must(f.Close()) // killed while it stopped the sandbox
	f.must(unix.Unmount(filepath.Join(f.stateDir, "sandboxes", lost.sandbox.ID, "uts"), unix.MNT_DETACH))
	f.connect()
	for p, want := range map[*pod]runtime.State{kept: runtime.Running, lost: runtime.Exited} {
		state, err := f.Pod(t.Context(), p.identity.UID)
		f.must(err)
		if got := state.Sandboxes[0].State; got != want {
			t.Errorf("the sandbox is %s, want %s", got, want)
		}
	}
	if _, err := f.CreateContainer(t.Context(), lost.config("main", "true")); err == nil || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("CreateContainer = %v", err)
	}
	if out := kept.waitExited(kept.shell("main", "exit 4")); out.ExitCode != 4 {
		t.Errorf("a container in the sandbox that is left ended as %+v", out)
	}
}

func TestRestartOfTheAgent(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	runs := p.shell("runs", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done")
	ends := p.shell("ends", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
	created, err := f.CreateContainer(t.Context(), p.config("created", "sh", "-c", "echo started later"))
	f.must(err)
	p.waitOutput(runs, "line 3\n")
	before := p.container(runs)
	f.must(f.Close())
	pid := f.daemon.Pid(t, ends)
	f.must(syscall.Kill(pid, syscall.SIGTERM))
	f.eventually("it has ended", func() bool { return syscall.Kill(pid, 0) != nil })
	f.connect()

	if diff := cmp.Diff(before, p.container(runs)); diff != "" {
		t.Errorf("adopted container (-before +after):\n%s", diff)
	}
	if got := p.container(ends); got.State != runtime.Exited || got.ExitCode != 5 || got.Reason != "Error" {
		t.Errorf("container that ended meanwhile is %+v", got)
	}
	if got := p.container(created); got.State != runtime.Created {
		t.Errorf("container that was never started is %s", got.State)
	}
	f.must(f.StartContainer(t.Context(), created))
	p.waitOutput(created, "started later")
	p.waitOutput(runs, "line 60\n")
	f.must(f.StopContainer(t.Context(), runs, 0))
	for i, line := range strings.Split(strings.TrimSpace(p.output(runs)), "\n") {
		if want := "line " + strconv.Itoa(i); line != want {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
}

func TestRestartOfContainerd(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	runs := p.shell("runs", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done")
	ends := p.shell("ends", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
	p.waitOutput(ends, "ready")
	events := f.Events(t.Context())
	pid := f.daemon.Pid(t, ends)
	f.daemon.Kill()
	if _, err := f.Info(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot reach containerd at "+f.daemon.Address()) || !strings.HasSuffix(err.Error(), "is it running?") {
		t.Errorf("Info = %v", err)
	}
	f.must(syscall.Kill(pid, syscall.SIGTERM))
	f.eventually("it has ended", func() bool { return syscall.Kill(pid, 0) != nil })
	f.daemon.Restart()
	f.eventually("containerd answers", func() bool { _, err := f.Info(t.Context()); return err == nil })
	for event := range events {
		if event.Type == runtime.Resync {
			break
		}
	}
	p.waitExited(ends)
	if got := p.container(ends); got.ExitCode != 5 {
		t.Errorf("container that ended meanwhile is %+v", got)
	}
	if got := p.container(runs); got.State != runtime.Running {
		t.Errorf("container is %s", got.State)
	}
	p.waitOutput(runs, "line 60\n")
	if another := p.shell("another", "echo works"); p.waitExited(another).ExitCode != 0 {
		t.Error("no new container after the restart")
	}
}

func TestLossOfEverything(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("runs", "sleep 1000")
	// As after a power cut: daemon, shims and containers are gone.
	f.daemon.Kill()
	f.daemon.KillShims(t)
	for _, mount := range f.daemon.Mounts() {
		if strings.HasPrefix(mount, f.stateDir) {
			f.must(unix.Unmount(mount, unix.MNT_DETACH))
		}
	}
	f.daemon.Restart()
	f.eventually("the loss is noticed", func() bool {
		state, err := f.Pod(t.Context(), p.identity.UID)
		return err == nil && state.Containers[0].State == runtime.Exited
	})
	got := p.container(id)
	if got.ExitCode != 137 || got.FinishedAt.IsZero() || (got.Reason != "ContainerStatusUnknown" && got.Reason != "Error") {
		t.Errorf("container is %+v", got)
	}
	state, err := f.Pod(t.Context(), p.identity.UID)
	f.must(err)
	if state.Sandboxes[0].State != runtime.Exited {
		t.Errorf("sandbox is %+v", state.Sandboxes[0])
	}
}

func TestWithoutContainerd(t *testing.T) {
	f := newFixture(t)
	f.daemon.Kill()
	says := func(err error) bool { return err != nil && strings.Contains(err.Error(), "cannot reach containerd at") }
	if _, err := f.List(t.Context()); !says(err) {
		t.Errorf("List = %v", err)
	}
	if _, err := f.Pull(t.Context(), f.busybox.Ref, nil); !says(err) {
		t.Errorf("Pull = %v", err)
	}
	// Pod answers from memory until the loss of events is noticed.
	f.eventually("Pod does not answer from memory any more", func() bool { _, err := f.Pod(t.Context(), "any"); return says(err) })
	f.daemon.Restart()
	f.eventually("it works again", func() bool { _, err := f.List(t.Context()); return err == nil })
}
