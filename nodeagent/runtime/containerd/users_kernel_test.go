package containerd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

var testUsers = userns.Range{HostID: 40 * userns.Length, Length: userns.Length}

// ownNetns is netns, owned by a user namespace of its own.
func ownNetns(t *testing.T) string {
	t.Helper()
	if err := (&userns.Support{Dir: t.TempDir()}).Check(); err != nil {
		t.Skipf("needs user namespaces and mounts with mapped IDs: %v", err)
	}
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := userns.In(testUsers, unix.CLONE_NEWNET, func(dir string) error {
		return unix.Mount(dir+"/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, 0); err != nil {
			t.Errorf("unmount the network namespace: %v", err)
		}
	})
	return path
}

func (f *fixture) newUserPod() *pod {
	f.t.Helper()
	path := ownNetns(f.t.(*testing.T))
	f.must(os.Chmod(f.daemon.Dir(), 0o711)) // as /run/containerd and /run/keelson
	return f.newPod(func(c *runtime.SandboxConfig) { c.NetNSPath, c.Users = path, &testUsers })
}

func (p *pod) userConfig(name, script string) runtime.ContainerConfig {
	config := p.config(name, "sh", "-c", "exec 2>&1; "+script)
	config.Users = &testUsers
	return config
}

func TestUserNamespace(t *testing.T) {
	f := newFixture(t)
	p := f.newUserPod()
	dir := t.TempDir()
	f.must(os.WriteFile(filepath.Join(dir, "root"), []byte("of root\n"), 0o600))
	f.must(os.WriteFile(filepath.Join(dir, "app"), []byte("of app\n"), 0o600))
	f.must(os.Chown(filepath.Join(dir, "app"), 1001, 1002))
	config := p.userConfig("look", `cat /proc/self/uid_map /proc/self/gid_map; id -u
cat /data/root; stat -c '%u:%g %n' /data/app / /bin /etc/passwd; echo new > /data/new; touch /own /dev/shm/x
ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo again > /dev/stdout; sleep 1000`)
	config.Mounts = []runtime.Mount{{HostPath: dir, ContainerPath: "/data"}, {HostPath: filepath.Join(dir, "root"), ContainerPath: "/single", ReadOnly: true}}
	id := p.run(config)
	p.waitOutput(id, "again")
	ids := fmt.Sprintf("%10d %10d %10d\n", 0, testUsers.HostID, testUsers.Length)
	want := ids + ids + "0\nof root\n1001:1002 /data/app\n0:0 /\n0:0 /bin\n0:0 /etc/passwd\nlo\n0\nagain\n"
	if got := p.output(id); got != want {
		t.Errorf("output %q\nwant   %q", got, want)
	}
	owner := func(path string) string {
		var stat unix.Stat_t
		f.must(unix.Stat(path, &stat))
		return fmt.Sprintf("%d:%d", stat.Uid, stat.Gid)
	}
	if got := owner(filepath.Join(dir, "new")); got != "0:0" {
		t.Errorf("what the container's root wrote into a volume belongs to %s on the machine, want 0:0", got)
	}
	pid := f.daemon.Pid(t, id)
	if got, want := owner(fmt.Sprintf("/proc/%d", pid)), fmt.Sprintf("%d:%d", testUsers.HostID, testUsers.HostID); got != want {
		t.Errorf("the process belongs to %s on the machine, want %s", got, want)
	}
	for _, namespace := range []string{"ipc", "uts", "net", "user"} {
		inContainer, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, namespace))
		inSandbox, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.sandbox.PID, namespace))
		if inContainer == "" || inContainer != inSandbox {
			t.Errorf("namespace %s of container and sandbox: %q and %q", namespace, inContainer, inSandbox)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(f.stateDir, "mapped", "*")); len(left) > 0 {
		t.Errorf("left after the start: %v", left)
	}
	f.must(f.StopContainer(t.Context(), id, 0))
}

func TestUserNamespaceAsAnotherUser(t *testing.T) {
	f := newFixture(t)
	p := f.newUserPod()
	config := p.userConfig("app", "id -u; id -g; echo again > /dev/stdout; touch /tmp/x /dev/shm/y; ls -ln /proc/kcore | cut -c1-4; echo a > /proc/sys/kernel/hostname")
	config.Security.RunAsUser = new(int64(1001))
	id := p.run(config)
	p.waitExited(id)
	if got, want := p.output(id), "1001\n1002\nagain\n"; !strings.HasPrefix(got, want) {
		t.Errorf("output %q, want it to begin with %q", got, want)
	}
	beyond := p.userConfig("beyond", "true")
	beyond.Security.RunAsUser = new(int64(userns.Length))
	if _, err := f.CreateContainer(t.Context(), beyond); err == nil || !strings.Contains(err.Error(), "has the user or group ID 65536: a Pod with hostUsers: false has the IDs 0 to 65535") {
		t.Errorf("a user that the Pod does not have: %v", err)
	}
}

