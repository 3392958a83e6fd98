package containerd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	apitypes "github.com/containerd/containerd/api/types"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// netns makes a network namespace that is pinned to a file until the test ends.
func netns(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	made := make(chan error)
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- err
			return
		}
		made <- unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	}()
	if err := <-made; err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, 0); err != nil {
			t.Errorf("unmount the network namespace: %v", err)
		}
	})
	return path
}

func TestSandboxInItsOwnNetwork(t *testing.T) {
	f := newFixture(t)
	path := netns(t)
	p := f.newPod(func(c *runtime.SandboxConfig) { c.NetNSPath = path })
	id := p.shell("look", "ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; stat -L -c %i /proc/self/ns/net")
	p.waitExited(id)
	info, err := os.Stat(path)
	f.must(err)
	var stat unix.Stat_t
	f.must(unix.Stat(path, &stat))
	if want := fmt.Sprintf("lo\n0\n%d\n", stat.Ino); p.output(id) != want {
		t.Errorf("output %q, want %q (%s)", p.output(id), want, info.Name())
	}
	if p.sandbox.HostNetwork {
		t.Error("the sandbox claims to use the machine's network")
	}
}

func TestResourcesReachTheCgroup(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	config := p.config("limited", "sleep", "1000")
	config.Resources = runtime.Resources{CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000, MemoryLimit: 64 << 20, OOMScoreAdj: 900}
	id := p.run(config)
	cgroup := filepath.Join(p.podCgroup(p.identity.UID), id)
	files := map[string]string{
		"/sys/fs/cgroup/cpu" + cgroup + "/cpu.shares":               "512",
		"/sys/fs/cgroup/cpu" + cgroup + "/cpu.cfs_quota_us":         "50000",
		"/sys/fs/cgroup/memory" + cgroup + "/memory.limit_in_bytes": "67108864",
		fmt.Sprintf("/proc/%d/oom_score_adj", f.daemon.Pid(t, id)):  "900",
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		files = map[string]string{
			"/sys/fs/cgroup" + cgroup + "/cpu.max":                     "50000 100000",
			"/sys/fs/cgroup" + cgroup + "/memory.max":                  "67108864",
			"/sys/fs/cgroup" + cgroup + "/memory.oom.group":            "1",
			fmt.Sprintf("/proc/%d/oom_score_adj", f.daemon.Pid(t, id)): "900",
		}
	}
	for path, want := range files {
		got, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s holds %q, want %s (%v)", path, got, want, err)
		}
	}
}

func TestMounts(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	dir := t.TempDir()
	f.must(os.WriteFile(filepath.Join(dir, "file"), []byte("from the host\n"), 0o644))
	config := p.config("mounts", "sh", "-c", "exec 2>&1; cat /data/file /single; echo no > /data/file; echo yes > /writable/new; touch /root/own && touch /proc/sys/kernel/x; true")
	config.Mounts = []runtime.Mount{
		{HostPath: dir, ContainerPath: "/data", ReadOnly: true},
		{HostPath: dir, ContainerPath: "/writable"},
		{HostPath: filepath.Join(dir, "file"), ContainerPath: "/single", ReadOnly: true},
	}
	id := p.run(config)
	p.waitExited(id)
	if got := p.output(id); !strings.HasPrefix(got, "from the host\nfrom the host\n") || !strings.Contains(got, "can't create /data/file: Read-only file system") {
		t.Errorf("output %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "new")); string(got) != "yes\n" {
		t.Errorf("the writable mount holds %q (%v)", got, err)
	}
}

func TestStartsAreRepeatable(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	config := p.config("app", "sleep", "1000")
	first, err := f.CreateContainer(t.Context(), config)
	f.must(err)
	// The answer was lost: the same attempt is created again.
	second, err := f.CreateContainer(t.Context(), config)
	f.must(err)
	if first != second {
		t.Errorf("two containers %s and %s for one attempt", first, second)
	}
	f.must(f.StartContainer(t.Context(), second))
	f.must(f.StartContainer(t.Context(), second))
	if _, err := f.CreateContainer(t.Context(), config); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("CreateContainer of what runs = %v", err)
	}
	f.must(f.StopContainer(t.Context(), second, 0))
	if err := f.StartContainer(t.Context(), second); err == nil || !strings.Contains(err.Error(), "has run already") {
		t.Errorf("StartContainer of what has run = %v", err)
	}
}

