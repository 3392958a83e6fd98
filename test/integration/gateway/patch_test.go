package gateway

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestPatches(t *testing.T) {
	f := start(t)
	two := func(pod *corev1.Pod) {
		onNode(pod)
		pod.Finalizers = append(pod.Finalizers, "example.com/a")
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "side", Image: "image:2"})
	}
	image := func(pod *corev1.Pod) string {
		return pod.Spec.Containers[0].Image + " " + pod.Spec.Containers[len(pod.Spec.Containers)-1].Image
	}
	tests := map[string]struct {
		kind  types.PatchType
		patch string
		check func(pod *corev1.Pod) string
		want  string
	}{
		"strategic merge finds the container by name": {types.StrategicMergePatchType, `{"spec":{"containers":[{"name":"side","image":"new"}]}}`, image, "image:1 new"},
		"strategic merge removes what is null":        {types.StrategicMergePatchType, `{"metadata":{"labels":{"app":null,"x":"y"}}}`, func(p *corev1.Pod) string { return fmt.Sprint(p.Labels) }, "map[x:y]"},
		"strategic merge deletes from a set":          {types.StrategicMergePatchType, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["example.com/a"]}}`, func(p *corev1.Pod) string { return fmt.Sprint(p.Finalizers) }, "[]"},
		"a merge patch replaces the list":             {types.MergePatchType, `{"metadata":{"finalizers":["example.com/b"]}}`, func(p *corev1.Pod) string { return fmt.Sprint(p.Finalizers) }, "[example.com/b]"},
		"a merge patch passes":                        {types.MergePatchType, `{"metadata":{"labels":{"x":"y"}}}`, func(p *corev1.Pod) string { return p.Labels["x"] }, "y"},
		"a JSON patch counts what clients see":        {types.JSONPatchType, `[{"op":"test","path":"/metadata/finalizers/0","value":"example.com/a"},{"op":"remove","path":"/metadata/finalizers/0"}]`, func(p *corev1.Pod) string { return fmt.Sprint(p.Finalizers) }, "[]"},
		"a JSON patch passes":                         {types.JSONPatchType, `[{"op":"replace","path":"/spec/containers/1/image","value":"new"}]`, image, "image:1 new"},
		"a JSON patch tests the version":              {types.JSONPatchType, `[{"op":"test","path":"/apiVersion","value":"v1"},{"op":"add","path":"/metadata/labels/x","value":"y"}]`, func(p *corev1.Pod) string { return p.Labels["x"] }, "y"},
	}
	count := 0
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			count++
			pod := makePod(fmt.Sprintf("p%d", count), two)
			f.create(t, pod)
			patched, err := f.json.CoreV1().Pods(f.namespace).Patch(t.Context(), pod.Name, test.kind, []byte(test.patch), metav1.PatchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := test.check(patched); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			stored := f.stored(t, pod.Name)
			if !slices.Contains(stored.Finalizers, keelsonv1.PodFinalizer) {
				t.Errorf("the finalizer is gone: %v", stored.Finalizers)
			}
		})
	}
}

func TestPatchesThatFail(t *testing.T) {
	f := start(t)
	created := f.create(t, makePod("a"))
	tests := map[string]struct {
		kind  types.PatchType
		patch string
		code  int
	}{
		"a stale version, strategic":   {types.StrategicMergePatchType, `{"metadata":{"resourceVersion":"1","labels":{"a":"b"}}}`, 409},
		"a stale version, merge":       {types.MergePatchType, `{"metadata":{"resourceVersion":"1","labels":{"a":"b"}}}`, 409},
		"another UID":                  {types.StrategicMergePatchType, `{"metadata":{"uid":"7","labels":{"a":"b"}}}`, 409},
		"a test that fails":            {types.JSONPatchType, `[{"op":"test","path":"/kind","value":"Cow"}]`, 422},
		"a path that is not there":     {types.JSONPatchType, `[{"op":"remove","path":"/metadata/finalizers/4"}]`, 422},
		"no patch at all":              {types.JSONPatchType, `{"op":"remove"}`, 400},
		"no JSON":                      {types.StrategicMergePatchType, `{"metadata":`, 400},
		"a directive of nobody":        {types.StrategicMergePatchType, `{"spec":{"containers":[{"$patch":"eat","name":"main"}]}}`, 400},
		"a wrong type":                 {types.StrategicMergePatchType, `{"spec":{"hostNetwork":"blue"}}`, 422},
		"the node":                     {types.MergePatchType, `{"spec":{"nodeName":"n"}}`, 422},
		"the node, in other letters":   {types.MergePatchType, `{"spec":{"node\u004eame":"n"}}`, 422},
		"the node, in a JSON patch":    {types.JSONPatchType, `[{"op":"add","path":"/spec/nodeName","value":"n"}]`, 422},
		"the node, strategic":          {types.StrategicMergePatchType, `{"spec":{"nodeName":"n"}}`, 422},
		"the node, applied":            {types.ApplyYAMLPatchType, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"nodeName":"n","containers":[{"name":"main","image":"image:1"}]}}`, 422},
		"an ephemeral container":       {types.MergePatchType, `{"spec":{"ephemeralContainers":[{"name":"d","image":"i"}]}}`, 422},
		"an apply without its version": {types.ApplyYAMLPatchType, `{"metadata":{"name":"a"}}`, 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := f.json.CoreV1().Pods(f.namespace).Patch(t.Context(), "a", test.kind, []byte(test.patch), metav1.PatchOptions{FieldManager: "m"})
			status, ok := err.(apierrors.APIStatus)
			if !ok || int(status.Status().Code) != test.code {
				t.Fatalf("got %v, want %d", err, test.code)
			}
			if strings.Contains(err.Error(), "keelson.dev") {
				t.Errorf("the error names what is stored: %v", err)
			}
		})
	}
	if after := f.stored(t, "a"); after.ResourceVersion != created.ResourceVersion {
		t.Error("a patch that failed was stored")
	}
}

