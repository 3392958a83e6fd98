package containerd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2/ktesting"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/containerd"
	"github.com/keelson-dev/keelson/nodeagent/runtime/containerd/containerdtest"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

const patience = 30 * time.Second

// fixture is a daemon, a registry and a runtime, and the Pods of one test.
type fixture struct {
	*containerd.Runtime
	t        testing.TB
	daemon   *containerdtest.Daemon
	registry *imagebuild.Registry
	programs string // folder of pause and the logger
	stateDir string
	cgroups  string
	busybox  runtime.Image
	uids     atomic.Int64
	pods     []types.UID
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, daemon: containerdtest.Start(t)}
	f.cgroups = "/" + filepath.Base(f.daemon.Dir())
	f.programs = f.daemon.Dir()
	for folder, program := range map[string]string{"pause": f.pause(), "logger": f.logger()} {
		if out, err := exec.Command("make", "-C", "../../../build/"+folder, "OUT="+program).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	f.stateDir = filepath.Join(f.daemon.Dir(), "agent")
	registry, err := imagebuild.StartRegistry("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.registry = registry
	t.Cleanup(func() { _ = registry.Close() })
	f.connect()
	t.Cleanup(f.checkNothingLeft)
	f.busybox = f.pull(f.push("busybox:1", nil))
	return f
}

func (f *fixture) pause() string  { return filepath.Join(f.programs, "pause") }
func (f *fixture) logger() string { return filepath.Join(f.programs, "keelson-logger") }

// registryConfigs is the folder of registry configurations; it is not there at first.
func (f *fixture) registryConfigs() string { return filepath.Join(f.daemon.Dir(), "certs.d") }

// connect replaces the runtime, as a restart of the agent does.
func (f *fixture) connect() {
	f.t.Helper()
	logger, _ := ktesting.NewTestContext(f.t)
	r, err := containerd.New(context.Background(), containerd.Options{
		Address: f.daemon.Address(), StateDir: f.stateDir, PauseBinary: f.pause(), LoggerBinary: f.logger(), RegistryConfigDir: f.registryConfigs(),
		Log: logger,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.Runtime = r
}

func (f *fixture) restartAgent() {
	f.t.Helper()
	f.must(f.Close())
	f.connect()
}

// checkNothingLeft removes the test's Pods through the runtime and then looks for what
// they left on the machine.
func (f *fixture) checkNothingLeft() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pods, err := f.List(ctx)
	if err != nil {
		f.t.Errorf("list what is left: %v", err)
	}
	for _, pod := range pods {
		f.removePod(ctx, pod)
	}
	if kept := f.keptShims(ctx); len(kept) > 0 {
		f.t.Errorf("kept are still the shims of %v", kept)
	}
	f.eventually("all shims have ended", func() bool { return len(f.daemon.Shims()) == 0 })
	if mounts := f.daemon.Mounts(); len(mounts) > 0 {
		f.t.Errorf("mounts left: %v", mounts)
	}
	// Those of containers that failed to start end with their shim, a moment later.
	f.eventually("all loggers have ended", func() bool { return len(f.loggers()) == 0 })
	for _, folder := range []string{"sandboxes", "streams", "execs"} {
		entries, err := os.ReadDir(filepath.Join(f.stateDir, folder))
		if err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
			f.t.Errorf("%s left: %v, %v", folder, entries, err)
		}
	}
	// The agent removes the Pods' cgroups; the containers' own must be gone.
	for _, uid := range f.pods {
		for _, cgroup := range containerdtest.Cgroups(f.podCgroup(uid)) {
			if err := os.Remove(cgroup); err != nil {
				f.t.Errorf("cgroup left: %v", err)
			}
		}
	}
	for _, cgroup := range containerdtest.Cgroups(f.cgroups) {
		if err := os.Remove(cgroup); err != nil {
			f.t.Errorf("cgroup left: %v", err)
		}
	}
	if err := f.Close(); err != nil {
		f.t.Errorf("close: %v", err)
	}
}

// loggers are the processes that write logs of this test.
func (f *fixture) loggers() []int { return f.daemon.Processes(f.logger() + " log") }

func (f *fixture) removePod(ctx context.Context, pod runtime.PodState) {
	for _, container := range pod.Containers {
		f.check(f.StopContainer(ctx, container.ID, 0))
		f.check(f.RemoveContainer(ctx, container.ID))
	}
	for _, sandbox := range pod.Sandboxes {
		f.check(f.StopSandbox(ctx, sandbox.ID))
		f.check(f.RemoveSandbox(ctx, sandbox.ID))
	}
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) eventually(what string, condition func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited %v in vain until %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// push builds a busybox image, changed by edit, and returns its reference.
func (f *fixture) push(repository string, edit func(*imagebuild.Spec)) string {
	f.t.Helper()
	spec, err := imagebuild.Busybox()
	f.must(err)
	spec.Files["/etc/passwd"] = imagebuild.File{Content: []byte("root:x:0:0::/root:/bin/sh\napp:x:1001:1002::/:/bin/sh\n"), Mode: 0o644}
	spec.Files["/etc/group"] = imagebuild.File{Content: []byte("root:x:0:\napp:x:1002:\nextra:x:1003:app\n"), Mode: 0o644}
	if edit != nil {
		edit(&spec)
	}
	image, err := imagebuild.Build(spec, goruntime.GOARCH)
	f.must(err)
	return f.pushBuilt(repository, image)
}

func (f *fixture) pushBuilt(repository string, image v1.Image) string {
	f.t.Helper()
	ref, _, err := f.registry.Push(context.Background(), image, repository)
	f.must(err)
	return ref
}

func (f *fixture) pull(ref string) runtime.Image {
	f.t.Helper()
	image, err := f.Pull(context.Background(), ref, nil)
	f.must(err)
	return image
}

// pod is a sandbox of a test, in the machine's network unless netns is given.
type pod struct {
	*fixture
	identity runtime.PodIdentity
	sandbox  runtime.Sandbox
	attempts map[string]uint32
}

func (f *fixture) podCgroup(uid types.UID) string { return f.cgroups + "/pod" + string(uid) }

// podWithoutSandbox is a Pod of which nothing runs yet. It is for the test's goroutine.
func (f *fixture) podWithoutSandbox() *pod {
	// runc keeps the state of all daemons of a machine in one folder, by these names.
	uid := types.UID(fmt.Sprintf("uid-%s-%d", filepath.Base(f.daemon.Dir()), f.uids.Add(1)))
	f.pods = append(f.pods, uid)
	return &pod{
		fixture: f, attempts: map[string]uint32{},
		identity: runtime.PodIdentity{UID: uid, Namespace: "default", Name: "pod-" + string(uid)},
	}
}

func (f *fixture) newPod(edit ...func(*runtime.SandboxConfig)) *pod {
	f.t.Helper()
	p := f.podWithoutSandbox()
	p.start(edit...)
	return p
}

// start runs the Pod's sandbox.
func (p *pod) start(edit ...func(*runtime.SandboxConfig)) {
	p.t.Helper()
	config := runtime.SandboxConfig{
		PodIdentity: p.identity, CgroupParent: p.podCgroup(p.identity.UID), Hostname: p.identity.Name,
	}
	for _, e := range edit {
		e(&config)
	}
	sandbox, err := p.RunSandbox(context.Background(), config)
	p.must(err)
	p.sandbox = sandbox
}

func (p *pod) config(name string, command ...string) runtime.ContainerConfig {
	attempt := p.attempts[name]
	p.attempts[name]++
	return runtime.ContainerConfig{
		PodIdentity: p.identity, Name: name, Attempt: attempt, SandboxID: p.sandbox.ID,
		Image: "busybox", ImageRef: p.busybox.Ref, SpecHash: "hash", Command: command,
		CgroupParent: p.podCgroup(p.identity.UID),
		LogPath:      filepath.Join(p.daemon.Dir(), fmt.Sprintf("%s-%s-%d.log", p.identity.UID, name, attempt)),
	}
}

// run creates and starts a container.
func (p *pod) run(config runtime.ContainerConfig) string {
	p.t.Helper()
	id, err := p.CreateContainer(context.Background(), config)
	p.must(err)
	p.must(p.StartContainer(context.Background(), id))
	return id
}

func (p *pod) shell(name, script string) string {
	p.t.Helper()
	return p.run(p.config(name, "sh", "-c", script))
}

func (p *pod) container(id string) runtime.Container {
	p.t.Helper()
	state, err := p.Pod(context.Background(), p.identity.UID)
	p.must(err)
	at := slices.IndexFunc(state.Containers, func(c runtime.Container) bool { return c.ID == id })
	if at < 0 {
		p.t.Fatalf("container %s is not in %+v", id, state)
	}
	return state.Containers[at]
}

func (p *pod) waitExited(id string) runtime.Container {
	p.t.Helper()
	p.eventually("the container has exited", func() bool { return p.container(id).State == runtime.Exited })
	return p.container(id)
}

// output is the text of a container's log.
func (p *pod) output(id string) string {
	p.t.Helper()
	data, err := os.ReadFile(p.container(id).LogPath)
	p.must(err)
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 {
			p.t.Fatalf("bad log line %q", line)
		}
		if fields[2] == "P" {
			fields[3] = strings.TrimSuffix(fields[3], "\n")
		}
		text.WriteString(fields[3])
	}
	return text.String()
}

func (p *pod) waitOutput(id, want string) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("the log holds %q", want), func() bool { return strings.Contains(p.output(id), want) })
}
