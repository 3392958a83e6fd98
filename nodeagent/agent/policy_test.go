package agent

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestCheckPolicy(t *testing.T) {
	privileged := func(pod *keelsonv1.Pod) {
		pod.Spec.Containers = []corev1.Container{{Name: "main", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}}
	}
	sysctl := func(name string) func(*keelsonv1.Pod) {
		return func(pod *keelsonv1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: name, Value: "1"}}}
		}
	}
	tests := map[string]struct {
		pod   []func(*keelsonv1.Pod)
		allow bool
		want  refusal
	}{
		"an ordinary Pod":                     {allow: true},
		"a privileged container where it may": {pod: []func(*keelsonv1.Pod){privileged}, allow: true},
		"a privileged container where it may not": {pod: []func(*keelsonv1.Pod){privileged},
			want: refusal{"PrivilegedForbidden", "container main is privileged, which this node forbids (--allow-privileged=false)"}},
		"a privileged init container": {pod: []func(*keelsonv1.Pod){privileged, func(pod *keelsonv1.Pod) {
			pod.Spec.InitContainers, pod.Spec.Containers = pod.Spec.Containers, nil
		}}, want: refusal{"PrivilegedForbidden", "container main is privileged, which this node forbids (--allow-privileged=false)"}},
		"a safe sysctl":             {pod: []func(*keelsonv1.Pod){sysctl("kernel.shm_rmid_forced")}},
		"a safe one, with slashes":  {pod: []func(*keelsonv1.Pod){sysctl("net/ipv4/tcp_syncookies")}},
		"one that the node allows":  {pod: []func(*keelsonv1.Pod){sysctl("kernel.msgmax")}},
		"one by its full name":      {pod: []func(*keelsonv1.Pod){sysctl("net.core.somaxconn")}},
		"one that is not allowed":   {pod: []func(*keelsonv1.Pod){sysctl("kernel.sem")}, want: refusal{"SysctlForbidden", `forbidden sysctl: "kernel.sem" not allowlisted`}},
		"one without any namespace": {pod: []func(*keelsonv1.Pod){sysctl("vm.swappiness")}, want: refusal{"SysctlForbidden", `forbidden sysctl: "vm.swappiness" not allowlisted`}},
		"one of the machine's network": {pod: []func(*keelsonv1.Pod){sysctl("net.ipv4.tcp_syncookies"), func(pod *keelsonv1.Pod) { pod.Spec.HostNetwork = true }},
			want: refusal{"SysctlForbidden", `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`}},
		"one of the machine's IPC": {pod: []func(*keelsonv1.Pod){sysctl("kernel.msgmax"), func(pod *keelsonv1.Pod) { pod.Spec.HostIPC = true }},
			want: refusal{"SysctlForbidden", `forbidden sysctl: "kernel.msgmax" not allowed with host IPC enabled`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := &Options{AllowPrivileged: tt.allow, AllowedUnsafeSysctls: []string{"kernel.msg*", "net/core/somaxconn"}}
			pod := &keelsonv1.Pod{}
			for _, change := range tt.pod {
				change(pod)
			}
			var got refusal
			if r := o.checkPolicy(pod); r != nil {
				got = *r
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestUnsafeSysctlsAreChecked(t *testing.T) {
	o := &Options{AllowedUnsafeSysctls: []string{"kernel.msg*", "net.*.x", "vm.swappiness"}}
	want := `--allowed-unsafe-sysctls: "net.*.x": a * may stand only at the end, as in kernel.msg*
--allowed-unsafe-sysctls: the sysctls "vm.swappiness" are not known to be namespaced`
	if err := errors.Join(o.validatePolicy()...); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