func TestStrategicPatchesAtOnceAllCount(t *testing.T) {
	f := start(t)
	f.create(t, makePod("a"))
	const writers = 6
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for {
				patch := fmt.Sprintf(`{"metadata":{"labels":{"writer-%d":"x"}}}`, i)
				_, err := f.json.CoreV1().Pods(f.namespace).Patch(t.Context(), "a", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
				if apierrors.IsConflict(err) {
					continue // five tries were not enough; upstream's clients come again, too
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
		})
	}
	wg.Wait()
	if got := len(f.stored(t, "a").Labels); got != writers+1 {
		t.Errorf("%d labels, want %d", got, writers+1)
	}
}

func TestServerSideApply(t *testing.T) {
	f := start(t)
	pods := f.json.CoreV1().Pods(f.namespace)
	config := func(image string) *applycorev1.PodApplyConfiguration {
		return applycorev1.Pod("a", f.namespace).WithLabels(map[string]string{"app": "x"}).
			WithSpec(applycorev1.PodSpec().WithContainers(applycorev1.Container().WithName("main").WithImage(image)))
	}
	if _, err := pods.Apply(t.Context(), config("image:1"), metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		t.Fatal(err)
	}
	_, err := pods.Apply(t.Context(), config("image:2"), metav1.ApplyOptions{FieldManager: "two"})
	want := `Apply failed with 1 conflict: conflict with "one": .spec.containers[name="main"].image`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v, want\n%s", err, want)
	}
	forced, err := pods.Apply(t.Context(), config("image:2"), metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil || forced.Spec.Containers[0].Image != "image:2" {
		t.Fatalf("forced: %v %v", forced, err)
	}
	_, err = pods.Patch(t.Context(), "a", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"app":"y"}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	type entry struct{ Manager, Operation, Version string }
	var entries []entry
	for _, e := range got.ManagedFields {
		entries = append(entries, entry{e.Manager, string(e.Operation), e.APIVersion})
	}
	wantEntries := []entry{{"one", "Apply", "v1"}, {"two", "Apply", "v1"}, {"tester", "Update", "v1"}}
	if diff := cmp.Diff(wantEntries, entries); diff != "" {
		t.Errorf("managers (-want +got):\n%s", diff)
	}
	extracted, err := applycorev1.ExtractPod(got, "two")
	if err != nil {
		t.Fatal(err)
	}
	if extracted.Spec == nil || *extracted.Spec.Containers[0].Image != "image:2" {
		t.Errorf("extracted %+v", extracted)
	}
}
