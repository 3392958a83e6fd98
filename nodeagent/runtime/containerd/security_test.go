package containerd_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/apparmor"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// say runs a script under the given security and returns what it printed.
func (p *pod) say(name, script string, s runtime.Security, edit ...func(*runtime.ContainerConfig)) string {
	p.t.Helper()
	config := p.config(name, "sh", "-c", script)
	config.Security = s
	for _, e := range edit {
		e(&config)
	}
	id := p.run(config)
	p.waitExited(id)
	return strings.TrimSpace(p.output(id))
}

func TestProcessesRunAsThePodSays(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	appImage := f.pull(f.push("app:1", func(s *imagebuild.Spec) { s.Config.User = "app" }))
	asApp := func(c *runtime.ContainerConfig) { c.ImageRef = appImage.Ref }
	const who = `echo $(id -u) $(id -g) $(grep Groups: /proc/self/status | cut -f2)`
	tests := map[string]struct {
		security runtime.Security
		edit     func(*runtime.ContainerConfig)
		want     string
	}{
		"the image's user has the groups that the image gives":   {runtime.Security{}, asApp, "1001 1002 1002 1003"},
		"strictly, the image gives no groups":                    {runtime.Security{StrictGroups: true}, asApp, "1001 1002 1002"},
		"groups of the Pod come on top":                          {runtime.Security{SupplementalGroups: []int64{7, 1003}}, asApp, "1001 1002 7 1002 1003"},
		"a group takes the place of the image's":                 {runtime.Security{RunAsGroup: new(int64(5))}, asApp, "1001 5 5 1003"},
		"a user of the Pod's choice has its groups of the image": {runtime.Security{RunAsUser: new(int64(1001))}, nil, "1001 1002 1002 1003"},
		"a user that the image does not know is in root's group": {runtime.Security{RunAsUser: new(int64(4711))}, nil, "4711 0 0"},
		"user and group":    {runtime.Security{RunAsUser: new(int64(4711)), RunAsGroup: new(int64(12))}, nil, "4711 12 12"},
		"root with a group": {runtime.Security{RunAsGroup: new(int64(12))}, nil, "0 12 12"},
		"root, though the image says otherwise, in the Pod's group": {runtime.Security{RunAsUser: new(int64(0)), SupplementalGroups: []int64{9}, StrictGroups: true}, asApp, "0 0 0 9"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			edit := tt.edit
			if edit == nil {
				edit = func(*runtime.ContainerConfig) {}
			}
			if got := p.say("who", who, tt.security, edit); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := p.userOfNewest(); got != tt.want {
				t.Errorf("the runtime says %q, want %q", got, tt.want)
			}
		})
	}
	before := p.userOfNewest()
	f.restartAgent()
	if after := p.userOfNewest(); after != before {
		t.Errorf("%q became %q with another agent", before, after)
	}
}

// userOfNewest is what the runtime says of the container that was made last, in the form
// of the kernel.
func (p *pod) userOfNewest() string {
	p.t.Helper()
	state, err := p.Pod(p.t.Context(), p.identity.UID)
	p.must(err)
	newest := slices.MaxFunc(state.Containers, func(a, b runtime.Container) int { return a.CreatedAt.Compare(b.CreatedAt) })
	groups := slices.Sorted(slices.Values(newest.User.Groups))
	return strings.Trim(fmt.Sprint(append([]int64{newest.User.UID, newest.User.GID}, groups...)), "[]")
}