func TestFailedSandboxLeavesNothing(t *testing.T) {
	f := newFixture(t)
	_, err := f.RunSandbox(t.Context(), runtime.SandboxConfig{
		PodIdentity: runtime.PodIdentity{UID: "bad", Namespace: "default", Name: "bad"}, NetNSPath: "/no/such/netns", CgroupParent: f.podCgroup("bad"),
	})
	if err == nil || !strings.Contains(err.Error(), "/no/such/netns") {
		t.Errorf("RunSandbox = %v", err)
	}
	f.pods = append(f.pods, "bad")
	state, err := f.Pod(t.Context(), "bad")
	f.must(err)
	if len(state.Sandboxes) != 0 {
		t.Errorf("left: %+v", state)
	}
}

func TestSomebodyElseRemovesAContainer(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id := p.shell("ended", "exit 0")
	p.waitExited(id)
	other := f.client()
	f.must(other.ContainerService().Delete(t.Context(), id))
	f.must(other.SnapshotService("overlayfs").Remove(t.Context(), id))
	pods, err := f.List(t.Context())
	f.must(err)
	if len(pods) != 1 || len(pods[0].Containers) != 0 {
		t.Errorf("still listed: %+v", pods)
	}
}

func TestInterruptedStarts(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	id, err := f.CreateContainer(t.Context(), p.config("app", "sh", "-c", "echo started; sleep 1000"))
	f.must(err)
	f.must(f.Close())
	// The agent died between creating the task and starting it.
	other := f.client()
	mounts, err := other.SnapshotService("overlayfs").Mounts(t.Context(), id)
	f.must(err)
	_, err = other.TaskService().Create(t.Context(), &tasks.CreateTaskRequest{
		ContainerID: id, Rootfs: []*apitypes.Mount{{Type: mounts[0].Type, Source: mounts[0].Source, Options: mounts[0].Options}},
	})
	f.must(err)
	f.connect()
	if got := p.container(id); got.State != runtime.Created {
		t.Errorf("container is %s", got.State)
	}
	f.must(f.StartContainer(t.Context(), id))
	p.waitOutput(id, "started")
	if got := p.container(id); got.State != runtime.Running {
		t.Errorf("container is %s", got.State)
	}
}

// TestStartsGivenUpAtAnyMoment: a Pod that is deleted while its parts start leaves no
// process that nobody knows of; the fixture looks for them at the end.
func TestStartsGivenUpAtAnyMoment(t *testing.T) {
	f := newFixture(t)
	for after := time.Duration(0); after < 240*time.Millisecond; after += 12 * time.Millisecond {
		p := f.podWithoutSandbox()
		ctx, cancel := context.WithTimeout(t.Context(), after)
		sandbox, err := f.RunSandbox(ctx, runtime.SandboxConfig{
			PodIdentity: p.identity, CgroupParent: p.podCgroup(p.identity.UID), Hostname: p.identity.Name,
		})
		cancel()
		if err == nil {
			p.sandbox = sandbox
			id, err := f.CreateContainer(t.Context(), p.config("app", "sleep", "1000"))
			f.must(err)
			ctx, cancel := context.WithTimeout(t.Context(), after/2)
			err = f.StartContainer(ctx, id)
			cancel()
			if got := p.container(id).State; err == nil && got != runtime.Running {
				t.Errorf("after %s: started, and %s", after, got)
			}
		}
		pods, err := f.List(t.Context())
		f.must(err)
		for _, state := range pods {
			f.removePod(t.Context(), state)
		}
	}
}

func TestStateFolderMountedNoexec(t *testing.T) {
	f := newFixture(t)
	f.must(f.Close())
	f.stateDir = filepath.Join(f.daemon.Dir(), "run")
	f.must(os.Mkdir(f.stateDir, 0o755))
	f.must(unix.Mount("tmpfs", f.stateDir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, ""))
	f.connect()
	p := f.newPod()
	id := p.shell("app", "echo works")
	p.waitExited(id)
	if got := p.output(id); !strings.HasPrefix(got, "works\n") {
		t.Errorf("output %q", got)
	}
	f.removePod(t.Context(), runtime.PodState{Containers: []runtime.Container{{ID: id}}, Sandboxes: []runtime.Sandbox{p.sandbox}})
	f.must(f.Close())
	f.must(unix.Unmount(f.stateDir, 0))
	f.stateDir = filepath.Join(f.daemon.Dir(), "agent")
	f.connect()
}
