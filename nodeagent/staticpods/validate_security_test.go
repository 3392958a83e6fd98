package staticpods

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestValidateSecurity(t *testing.T) {
	type change = func(*corev1.PodSpec)
	sysctl := func(names ...string) change {
		return func(s *corev1.PodSpec) {
			for _, name := range names {
				s.SecurityContext.Sysctls = append(s.SecurityContext.Sysctls, corev1.Sysctl{Name: name, Value: "1"})
			}
		}
	}
	context := func(c corev1.SecurityContext) change {
		return func(s *corev1.PodSpec) { s.Containers[0].SecurityContext = &c }
	}
	mount := func(m corev1.VolumeMount) change {
		return func(s *corev1.PodSpec) { s.Containers[0].VolumeMounts = []corev1.VolumeMount{m} }
	}
	port := func(p corev1.ContainerPort) change {
		return func(s *corev1.PodSpec) { s.Containers[0].Ports = append(s.Containers[0].Ports, p) }
	}
	hostNetwork := func(s *corev1.PodSpec) { s.HostNetwork = true }
	hostIPC := func(s *corev1.PodSpec) { s.HostIPC = true }
	ownUsers := func(s *corev1.PodSpec) { s.HostUsers = new(false) }
	const in = "spec.containers[0]."
	tests := map[string]struct {
		change []change
		want   []string
	}{
		"an ordinary Pod": {},
		"a Pod that may much": {change: []change{sysctl("net.ipv4.tcp_syncookies", "net/core/somaxconn", "kernel.shm_rmid_forced"),
			context(corev1.SecurityContext{Privileged: new(true), RunAsUser: new(int64(0))}), port(corev1.ContainerPort{HostIP: "192.0.2.1", HostPort: 80}),
			mount(corev1.VolumeMount{SubPath: "a/b", MountPropagation: new(corev1.MountPropagationBidirectional)})}},
		"two addresses of one port": {change: []change{port(corev1.ContainerPort{HostIP: "192.0.2.1", HostPort: 80}), port(corev1.ContainerPort{HostIP: "192.0.2.2", HostPort: 80})}},

		"a sysctl of the machine's network": {change: []change{hostNetwork, sysctl("net.ipv4.tcp_syncookies")},
			want: []string{`spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.tcp_syncookies": may not be specified when 'hostNetwork' is true`}},
		"one with slashes": {change: []change{hostNetwork, sysctl("net/ipv4/tcp_syncookies")},
			want: []string{`spec.securityContext.sysctls[0].name: Invalid value: "net/ipv4/tcp_syncookies": may not be specified when 'hostNetwork' is true`}},
		"a sysctl of the machine's IPC": {change: []change{hostIPC, sysctl("kernel.msgmax")},
			want: []string{`spec.securityContext.sysctls[0].name: Invalid value: "kernel.msgmax": may not be specified when 'hostIPC' is true`}},
		"a sysctl that climbs out of its folder": {change: []change{sysctl("net.ipv4.//.//.kernel.core_pattern")},
			want: []string{`spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.//.//.kernel.core_pattern": must have at most 253 characters and match regex ` + sysctlForm}},
		"a sysctl twice, and one without a name": {change: []change{sysctl("kernel.sem", "kernel.sem", "")},
			want: []string{`spec.securityContext.sysctls[1].name: Duplicate value: "kernel.sem"`, "spec.securityContext.sysctls[2].name: Required value"}},

		"the machine's processes and shared ones": {change: []change{func(s *corev1.PodSpec) { s.HostPID, s.ShareProcessNamespace = true, new(true) }},
			want: []string{"spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled"}},
		"users of its own in namespaces of the machine": {change: []change{ownUsers, hostNetwork, hostIPC, func(s *corev1.PodSpec) { s.HostPID = true }},
			want: []string{"spec.hostNetwork: Forbidden: when `hostUsers` is false", "spec.HostPID: Forbidden: when `hostUsers` is false", "spec.HostIPC: Forbidden: when `hostUsers` is false"}},
		"an open /proc with the machine's users": {change: []change{context(corev1.SecurityContext{ProcMount: new(corev1.UnmaskedProcMount)})},
			want: []string{in + "securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"}},
		"an open /proc with users of its own": {change: []change{ownUsers, context(corev1.SecurityContext{ProcMount: new(corev1.UnmaskedProcMount)})}},
		"a /proc that nobody knows": {change: []change{ownUsers, context(corev1.SecurityContext{ProcMount: new(corev1.ProcMountType("Open"))})},
			want: []string{in + `securityContext.procMount: Unsupported value: "Open": supported values: "Default", "Unmasked"`}},

		"a user that would be root when it is cut to 32 bits": {change: []change{context(corev1.SecurityContext{RunAsUser: new(int64(-1 << 32)), RunAsGroup: new(int64(1 << 32))})},
			want: []string{in + "securityContext.runAsUser: Invalid value: -4294967296: must be between 0 and 2147483647, inclusive",
				in + "securityContext.runAsGroup: Invalid value: 4294967296: must be between 0 and 2147483647, inclusive"}},
		"groups of the Pod that are none": {change: []change{func(s *corev1.PodSpec) {
			s.SecurityContext.FSGroup, s.SecurityContext.SupplementalGroups = new(int64(-1)), []int64{1, -2}
		}}, want: []string{"spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive",
			"spec.securityContext.supplementalGroups[1]: Invalid value: -2: must be between 0 and 2147483647, inclusive"}},
		"policies that nobody knows": {change: []change{func(s *corev1.PodSpec) {
			s.SecurityContext.FSGroupChangePolicy, s.SecurityContext.SupplementalGroupsPolicy = new(corev1.PodFSGroupChangePolicy("Never")), new(corev1.SupplementalGroupsPolicy("Loose"))
		}}, want: []string{`spec.securityContext.fsGroupChangePolicy: Unsupported value: "Never": supported values: "Always", "OnRootMismatch"`,
			`spec.securityContext.supplementalGroupsPolicy: Unsupported value: "Loose": supported values: "Merge", "Strict"`}},

		"a seccomp type that nobody knows, which must not mean none": {change: []change{context(corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: "runtime/default"}})},
			want: []string{in + `securityContext.seccompProfile.type: Unsupported value: "runtime/default": supported values: "Localhost", "RuntimeDefault", "Unconfined"`}},
		"a seccomp profile above its folder": {change: []change{context(corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: "Localhost", LocalhostProfile: new("../p.json")}})},
			want: []string{in + `securityContext.seccompProfile.localhostProfile: Invalid value: "../p.json": must not contain '..'`}},
		"no type of profile": {change: []change{func(s *corev1.PodSpec) {
			s.SecurityContext.SeccompProfile, s.SecurityContext.AppArmorProfile = &corev1.SeccompProfile{}, &corev1.AppArmorProfile{}
		}}, want: []string{"spec.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set",
			"spec.securityContext.appArmorProfile.type: Required value: type is required when appArmorProfile is set"}},
		"a profile without its name, and a name without its type": {change: []change{context(corev1.SecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: "Localhost"}, AppArmorProfile: &corev1.AppArmorProfile{Type: "RuntimeDefault", LocalhostProfile: new("p")}})},
			want: []string{in + "securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
				in + `securityContext.appArmorProfile.localhostProfile: Invalid value: "p": can only be set when AppArmor type is Localhost`}},

		"a mount that would reach the machine": {change: []change{mount(corev1.VolumeMount{MountPropagation: new(corev1.MountPropagationBidirectional)})},
			want: []string{in + "volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"}},
		"paths that leave the volume": {change: []change{mount(corev1.VolumeMount{SubPath: "../a", SubPathExpr: "/b"})},
			want: []string{in + `volumeMounts[0].subPath: Invalid value: "../a": must not contain '..'`, in + `volumeMounts[0].subPathExpr: Invalid value: "/b": must be a relative path`}},

		"a port that two containers want": {change: []change{port(corev1.ContainerPort{Protocol: "TCP", HostPort: 80}), func(s *corev1.PodSpec) {
			s.Containers = append(s.Containers, corev1.Container{Name: "second", Ports: s.Containers[0].Ports})
		}}, want: []string{`spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//80"`}},
		"init containers that want one port after the other": {change: []change{port(corev1.ContainerPort{Protocol: "TCP", HostPort: 80}), func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Name: "i1", Ports: s.Containers[0].Ports}, {Name: "i2", Ports: s.Containers[0].Ports}}
		}}},
		"an address that is none, which must not mean all": {change: []change{port(corev1.ContainerPort{HostIP: "localhost", HostPort: 80})},
			want: []string{in + `ports[0].hostIP: Invalid value: "localhost": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{}, Containers: []corev1.Container{{Name: "main"}}}
			for _, change := range tt.change {
				change(spec)
			}
			var got []string
			for _, err := range ValidateSecurity(spec) {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

// Volumes, containers and their logs are folders of the node.
func TestNamesThatAreWaysElsewhereAreRefused(t *testing.T) {
	spec := &corev1.PodSpec{
		Volumes:             []corev1.Volume{{Name: "../../../../etc"}},
		InitContainers:      []corev1.Container{{Name: "../init"}},
		Containers:          []corev1.Container{{Name: "a/b"}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: ".."}}},
	}
	var got []string
	for _, err := range ValidateSecurity(spec) {
		got = append(got, err.Field)
	}
	want := []string{"spec.volumes[0].name", "spec.initContainers[0].name", "spec.containers[0].name", "spec.ephemeralContainers[0].name"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

func TestPrivilegesThatContradictAreRefused(t *testing.T) {
	for name, c := range map[string]corev1.SecurityContext{
		"privileged":    {AllowPrivilegeEscalation: new(false), Privileged: new(true)},
		"CAP_SYS_ADMIN": {AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"CAP_SYS_ADMIN"}}},
	} {
		spec := &corev1.PodSpec{Containers: []corev1.Container{{Name: "main", SecurityContext: &c}}}
		if errs := ValidateSecurity(spec); len(errs) != 1 || errs[0].Field != "spec.containers[0].securityContext" {
			t.Errorf("%s without escalation: %v", name, errs)
		}
	}
}
