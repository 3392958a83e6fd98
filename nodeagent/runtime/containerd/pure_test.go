package containerd

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

var (
	noon    = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	evening = noon.Add(6 * time.Hour)
)

func TestDecide(t *testing.T) {
	task := func(s tasktypes.Status) *tasktypes.Process { return &tasktypes.Process{Status: s} }
	started, finished := status{StartedAt: noon}, status{StartedAt: noon, FinishedAt: evening}
	tests := map[string]struct {
		kind   kind
		status status
		task   *tasktypes.Process
		want   action
	}{
		"a container that runs is adopted":                     {kindContainer, started, task(tasktypes.Status_RUNNING), actionAdopt},
		"one whose start was not stored too":                   {kindContainer, status{}, task(tasktypes.Status_RUNNING), actionAdopt},
		"a paused one is still ours":                           {kindContainer, started, task(tasktypes.Status_PAUSED), actionAdopt},
		"one that ended unseen is recorded":                    {kindContainer, started, task(tasktypes.Status_STOPPED), actionEnd},
		"one that ended before its start was stored too":       {kindContainer, status{}, task(tasktypes.Status_STOPPED), actionEnd},
		"one that is gone is lost":                             {kindContainer, started, nil, actionLost},
		"one that was never started stays as it is":            {kindContainer, status{}, nil, actionNone},
		"one whose start was interrupted loses its task":       {kindContainer, status{}, task(tasktypes.Status_CREATED), actionClear},
		"an exit that is stored needs nothing":                 {kindContainer, finished, nil, actionNone},
		"an exit that is stored frees its task":                {kindContainer, finished, task(tasktypes.Status_STOPPED), actionClear},
		"a shim that does not answer changes nothing":          {kindContainer, started, task(tasktypes.Status_UNKNOWN), actionNone},
		"a sandbox that runs is adopted":                       {kindSandbox, status{}, task(tasktypes.Status_RUNNING), actionAdopt},
		"a sandbox without a task has ended":                   {kindSandbox, status{}, nil, actionEnd},
		"a sandbox whose pause program died has ended":         {kindSandbox, status{}, task(tasktypes.Status_STOPPED), actionEnd},
		"a sandbox whose start was interrupted is of no use":   {kindSandbox, status{}, task(tasktypes.Status_CREATED), actionEnd},
		"a sandbox that is known to have ended stays as it is": {kindSandbox, status{FinishedAt: evening}, nil, actionNone},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := decide(test.kind, test.status, test.task); got != test.want {
				t.Errorf("decide = %s, want %s", got, test.want)
			}
		})
	}
}

