package lifecycle

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestContainerWaitsForWhatItsVariablesName(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("web", "main")
		pod.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "COLOUR", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: "colour"}}},
			{Name: "WHERE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
			{Name: "CPUS", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
		}
		m.run(pod)

		waiting := m.container(pod, "main").State.Waiting
		if waiting == nil || waiting.Reason != "CreateContainerConfigError" || waiting.Message != `configmap "settings" not found` {
			t.Fatalf("it waits for %+v", waiting)
		}
		if n := m.events.count(`Warning main Failed: Error: configmap "settings" not found`); n != 1 {
			t.Errorf("the reason was recorded %d times: %v", n, m.events.all())
		}

		m.objects.set(func(o *fakeObjects) {
			o.configMaps = map[string]*corev1.ConfigMap{"settings": {Data: map[string]string{"colour": "blue"}}}
		})
		m.after(time.Minute)
		if m.container(pod, "main").State.Running == nil {
			t.Fatalf("it does not run: %+v", m.container(pod, "main").State)
		}
		got := m.runtime.Config(pod.UID, "main").Env
		for _, want := range []string{"COLOUR=blue", "WHERE=10.244.0.2", "CPUS=4"} {
			if !slices.Contains(got, want) {
				t.Errorf("%s is missing in %v", want, got)
			}
		}
	})
}

func TestAddressOfAPodOnTheMachinesNetwork(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("web", "main")
		pod.Spec.HostNetwork = true
		pod.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "WHERE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		}
		m.run(pod)
		if got := m.runtime.Config(pod.UID, "main").Env; !slices.Contains(got, "WHERE=192.0.2.1") {
			t.Errorf("the address is not the machine's: %v", got)
		}
	})
}

func TestVariablesFromWhatAnInitContainerHasWritten(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("web", "main")
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "KEY", ValueFrom: &corev1.EnvVarSource{
			FileKeyRef: &corev1.FileKeySelector{VolumeName: "files", Path: "env", Key: "key"}}}}
		m.run(pod)
		waiting := m.container(pod, "main").State.Waiting
		if waiting == nil || waiting.Reason != "CreateContainerConfigError" || waiting.Message != "couldn't parse env file" {
			t.Fatalf("it waits for %+v", waiting)
		}
		m.volumes.mu.Lock()
		m.volumes.files = map[string]string{"env": "key='from a file'\n"}
		m.volumes.mu.Unlock()
		m.after(time.Minute)
		if got := m.runtime.Config(pod.UID, "main").Env; !slices.Contains(got, "KEY=from a file") {
			t.Errorf("variables %v", got)
		}
	})
}
