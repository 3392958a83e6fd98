package lifecycle

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
)

// A Pod that asks for its annotations is told where it came from and since when, by each
// agent the same, and nothing of it reaches the object that others share.
func TestPodsAreToldWhereTheyCameFrom(t *testing.T) {
	ask := func(name, annotation string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + annotation + "']"}}}
	}
	onMachine(t, func(m *machine) {
		pod := makePod("web", "main")
		pod.Annotations = map[string]string{"own": "kept", staticpods.SourceAnnotation: "invented", staticpods.SeenAnnotation: "invented"}
		pod.Spec.Containers[0].Env = []corev1.EnvVar{ask("SOURCE", staticpods.SourceAnnotation), ask("SEEN", staticpods.SeenAnnotation), ask("OWN", "own")}
		m.run(pod)
		want := []string{"SOURCE=api", "SEEN=" + m.statusOf(pod).StartTime.Format(time.RFC3339), "OWN=kept"}
		check := func() {
			t.Helper()
			got := m.runtime.Config(pod.UID, "main").Env
			for _, w := range want {
				if !slices.Contains(got, w) {
					t.Errorf("%s is missing in %q", w, got)
				}
			}
		}
		check()
		if pod.Annotations[staticpods.SourceAnnotation] != "invented" || len(pod.Annotations) != 3 {
			t.Errorf("the shared object was changed: %v", pod.Annotations)
		}
		m.after(time.Hour)
		pod = pod.DeepCopy()
		pod.Status.PodStatus = m.statusOf(pod) // what the next agent reads of the API
		m.restart()
		m.run(pod)
		m.exit(pod, "main", 1)
		m.after(time.Minute)
		check()
	})
}

func TestStaticPodsSayThemselvesWhereTheyCameFrom(t *testing.T) {
	pod := &keelsonv1.Pod{}
	pod.UID, pod.Annotations = "0123456789abcdef0123456789abcdef", map[string]string{staticpods.SourceAnnotation: staticpods.SourceFile}
	if told := (&Manager{}).withOrigin(pod); told != pod {
		t.Errorf("told %v", told.Annotations)
	}
}