func TestComputeExit(t *testing.T) {
	started := status{StartedAt: noon}
	after := func(code int32, reason string, at time.Time) status {
		return status{StartedAt: noon, FinishedAt: at, ExitCode: code, Reason: reason}
	}
	tests := map[string]struct {
		ended    ended
		oomKills int
		want     status
	}{
		"success":                                 {ended{code: 0, at: evening}, 0, after(0, "Completed", evening)},
		"an error":                                {ended{code: 2, at: evening}, 0, after(2, "Error", evening)},
		"killed, with memory to spare":            {ended{code: 137, at: evening}, 0, after(137, "Error", evening)},
		"killed for lack of memory":               {ended{code: 137, at: evening}, 1, after(137, "OOMKilled", evening)},
		"a child was killed, the container coped": {ended{code: 0, at: evening}, 1, after(0, "Completed", evening)},
		"a clock that went back does not show":    {ended{code: 0, at: noon.Add(-time.Hour)}, 0, after(0, "Completed", noon)},
		"a shim that died tells no time":          {ended{code: 137, at: time.Unix(0, 0)}, 0, after(137, "Error", noon)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, computeExit(started, test.ended, test.oomKills, evening)); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
	lost := computeExit(started, ended{lost: true}, 0, evening)
	if lost.ExitCode != 137 || lost.Reason != "ContainerStatusUnknown" || lost.Message == "" || !lost.FinishedAt.Equal(evening) {
		t.Errorf("lost container is %+v", lost)
	}
}

func TestProcessArgs(t *testing.T) {
	image := runtime.Image{Entrypoint: []string{"ep-1"}, Cmd: []string{"foo", "bar"}}
	tests := map[string]struct{ command, args, want []string }{
		"neither: ENTRYPOINT and CMD of the image":    {nil, nil, []string{"ep-1", "foo", "bar"}},
		"only command: both of the image are ignored": {[]string{"ep-2"}, nil, []string{"ep-2"}},
		"only args: ENTRYPOINT and args":              {nil, []string{"zoo", "boo"}, []string{"ep-1", "zoo", "boo"}},
		"both: the image is ignored":                  {[]string{"ep-2"}, []string{"zoo", "boo"}, []string{"ep-2", "zoo", "boo"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, processArgs(image, test.command, test.args)); diff != "" {
				t.Errorf("args (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=image", "B=image"}, []string{"B=pod", "C=x=y", "C=last"})
	want := []string{defaultPath, "A=image", "B=pod", "C=last"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("env (-want +got):\n%s", diff)
	}
}

func TestContainerSpec(t *testing.T) {
	input := func(edit func(*specInput)) specInput {
		in := specInput{
			config:     runtime.ContainerConfig{Name: "app", Image: "app:1", SandboxID: "sandbox", Command: []string{"run"}},
			sandboxPID: 42, shm: "/state/shm", cgroupPath: "/keelson/pod1/id", machine: machine{minOOMScoreAdj: -1000},
		}
		edit(&in)
		return in
	}
	tests := map[string]struct {
		in   specInput
		pick func(*specs.Spec) any
		want any
	}{
		"the working directory is the root": {input(func(*specInput) {}), func(s *specs.Spec) any { return s.Process.Cwd }, "/"},
		"the image's working directory": {
			input(func(in *specInput) { in.image.WorkingDir = "/img" }),
			func(s *specs.Spec) any { return s.Process.Cwd }, "/img",
		},
		"the Pod's working directory wins": {
			input(func(in *specInput) { in.image.WorkingDir, in.config.WorkingDir = "/img", "/pod" }),
			func(s *specs.Spec) any { return s.Process.Cwd }, "/pod",
		},
		"the OOM score is given": {
			input(func(in *specInput) { in.config.Resources.OOMScoreAdj = -997 }),
			func(s *specs.Spec) any { return *s.Process.OOMScoreAdj }, -997,
		},
		"the OOM score is not lower than it may be": {
			input(func(in *specInput) { in.config.Resources.OOMScoreAdj, in.machine.minOOMScoreAdj = -997, 5 }),
			func(s *specs.Spec) any { return *s.Process.OOMScoreAdj }, 5,
		},
		"a higher OOM score needs no right": {
			input(func(in *specInput) { in.config.Resources.OOMScoreAdj, in.machine.minOOMScoreAdj = 1000, 5 }),
			func(s *specs.Spec) any { return *s.Process.OOMScoreAdj }, 1000,
		},
		"root has the default capabilities": {
			input(func(*specInput) {}),
			func(s *specs.Spec) any { return s.Process.Capabilities.Effective }, capabilities,
		},
		"another user has none": {
			input(func(in *specInput) { in.user.UID = 1 }),
			func(s *specs.Spec) any { return s.Process.Capabilities.Effective }, []string(nil),
		},
		"the namespaces of the Pod are joined": {
			input(func(*specInput) {}),
			func(s *specs.Spec) any { return s.Linux.Namespaces },
			[]specs.LinuxNamespace{
				{Type: "mount"}, {Type: "ipc", Path: "/proc/42/ns/ipc"}, {Type: "uts", Path: "/proc/42/ns/uts"},
				{Type: "network", Path: "/proc/42/ns/net"}, {Type: "pid"},
			},
		},
		"resources": {
			input(func(in *specInput) {
				in.config.Resources = runtime.Resources{CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 1 << 20}
			}),
			func(s *specs.Spec) any { return s.Linux.Resources },
			&specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}},
				CPU:     &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(100000))},
				Memory:  &specs.LinuxMemory{Limit: new(int64(1 << 20))},
			},
		},
		"a memory limit on cgroup v2 ends the whole container and leaves no swap": {
			input(func(in *specInput) {
				in.config.Resources.MemoryLimit = 1 << 20
				in.machine.unified, in.machine.swapLimit = true, true
			}),
			func(s *specs.Spec) any { return s.Linux.Resources },
			&specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}},
				Memory:  &specs.LinuxMemory{Limit: new(int64(1 << 20)), Swap: new(int64(1 << 20))},
				Unified: map[string]string{"memory.oom.group": "1"},
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec, err := containerSpec(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, test.pick(spec)); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := containerSpec(input(func(in *specInput) { in.config.Command = nil })); err == nil {
		t.Error("a container without any command is accepted")
	}
}

