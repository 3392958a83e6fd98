package containerd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// needSELinux skips where processes have no labels, or the policy has none for containers.
// `make test-vm` has a machine with them.
func needSELinux(t *testing.T) {
	t.Helper()
	process, _, err := label.InitLabels(nil)
	if err != nil {
		t.Fatal(err)
	}
	selinux.ReleaseLabel(process)
	if process == "" {
		t.Skip("needs SELinux, and a policy with types for containers")
	}
}

// TestSELinuxKeepsPodsApart runs two Pods whose root could read each other's files by their
// modes, and checks that the kernel forbids it by their labels.
func TestSELinuxKeepsPodsApart(t *testing.T) {
	needSELinux(t)
	f := newFixture(t)
	volume := func(name string) string {
		dir := filepath.Join(f.daemon.Dir(), name)
		f.must(os.Mkdir(dir, 0o777))
		f.must(os.WriteFile(filepath.Join(dir, "file"), []byte("of "+name), 0o666))
		return dir
	}
	mine, theirs := volume("mine"), volume("theirs")
	other := f.newPod()
	config := other.config("other", "true")
	config.Mounts = []runtime.Mount{{HostPath: theirs, ContainerPath: "/data", Relabel: true}}
	other.waitExited(other.run(config))

	p := f.newPod()
	config = p.config("main", "sh", "-c", "exec 2>&1; cat /proc/self/attr/current | tr -d '\\0'; echo; cat /mine/file; echo; echo x > /mine/new && echo written; echo x > /dev/shm/x && echo shared; echo x > /tmp/x && echo own; cat /theirs/file; ls /theirs")
	config.Mounts = []runtime.Mount{
		{HostPath: mine, ContainerPath: "/mine", Relabel: true},
		{HostPath: theirs, ContainerPath: "/theirs"}, // as hostPath: the label is the other Pod's
	}
	id := p.run(config)
	p.waitExited(id)
	out := p.output(id)
	for _, want := range []string{":container_t:s0:c", "of mine\nwritten\nshared\nown\n", "'/theirs/file': Permission denied", "/theirs: Permission denied"} {
		if !strings.Contains(out, want) {
			t.Errorf("output %q, want %q in it", out, want)
		}
	}
}

func TestSELinuxLabelsAreTheAskedOnes(t *testing.T) {
	needSELinux(t)
	f := newFixture(t)
	p := f.newPod(func(c *runtime.SandboxConfig) { c.SELinux = &runtime.SELinux{Level: "s0:c10,c20"} })
	labelOf := func(name string, own *runtime.SELinux, privileged bool) string {
		config := p.config(name, "sh", "-c", "tr -d '\\0' < /proc/self/attr/current")
		config.Security.SELinux, config.Security.Privileged = own, privileged
		id := p.run(config)
		p.waitExited(id)
		return strings.TrimSpace(p.output(id))
	}
	if got := labelOf("pods", nil, false); !strings.HasSuffix(got, ":container_t:s0:c10,c20") {
		t.Errorf("a container of the Pod runs as %s", got)
	}
	f.restartAgent()
	if got := labelOf("later", nil, false); !strings.HasSuffix(got, ":container_t:s0:c10,c20") {
		t.Errorf("a container after a restart of the agent runs as %s", got)
	}
	if got := labelOf("own", &runtime.SELinux{Level: "s0:c30,c40"}, false); !strings.HasSuffix(got, ":container_t:s0:c30,c40") {
		t.Errorf("a container with a label of its own runs as %s", got)
	}
	if got := labelOf("privileged", nil, true); strings.Contains(got, "container_t") {
		t.Errorf("a privileged container runs as %s", got)
	}
	bad := p.config("bad", "true")
	bad.Security.SELinux = &runtime.SELinux{Level: "secret"}
	if _, err := f.CreateContainer(t.Context(), bad); err == nil || err.Error() != fmt.Sprintf("the format of 'level' %q is not correct", "secret") {
		t.Errorf("a level of no sense: %v", err)
	}
}
