package containerd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// A shim that ends while it is asked to end a container has ended the container.
func TestStopWhileTheShimEnds(t *testing.T) {
	f := newFixture(t)
	for _, grace := range []time.Duration{0, time.Minute} {
		p := f.newPod()
		id := p.shell("main", "trap '' TERM; while :; do sleep 1; done")
		for _, shim := range f.daemon.Shims() {
			f.must(syscall.Kill(shim, syscall.SIGSTOP)) // it takes the question and does not answer
		}
		stopped := make(chan error, 1)
		go func() { stopped <- f.StopContainer(t.Context(), id, grace) }()
		select {
		case err := <-stopped:
			t.Fatalf("it was stopped by a shim that cannot work: %v", err)
		case <-time.After(200 * time.Millisecond): // the question is on its way
		}
		f.daemon.KillShims(t)
		select {
		case err := <-stopped:
			f.check(err)
		case <-time.After(patience):
			t.Fatal("it waits for a shim that is gone")
		}
		if got := p.container(id); got.State != runtime.Exited || got.ExitCode != 137 {
			t.Errorf("the container is %+v", got)
		}
		f.must(f.StopSandbox(t.Context(), p.sandbox.ID))
		f.must(f.RemoveContainer(t.Context(), id))
		f.must(f.RemoveSandbox(t.Context(), p.sandbox.ID))
	}
}

// What an interrupted creation left in a container's cgroup ends with the container.
func TestProcessThatNobodyKnowsOf(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id, err := f.CreateContainer(t.Context(), p.config("main", "sleep", "1000"))
	f.must(err)
	process := exec.Command("sleep", "1000")
	f.must(process.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = process.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = process.Process.Kill()
		<-ended
	})
	hierarchy := "/sys/fs/cgroup/memory"
	if _, err := os.Stat(hierarchy); err != nil {
		hierarchy = "/sys/fs/cgroup"
	}
	cgroup := filepath.Join(hierarchy, p.podCgroup(p.identity.UID), id)
	f.must(os.MkdirAll(cgroup, 0o755))
	f.must(os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(process.Process.Pid)), 0o600))
	f.must(f.RemoveContainer(t.Context(), id))
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("it still runs")
	}
	f.eventually("its cgroup can be removed", func() bool {
		err := os.Remove(cgroup)
		return err == nil || os.IsNotExist(err)
	})
}