func TestContainerMounts(t *testing.T) {
	mounts := containerMounts("/state/shm", []runtime.Mount{
		{HostPath: "/host/inner", ContainerPath: "/data/inner", ReadOnly: true},
		{HostPath: "/host/data", ContainerPath: "/data/"},
		{HostPath: "/host/shm", ContainerPath: "/dev/shm"},
	})
	var got []string
	for _, m := range mounts {
		if m.Type == "bind" {
			got = append(got, fmt.Sprint(m.Source, " ", m.Destination, " ", m.Options[len(m.Options)-1]))
		}
	}
	want := []string{"/host/data /data rw", "/host/inner /data/inner ro", "/host/shm /dev/shm rw"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("binds (-want +got):\n%s", diff)
	}
}

func TestSandboxSpecOfAHostNetworkPod(t *testing.T) {
	spec := sandboxSpec(runtime.SandboxConfig{}, "id", pauseFiles{"/root", "/bin/pause"}, machine{})
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace || ns.Type == specs.UTSNamespace {
			t.Errorf("it has its own %s namespace", ns.Type)
		}
	}
	if len(spec.Linux.Sysctl) != 0 {
		t.Errorf("it would change the machine's sysctls: %v", spec.Linux.Sysctl)
	}
}

func TestParseOOMKills(t *testing.T) {
	tests := map[string]struct {
		text string
		want int
		fail bool
	}{
		"version 1":           {text: "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", want: 3},
		"version 2":           {text: "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 1\n", want: 1},
		"a kernel without it": {text: "oom_kill_disable 0\nunder_oom 0\n", fail: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseOOMKills([]byte(test.text))
			if got != test.want || (err != nil) != test.fail {
				t.Errorf("parseOOMKills = %d, %v", got, err)
			}
		})
	}
}

func TestSignalOf(t *testing.T) {
	tests := map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "quit": syscall.SIGQUIT, "9": syscall.SIGKILL,
		"nonsense": syscall.SIGTERM, "0": syscall.SIGTERM, "99": syscall.SIGTERM,
	}
	for text, want := range tests {
		if got := signalOf(text); got != want {
			t.Errorf("signalOf(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestNormalise(t *testing.T) {
	digest := "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	tests := map[string]string{
		"ubuntu":                    "docker.io/library/ubuntu:latest",
		"ubuntu:14.04":              "docker.io/library/ubuntu:14.04",
		"docker.io/ubuntu:14.04":    "docker.io/library/ubuntu:14.04",
		"me/app":                    "docker.io/me/app:latest",
		"myregistry.com/ubuntu:1":   "myregistry.com/ubuntu:1",
		"localhost:5000/a":          "localhost:5000/a:latest",
		"reg.example/a:1@" + digest: "reg.example/a@" + digest,
	}
	for ref, want := range tests {
		if got, err := normalise(ref); err != nil || got != want {
			t.Errorf("normalise(%q) = %q, %v", ref, got, err)
		}
	}
	if _, err := normalise("UPPER"); err == nil {
		t.Error("an upper-case name is accepted")
	}
}

func TestStartErrors(t *testing.T) {
	grpc := func(code codes.Code) error { return &taskError{"create", native(grpcstatus.Error(code, "text"))} }
	tests := map[string]struct {
		err  error
		want bool
	}{
		"runc refuses":                 {grpc(codes.Unknown), true},
		"a mount does not exist":       {grpc(codes.NotFound), true},
		"containerd is away":           {grpc(codes.Unavailable), false},
		"the caller gave up":           {grpc(codes.Canceled), false},
		"it took too long":             {grpc(codes.DeadlineExceeded), false},
		"a task is left":               {grpc(codes.AlreadyExists), false},
		"the file system is not ready": {errors.New("prepare"), false},
		"nothing is wrong":             {nil, false},
	}
	for name, test := range tests {
		if got := isStartError(test.err); got != test.want {
			t.Errorf("%s: isStartError = %v", name, got)
		}
	}
}

func TestNativeKeepsClasses(t *testing.T) {
	once := native(grpcstatus.Error(codes.NotFound, "gone"))
	if !errdefs.IsNotFound(once) || !errdefs.IsNotFound(native(once)) || native(nil) != nil {
		t.Errorf("classes are lost: %v, %v", once, native(once))
	}
}

func TestRecordsSurviveStorage(t *testing.T) {
	r := record{
		Kind: kindContainer, PodIdentity: runtime.PodIdentity{UID: "u", Namespace: "ns", Name: "n"}, Attempt: 2,
		CreatedAt: noon, Container: "app", SandboxID: "s", LogPath: "/l", StopSignal: "SIGQUIT",
	}
	s := status{StartedAt: noon, FinishedAt: evening, ExitCode: 3, Reason: "Error"}
	stored := containers.Container{ID: r.id(), Extensions: map[string]typeurl.Any{}}
	for name, value := range map[string]any{extensionRecord: r, extensionStatus: s} {
		encoded, err := encodeExtension(value)
		if err != nil {
			t.Fatal(err)
		}
		stored.Extensions[name] = encoded
	}
	gotRecord, gotStatus, ours, err := decode(stored)
	if err != nil || !ours {
		t.Fatalf("decode = %v, %v", ours, err)
	}
	if diff := cmp.Diff(r, gotRecord); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(s, gotStatus); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if _, _, ours, err := decode(containers.Container{ID: "other"}); ours || err != nil {
		t.Errorf("somebody else's container: ours %v, %v", ours, err)
	}
}

func TestEventsDoNotWaitForASlowSubscriber(t *testing.T) {
	var b broadcaster
	slow := b.subscribe(t.Context())
	for range 2*maxQueue + 2 {
		b.publish(runtime.Event{Type: runtime.ContainerExited})
	}
	for event := range slow {
		if event.Type == runtime.Resync {
			return // told that it missed some
		}
	}
	t.Error("the subscriber was not told that it missed events")
}

func TestOutputURI(t *testing.T) {
	tests := map[string]struct{ program, path, want string }{
		"usual paths":              {"/usr/bin/keelson-logger", "/var/log/pods/a_b_c/app/0.log", "binary:///usr/bin/keelson-logger?log=%2Fvar%2Flog%2Fpods%2Fa_b_c%2Fapp%2F0.log"},
		"paths that need escaping": {"/a b/l?g", "/x&y=z/#1 %.log", "binary:///a%20b/l%3Fg?log=%2Fx%26y%3Dz%2F%231+%25.log"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := outputURI(test.program, test.path)
			if got != test.want {
				t.Errorf("URI %s, want %s", got, test.want)
			}
			// What the shim makes of it.
			uri, err := url.Parse(got)
			if err != nil || uri.Path != test.program || uri.Query().Get("log") != test.path {
				t.Errorf("read as %+v, %v", uri, err)
			}
		})
	}
}

