package gateway

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func cpuAndMemory(cpu, memory string) corev1.ResourceRequirements {
	list := func() corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	return corev1.ResourceRequirements{Requests: list(), Limits: list()}
}

// resized says what the stored Pod asks for, and its image.
func (f *front) resized(t *testing.T, name string) string {
	t.Helper()
	c := f.stored(t, name).Spec.Containers[0]
	return strings.Join([]string{c.Resources.Requests.Cpu().String(), c.Resources.Limits.Memory().String(), c.Image}, " ")
}

func TestResize(t *testing.T) {
	f := start(t)
	pod := makePod("a")
	pod.Spec.Containers[0].Resources = cpuAndMemory("1", "64Mi")
	f.create(t, pod)
	pods := f.protobuf.CoreV1().Pods(f.namespace)
	live, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live.Spec.Containers[0].Resources = cpuAndMemory("2", "128Mi")
	live.Spec.Containers[0].Image = "another" // no resource: it stays
	live.Labels = map[string]string{"no": "label"}
	updated, err := pods.UpdateResize(t.Context(), "a", live, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.resized(t, "a"); got != "2 128Mi image:1" || updated.Labels["no"] != "" {
		t.Errorf("after PUT: %s, labels %v", got, updated.Labels)
	}
	for _, patch := range []struct {
		kind       types.PatchType
		body, want string
	}{
		{types.StrategicMergePatchType, `{"spec":{"containers":[{"name":"main","image":"x","resources":{"requests":{"cpu":"500m"}}}]}}`, "500m 128Mi image:1"},
		{types.JSONPatchType, `[{"op":"replace","path":"/spec/containers/0/resources/limits/memory","value":"256Mi"}]`, "500m 256Mi image:1"},
		{types.ApplyPatchType, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"main","image":"x","resources":{"requests":{"cpu":"250m"}}}]}}`, "250m 256Mi image:1"},
	} {
		options := metav1.PatchOptions{FieldManager: "me"}
		if patch.kind == types.ApplyPatchType {
			options.Force = new(true)
		}
		if _, err := f.json.CoreV1().Pods(f.namespace).Patch(t.Context(), "a", patch.kind, []byte(patch.body), options, "resize"); err != nil {
			t.Errorf("%s: %v", patch.kind, err)
		}
		if got := f.resized(t, "a"); got != patch.want {
			t.Errorf("after %s: %s, want %s", patch.kind, got, patch.want)
		}
	}
}

func TestResourcesChangeByResizeAlone(t *testing.T) {
	f := start(t)
	pod := makePod("a")
	pod.Spec.Containers[0].Resources = cpuAndMemory("1", "64Mi")
	f.create(t, pod)
	pods := f.json.CoreV1().Pods(f.namespace)
	const refused = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
	check := func(how string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", how, err)
		}
		if got := f.resized(t, "a"); got != "1 64Mi image:1" {
			t.Errorf("%s changed it to %s", how, got)
		}
	}
	for kind, body := range map[types.PatchType]string{
		types.StrategicMergePatchType: `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"500m"}}}]}}`,
		types.MergePatchType:          `{"spec":{"containers":[{"name":"main","image":"image:1","resources":{"requests":{"cpu":"500m"}}}]}}`,
		types.JSONPatchType:           `[{"op":"replace","path":"/spec/containers/0/resources/limits/memory","value":"256Mi"}]`,
		types.ApplyPatchType:          `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"main","image":"image:1","resources":{"requests":{"cpu":"250m"}}}]}}`,
	} {
		options := metav1.PatchOptions{FieldManager: "me"}
		if kind == types.ApplyPatchType {
			options.Force = new(true)
		}
		_, err := pods.Patch(t.Context(), "a", kind, []byte(body), options)
		check(string(kind), err, refused)
	}
	live, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	again := live.DeepCopy()
	again.Spec.Containers[0].Resources.Requests = nil // by default the limits
	if _, err := pods.Update(t.Context(), again, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("an update that changes nothing: %v", err)
	}
	two := live.DeepCopy()
	two.ResourceVersion = ""
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "b", Image: "i"})
	_, err = pods.UpdateResize(t.Context(), "a", two, metav1.UpdateOptions{})
	check("one more container", err, "spec.containers: Forbidden: containers may not be added or removed on resize")
	renamed := live.DeepCopy()
	renamed.ResourceVersion = ""
	renamed.Spec.Containers[0].Name = "b"
	_, err = pods.UpdateResize(t.Context(), "a", renamed, metav1.UpdateOptions{})
	check("another name", err, "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize")
}