func TestRightsOfProcesses(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	const filtered = `grep Seccomp: /proc/self/status | cut -f2`
	profile := filepath.Join(f.daemon.Dir(), "no-mkdir.json")
	f.must(os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
		{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`), 0o600))
	tests := map[string]struct {
		security runtime.Security
		script   string
		want     string
	}{
		"by default programs may gain rights":       {runtime.Security{}, `grep NoNewPrivs /proc/self/status | cut -f2`, "0"},
		"programs gain no rights":                   {runtime.Security{NoNewPrivileges: true}, `grep NoNewPrivs /proc/self/status | cut -f2`, "1"},
		"the image's files can be written":          {runtime.Security{}, `echo x > /x; cat /x`, "x"},
		"the image's files cannot be written":       {runtime.Security{ReadOnlyRootFilesystem: true}, `echo x 2>&1 > /x || echo no; echo y > /dev/shm/y && cat /dev/shm/y`, "sh: can't create /x: Read-only file system\nno\ny"},
		"system calls are not filtered":             {runtime.Security{}, filtered, "0"},
		"system calls are filtered":                 {runtime.Security{Seccomp: runtime.Seccomp{Type: runtime.SeccompRuntimeDefault}}, filtered, "2"},
		"a profile of the machine":                  {runtime.Security{Seccomp: runtime.Seccomp{Type: runtime.SeccompLocalhost, Path: profile}}, `mkdir /tmp/a 2>&1 || echo no`, "mkdir: can't create directory '/tmp/a': Operation not permitted\nno"},
		"an unprivileged process sees no devices":   {runtime.Security{}, `test -e /dev/loop0 || echo none; grep -c 'sysfs ro' /proc/mounts`, "none\n1"},
		"a privileged process sees all":             {runtime.Security{Privileged: true}, `test -c /dev/kmsg && echo there; grep -c 'sysfs rw' /proc/mounts`, "there\n1"},
		"a privileged process has all capabilities": {runtime.Security{Privileged: true}, `grep CapEff /proc/self/status | cut -f2`, ownCapabilities(t)},
		"a privileged process may change settings":  {runtime.Security{Privileged: true}, `test -w /proc/sys/kernel/domainname && echo writable`, "writable"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := p.say("rights", tt.script, tt.security); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("a profile that is not there is named", func(t *testing.T) {
		config := p.config("rights", "true")
		config.Security.Seccomp = runtime.Seccomp{Type: runtime.SeccompLocalhost, Path: "/no/such"}
		_, err := p.CreateContainer(context.Background(), config)
		if err == nil || !strings.Contains(err.Error(), `cannot load seccomp profile "/no/such"`) {
			t.Errorf("got %v", err)
		}
	})
}

// Which AppArmor profile confines a process, on a machine that has AppArmor (make test-vm).
func TestAppArmorConfines(t *testing.T) {
	if !apparmor.HostSupports() {
		t.Skip("needs a kernel with AppArmor, and apparmor_parser")
	}
	f := newFixture(t)
	p := f.newPod()
	const local = "keelson-test-no-writing"
	source := filepath.Join(t.TempDir(), local)
	f.must(os.WriteFile(source, []byte("profile "+local+" flags=(attach_disconnected) { file, capability, network, signal, deny /forbidden w, }\n"), 0o600))
	for _, action := range []string{"--replace", "--remove"} {
		run := func() {
			if out, err := exec.Command("apparmor_parser", action, source).CombinedOutput(); err != nil {
				t.Errorf("apparmor_parser %s: %v: %s", action, err, out)
			}
		}
		if action == "--remove" {
			t.Cleanup(run)
		} else {
			run()
		}
	}
	confined := func(kind runtime.AppArmorType, name string, privileged bool) runtime.Security {
		return runtime.Security{AppArmor: runtime.AppArmor{Type: kind, Profile: name}, Privileged: privileged}
	}
	const profile = "cat /proc/self/attr/current"
	tests := map[string]struct {
		security     runtime.Security
		script, want string
	}{
		"nothing is said":          {confined(runtime.AppArmorUnset, "", false), profile, "keelson-default (enforce)"},
		"the default":              {confined(runtime.AppArmorRuntimeDefault, "", false), profile, "keelson-default (enforce)"},
		"nothing, privileged":      {confined(runtime.AppArmorUnset, "", true), profile, "unconfined"},
		"unconfined":               {confined(runtime.AppArmorUnconfined, "", false), profile, "unconfined"},
		"one of the machine":       {confined(runtime.AppArmorLocalhost, local, false), profile, local + " (enforce)"},
		"one of the machine works": {confined(runtime.AppArmorLocalhost, local, false), "echo x 2>&1 > /forbidden || echo no; echo y > /allowed && cat /allowed", "sh: can't create /forbidden: Permission denied\nno\ny"},
		"one, and privileged":      {confined(runtime.AppArmorLocalhost, local, true), profile, local + " (enforce)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := p.say("confined", tt.script, tt.security); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("commands are confined too", func(t *testing.T) {
		id := p.run(p.config("waits", "sleep", "1000"))
		var out screen
		f.must(f.Exec(t.Context(), id, []string{"cat", "/proc/self/attr/current"}, runtime.Streams{Stdout: &out}))
		if got := strings.TrimSpace(out.String()); got != "keelson-default (enforce)" {
			t.Errorf("the command is under %q", got)
		}
		f.must(f.StopContainer(t.Context(), id, 0))
	})
	t.Run("a profile that is not loaded is named", func(t *testing.T) {
		config := p.config("confined", "true")
		config.Security = confined(runtime.AppArmorLocalhost, "no-such", false)
		if _, err := p.CreateContainer(t.Context(), config); err == nil || !strings.Contains(err.Error(), "failed to generate apparmor spec opts: apparmor profile not found no-such") {
			t.Errorf("got %v", err)
		}
	})
}

// ownCapabilities are those of this process, as /proc says.
func ownCapabilities(t *testing.T) string {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "CapEff:\t"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatal("no capabilities in /proc/self/status")
	return ""
}

func TestNamespacesOfTheMachine(t *testing.T) {
	f := newFixture(t)
	const spaces = `readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc`
	own := func(name string) string {
		target, err := os.Readlink("/proc/self/ns/" + name)
		f.must(err)
		return target
	}
	share := func(c *runtime.ContainerConfig) { c.HostPID, c.HostIPC = true, true }
	p := f.newPod(func(s *runtime.SandboxConfig) { s.HostPID, s.HostIPC = true, true })
	if got, want := p.say("spaces", spaces, runtime.Security{}, share), own("pid")+"\n"+own("ipc"); got != want {
		t.Errorf("a Pod that shares the machine's namespaces has %q, want %q", got, want)
	}
	stopped := p.config("endless", "sleep", "1000")
	share(&stopped)
	id := p.run(stopped)
	f.must(f.StopContainer(context.Background(), id, 0))
	if c := p.container(id); c.State != runtime.Exited {
		t.Errorf("a stopped container with the machine's processes is %s", c.State)
	}
	alone := f.newPod()
	if got := alone.say("spaces", spaces, runtime.Security{}); strings.Contains(got, own("pid")) || strings.Contains(got, own("ipc")) {
		t.Errorf("a Pod of its own has the machine's namespaces: %q", got)
	}
}

func TestSysctlsOfAPod(t *testing.T) {
	f := newFixture(t)
	p := f.newPod(func(s *runtime.SandboxConfig) { s.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1"} })
	if got := p.say("settings", "cat /proc/sys/kernel/shm_rmid_forced", runtime.Security{}); got != "1" {
		t.Errorf("the setting is %q, want 1", got)
	}
}
