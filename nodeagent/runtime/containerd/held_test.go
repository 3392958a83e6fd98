package containerd

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

func TestNeedsProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		config runtime.SandboxConfig
		want   bool
	}{
		"one container":                           {runtime.SandboxConfig{Containers: 1}, false},
		"two containers":                          {runtime.SandboxConfig{Containers: 2}, false},
		"three containers, which share one shim":  {runtime.SandboxConfig{Containers: 3}, true},
		"the processes of the Pod are shared":     {runtime.SandboxConfig{SharePID: true}, true},
		"user IDs of its own":                     {runtime.SandboxConfig{Users: &userns.Range{}}, true},
		"the machine's namespaces and parameters": {runtime.SandboxConfig{HostPID: true, HostIPC: true, Sysctls: map[string]string{"a": "b"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := needsProcess(tc.config); got != tc.want {
				t.Errorf("needsProcess = %v", got)
			}
		})
	}
}

func TestNamespacesOfAContainerInASandboxWithoutAProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		config runtime.SandboxConfig
		want   map[specs.LinuxNamespaceType]string
	}{
		"all of its own": {
			runtime.SandboxConfig{NetNSPath: "/net/p", Hostname: "p"},
			map[specs.LinuxNamespaceType]string{"mount": "", "pid": "", "ipc": "/s/ipc", "uts": "/s/uts", "network": "/net/p"},
		},
		"the machine's network, and so its name": {
			runtime.SandboxConfig{}, map[specs.LinuxNamespaceType]string{"mount": "", "pid": "", "ipc": "/s/ipc"},
		},
		"the machine's shared memory": {
			runtime.SandboxConfig{HostIPC: true, NetNSPath: "/net/p", Hostname: "p"},
			map[specs.LinuxNamespaceType]string{"mount": "", "pid": "", "uts": "/s/uts", "network": "/net/p"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := specInput{held: heldBy(tc.config, "/s")}
			got := map[specs.LinuxNamespaceType]string{}
			for _, ns := range containerNamespaces(in) {
				got[ns.Type] = ns.Path
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("namespaces (-want +got):\n%s", diff)
			}
			if len(containerAnnotations(in)) > 0 {
				t.Error("it would share a shim that may end at any time")
			}
		})
	}
}

func TestSysctlPath(t *testing.T) {
	for name, want := range map[string]string{
		"kernel.shm_rmid_forced":        "kernel/shm_rmid_forced",
		"net.ipv4.conf.eth0/7.arp_ping": "net/ipv4/conf/eth0.7/arp_ping",
		"net/ipv4/conf/eth0.7/arp_ping": "net/ipv4/conf/eth0.7/arp_ping",
	} {
		if got := sysctlPath(name); got != want {
			t.Errorf("%s lies at %s, want %s", name, got, want)
		}
	}
}

func TestSysctlsOfTheMachineAreRefused(t *testing.T) {
	own := held{Net: "/net/p", IPC: "/s/ipc"}
	for name, tc := range map[string]struct {
		held   held
		sysctl string
		fails  bool
	}{
		"of the Pod's network":            {own, "net.ipv4.ip_local_port_range", false},
		"with slashes":                    {own, "net/ipv4/conf/eth0.7/arp_notify", false},
		"of the Pod's shared memory":      {own, "kernel.shm_rmid_forced", false},
		"of the machine's network":        {held{IPC: "/s/ipc"}, "net.ipv4.ip_forward", true},
		"of the machine's shared memory":  {held{Net: "/net/p"}, "kernel.shmmax", true},
		"of no namespace":                 {own, "kernel.core_pattern", true},
		"of no namespace, by another way": {own, "net.ipv4.//.//.kernel.core_pattern", true},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.held.checkSysctls(map[string]string{tc.sysctl: "1"})
			if tc.fails != (err != nil) {
				t.Errorf("checkSysctls = %v", err)
			}
		})
	}
}