func TestTrust(t *testing.T) {
	compare := func(during ...func(*trust)) func(*trust) {
		return func(t *trust) {
			begun := t.begin()
			for _, f := range during {
				f(t)
			}
			t.end(begun)
		}
	}
	tests := map[string]struct {
		steps []func(*trust)
		want  bool
	}{
		"nothing is known at the beginning":          {nil, false},
		"a comparison without events is soon stale":  {[]func(*trust){compare()}, false},
		"events alone are not enough":                {[]func(*trust){(*trust).subscribed}, false},
		"events and a comparison":                    {[]func(*trust){(*trust).subscribed, compare()}, true},
		"a comparison that began before the events":  {[]func(*trust){compare((*trust).subscribed)}, false},
		"events that ended":                          {[]func(*trust){(*trust).subscribed, compare(), (*trust).broken}, false},
		"events that ended during the comparison":    {[]func(*trust){(*trust).subscribed, compare((*trust).broken)}, false},
		"a new subscription during the comparison":   {[]func(*trust){(*trust).subscribed, compare((*trust).broken, (*trust).subscribed)}, false},
		"an event that failed":                       {[]func(*trust){(*trust).subscribed, compare(), (*trust).doubt}, false},
		"an event that failed during the comparison": {[]func(*trust){(*trust).subscribed, compare((*trust).doubt)}, false},
		"the next comparison restores it":            {[]func(*trust){(*trust).subscribed, (*trust).doubt, compare()}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var state trust
			for _, step := range test.steps {
				step(&state)
			}
			if got := state.holds(); got != test.want {
				t.Errorf("holds = %v", got)
			}
		})
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	_, err := New(t.Context(), Options{Address: "containerd.sock", StateDir: "state", PauseBinary: "/no/such/pause", LoggerBinary: "/dev/null"})
	for _, want := range []string{`Address "containerd.sock" must be an absolute path`, `StateDir "state" must be an absolute path`, "/no/such/pause: no such file", "--pause-binary", "LoggerBinary /dev/null is not an executable file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want %q in it", err, want)
		}
	}
}
