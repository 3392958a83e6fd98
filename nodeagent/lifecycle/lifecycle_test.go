package lifecycle

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestPodRuns(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a", "b"))

		s := m.statusOf(pod)
		if s.Phase != corev1.PodRunning || s.PodIP != "10.244.0.2" || s.HostIP != "192.0.2.1" {
			t.Errorf("got phase %s, podIP %s, hostIP %s", s.Phase, s.PodIP, s.HostIP)
		}
		for _, name := range []string{"a", "b"} {
			if c := m.container(pod, name); c.State.Running == nil || !c.Ready || c.RestartCount != 0 {
				t.Errorf("container %s: %+v", name, c)
			}
		}
	})
}
