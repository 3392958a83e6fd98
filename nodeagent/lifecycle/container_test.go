package lifecycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestContainerConfigSaysWhatThePodSays(t *testing.T) {
	tests := map[string]struct {
		edit func(*keelsonv1.Pod)
		want runtime.ContainerConfig
	}{
		"nothing": {func(*keelsonv1.Pod) {}, runtime.ContainerConfig{Hostname: "web"}},
		"an input and a terminal": {func(p *keelsonv1.Pod) {
			c := &p.Spec.Containers[0]
			c.Stdin, c.StdinOnce, c.TTY = true, true, true
		}, runtime.ContainerConfig{Hostname: "web", Stdin: true, StdinOnce: true, TTY: true}},
		"capabilities": {func(p *keelsonv1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
				Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}}
		}, runtime.ContainerConfig{Hostname: "web", AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"}}},
		"shared processes":       {func(p *keelsonv1.Pod) { p.Spec.ShareProcessNamespace = new(true) }, runtime.ContainerConfig{Hostname: "web", SharePID: true}},
		"processes of its own":   {func(p *keelsonv1.Pod) { p.Spec.ShareProcessNamespace = new(false) }, runtime.ContainerConfig{Hostname: "web"}},
		"another host name":      {func(p *keelsonv1.Pod) { p.Spec.Hostname = "box" }, runtime.ContainerConfig{Hostname: "box"}},
		"the machine's own name": {func(p *keelsonv1.Pod) { p.Spec.HostNetwork = true }, runtime.ContainerConfig{Hostname: "machine"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := makePod("web", "a")
				test.edit(pod)
				m.run(pod)
				got := m.runtime.Config(pod.UID, "a")
				if got == nil {
					t.Fatalf("it was not made: %+v", m.statusOf(pod))
				}
				elsewhere := cmpopts.IgnoreFields(runtime.ContainerConfig{}, "PodIdentity", "Name", "SandboxID", "Image", "ImageRef",
					"SpecHash", "Env", "Mounts", "Resources", "CgroupParent", "LogPath")
				if diff := cmp.Diff(test.want, *got, elsewhere, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		})
	}
}