func TestUserNamespaceWithARestartedAgent(t *testing.T) {
	f := newFixture(t)
	p := f.newUserPod()
	config := p.userConfig("again", "cat /proc/self/uid_map; trap 'exit 0' TERM; while :; do sleep 0.1; done")
	id, err := f.CreateContainer(t.Context(), config)
	f.must(err)
	f.restartAgent()
	f.must(f.StartContainer(t.Context(), id)) // what is mounted for it is made by the next agent
	p.waitOutput(id, fmt.Sprint(testUsers.HostID))
	f.restartAgent()
	f.must(f.StopContainer(t.Context(), id, time.Minute))
	if got := p.container(id); got.ExitCode != 0 {
		t.Errorf("container is %+v", got)
	}
}

func TestUserNamespaceRefusals(t *testing.T) {
	f := newFixture(t)
	p := f.newUserPod()
	t.Run("a volume of a file system that cannot map IDs", func(t *testing.T) {
		config := p.userConfig("proc", "true")
		config.Mounts = []runtime.Mount{{HostPath: "/proc/sys/net", ContainerPath: "/data"}}
		id, err := f.CreateContainer(t.Context(), config)
		f.must(err)
		if err := f.StartContainer(t.Context(), id); err == nil || !strings.Contains(err.Error(), "failed to set MOUNT_ATTR_IDMAP on /proc/sys/net: invalid argument (maybe the filesystem used doesn't support idmap mounts on this kernel?)") {
			t.Errorf("StartContainer = %v", err)
		}
	})
	// A newer runc (1.5.2) compares the IDs itself.
	const runcSays = "both namespace path and non-matching mapping specified"
	for name, test := range map[string]struct{ path, want string }{
		"a network namespace of the machine": {netns(t), "belongs to the machine's user namespace"},
		"a network namespace of other IDs":   {ownNetns(t), fmt.Sprintf("the user namespace of the sandbox has the IDs [0 %d 65536] (container, machine, length), not [0 %d 65536]", testUsers.HostID, testUsers.HostID+userns.Length)},
	} {
		t.Run(name, func(t *testing.T) {
			other := f.podWithoutSandbox()
			_, err := f.RunSandbox(t.Context(), runtime.SandboxConfig{
				PodIdentity: other.identity, CgroupParent: f.podCgroup(other.identity.UID), Hostname: "other",
				NetNSPath: test.path, Users: &userns.Range{HostID: testUsers.HostID + userns.Length, Length: userns.Length},
			})
			if err == nil || !strings.Contains(err.Error(), test.want) && !strings.Contains(err.Error(), runcSays) {
				t.Errorf("RunSandbox = %v", err)
			}
		})
	}
}

func TestUnmaskedProcInAUserNamespace(t *testing.T) {
	f := newFixture(t)
	p := f.newUserPod()
	config := p.userConfig("unmasked", "mount | grep -c ' on /proc/'; true")
	config.Security.UnmaskedProc = true
	id := p.run(config)
	p.waitExited(id)
	if got := p.output(id); got != "0\n" {
		t.Errorf("mounts over /proc: %q, want none", got)
	}
}

// Commands and terminals work as in other Pods, for users without rights too.
func TestUserNamespaceWithCommandsAndTerminals(t *testing.T) {
	f := newFixture(t)
	p := f.newUserPod()
	for name, tty := range map[string]bool{"input": false, "terminal": true} {
		t.Run(name, func(t *testing.T) {
			id := p.interactive(name, func(c *runtime.ContainerConfig) {
				c.Users, c.TTY, c.Security.RunAsUser = &testUsers, tty, new(int64(1001))
			}, "sh", "-c", "echo ready > /dev/stdout; "+echoLines)
			p.waitOutput(id, "ready")
			s := f.attach(id, tty, nil)
			s.eventually("it answers", func() bool {
				s.send("hello\n")
				return strings.Contains(p.output(id), "got hello")
			})
			var out screen
			f.must(f.Exec(t.Context(), id, []string{"sh", "-c", "id -u; echo again > /dev/stdout"}, runtime.Streams{Stdout: &out}))
			if got := out.String(); got != "1001\nagain\n" {
				t.Errorf("the command said %q", got)
			}
			f.must(f.StopContainer(t.Context(), id, 0))
			f.must(<-s.done)
		})
	}
}
