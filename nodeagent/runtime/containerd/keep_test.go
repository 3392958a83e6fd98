package containerd_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/sandbox"
	"github.com/containerd/errdefs"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// keptShims are the names of containers whose shims containerd is to leave alone; nil where
// it has no sandbox store.
func (f *fixture) keptShims(ctx context.Context) []string {
	f.t.Helper()
	entries, err := f.client().SandboxStore().List(ctx)
	if !errdefs.IsNotImplemented(err) {
		f.check(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.ID)
	}
	return names
}

// client is another client of the daemon, in the runtime's containerd namespace.
func (f *fixture) client() *client.Client {
	f.t.Helper()
	c, err := client.New(f.daemon.Address(), client.WithDefaultNamespace("keelson"))
	f.must(err)
	f.t.Cleanup(func() { f.check(c.Close()) })
	return c
}

func TestShimsAreKeptWhileContainersRun(t *testing.T) {
	f := newFixture(t)
	_, err := f.client().SandboxStore().Create(t.Context(), sandbox.Sandbox{ID: "of-a-container-that-is-gone"})
	if errdefs.IsNotImplemented(err) {
		t.Skip("this containerd has no sandbox store, and keeps every shim")
	}
	f.must(err)
	p := f.newPod()
	id := p.shell("main", "sleep 1000")
	f.restartAgent()
	if _, err := f.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.keptShims(t.Context()); len(got) != 1 || got[0] != id {
		t.Errorf("kept are the shims of %v, want only %s", got, id)
	}
	// An agent that died before the entry was made leaves a container without one.
	f.must(f.client().SandboxStore().Delete(t.Context(), id))
	f.restartAgent()
	if _, err := f.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.keptShims(t.Context()); len(got) != 1 || got[0] != id {
		t.Errorf("kept are the shims of %v after another start, want %s", got, id)
	}
	f.must(f.StopContainer(t.Context(), id, 0))
	if got := f.keptShims(t.Context()); len(got) != 0 {
		t.Errorf("kept are still the shims of %v", got)
	}
}

// The agent and containerd are both away when the containers end, and containerd is back first.
func TestExitCodesSurviveContainerdAndTheAgent(t *testing.T) {
	for name, containers := range map[string]int{"alone in its shim": 1, "with two more containers in one shim": 3} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.newPod(func(c *runtime.SandboxConfig) { c.Containers = containers })
			id := p.shell("main", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
			p.waitOutput(id, "ready")
			pid := f.daemon.Pid(t, id)
			f.must(f.Close())
			f.daemon.Kill()
			f.must(syscall.Kill(pid, syscall.SIGTERM))
			f.eventually("it has ended", func() bool { return syscall.Kill(pid, 0) != nil })
			f.daemon.Restart()
			f.connect()
			if got := p.waitExited(id); got.ExitCode != 7 || got.Reason != "Error" {
				t.Errorf("container is %+v", got)
			}
		})
	}
}
