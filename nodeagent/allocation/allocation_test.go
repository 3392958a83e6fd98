package allocation

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func asks(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}}
}

func podAsking(name, cpu, memory string) *keelsonv1.Pod {
	return &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "init"}}, Containers: []corev1.Container{{Name: "main", Resources: asks(cpu, memory)}}}}
}

func TestApply(t *testing.T) {
	pod := podAsking("p", "1", "1Gi")
	given := Of(pod)
	if same, differs := given.Apply(pod); differs || same != pod {
		t.Error("a Pod differs from what it asks for")
	}
	next := podAsking("p", "1000m", "1Gi")
	if _, differs := given.Apply(next); differs {
		t.Error("the same amount in other words differs")
	}
	next = podAsking("p", "2", "1Gi")
	next.Spec.Resources = new(asks("3", "3Gi"))
	before := next.DeepCopy()
	got, differs := given.Apply(next)
	if !differs || got.Spec.Resources != nil {
		t.Errorf("it differs: %v, resources of the Pod as a whole: %v", differs, got.Spec.Resources)
	}
	if diff := cmp.Diff(asks("1", "1Gi"), got.Spec.Containers[0].Resources); diff != "" {
		t.Errorf("what it was given (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, next); diff != "" {
		t.Errorf("the Pod itself was changed (-want +got):\n%s", diff)
	}
	next.Spec.Containers = append(next.Spec.Containers, corev1.Container{Name: "new", Resources: asks("1", "1Mi")})
	if got, _ := given.Apply(next); !cmp.Equal(got.Spec.Containers[1].Resources, asks("1", "1Mi")) {
		t.Errorf("a container that nothing is known of has %v", got.Spec.Containers[1].Resources)
	}
}

func TestFromStatus(t *testing.T) {
	pod := podAsking("p", "2", "2Gi")
	if _, differs := FromStatus(pod).Apply(pod); differs {
		t.Error("without a status it was given something else")
	}
	pod.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = resource.MustParse("1Gi")
	had := asks("1", "1Gi")
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", AllocatedResources: had.Requests, Resources: &had}}
	got := FromStatus(pod).Containers["main"]
	want := asks("1", "1Gi")
	want.Requests[corev1.ResourceEphemeralStorage] = resource.MustParse("1Gi")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what it was given (-want +got):\n%s", diff)
	}
}

func TestOrder(t *testing.T) {
	waiting := func(name, cpu string, change func(*keelsonv1.Pod)) Waiting {
		asked := podAsking(name, cpu, "1Gi")
		if change != nil {
			change(asked)
		}
		return Waiting{Given: podAsking(name, "1", "1Gi"), Asked: asked}
	}
	since := func(hours int64) func(*keelsonv1.Pod) {
		return func(p *keelsonv1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, LastTransitionTime: metav1.NewTime(time.Unix(1e9-hours*3600, 0))}}
		}
	}
	all := []Waiting{
		waiting("new", "2", nil),
		waiting("waits", "2", since(1)),
		waiting("waits longer", "2", since(2)),
		waiting("guaranteed", "2", func(p *keelsonv1.Pod) {
			p.Spec.InitContainers = nil
			p.Spec.Containers[0].Resources.Limits = p.Spec.Containers[0].Resources.Requests
		}),
		waiting("important", "2", func(p *keelsonv1.Pod) { p.Spec.Priority = new(int32(5)) }),
		waiting("gives back", "500m", nil),
	}
	Order(all)
	var got []string
	for _, w := range all {
		got = append(got, w.Asked.Name)
	}
	if diff := cmp.Diff([]string{"gives back", "important", "guaranteed", "waits longer", "waits", "new"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestStore(t *testing.T) {
	s := Store{PodsDir: t.TempDir()}
	if a, err := s.Load("uid"); a != nil || err != nil {
		t.Errorf("of a Pod that nothing was saved of: %v, %v", a, err)
	}
	if err := s.Save("uid", Allocation{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("saving without a folder: %v", err)
	}
	if err := os.Mkdir(filepath.Join(s.PodsDir, "uid"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, cpu := range []string{"1", "2"} {
		want := Of(podAsking("p", cpu, "1Gi"))
		if err := s.Save("uid", want); err != nil {
			t.Fatal(err)
		}
		got, err := s.Load("uid")
		if diff := cmp.Diff(&want, got); diff != "" || err != nil {
			t.Errorf("%v, loaded (-want +got):\n%s", err, diff)
		}
	}
	path := filepath.Join(s.PodsDir, "uid", fileName)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("uid"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken file: %v", err)
	}
}
