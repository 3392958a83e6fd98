package podadmission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// amounts reads "cpu=1 memory=2Gi".
func amounts(text string) corev1.ResourceList {
	if text == "" {
		return nil
	}
	list := corev1.ResourceList{}
	for _, pair := range strings.Fields(text) {
		name, value, _ := strings.Cut(pair, "=")
		list[corev1.ResourceName(name)] = resource.MustParse(value)
	}
	return list
}

func container(name, requests, limits string) corev1.Container {
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: amounts(requests), Limits: amounts(limits)}}
}

func rangeOf(items ...corev1.LimitRangeItem) *keelsonv1.LimitRange {
	return &keelsonv1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: items}}
}

func TestLimitsCompleteContainers(t *testing.T) {
	defaults := rangeOf(corev1.LimitRangeItem{
		Type: corev1.LimitTypeContainer, Default: amounts("cpu=2 memory=1Gi"), DefaultRequest: amounts("cpu=100m memory=64Mi"),
	})
	pod := &keelsonv1.Pod{Spec: corev1.PodSpec{
		Containers:     []corev1.Container{container("bare", "", ""), container("own", "cpu=1", "cpu=1 memory=2Gi")},
		InitContainers: []corev1.Container{container("first", "cpu=1 memory=1Gi", "")},
	}}
	if err := Limits(pod, []*keelsonv1.LimitRange{defaults}); err != nil {
		t.Fatal(err)
	}
	want := corev1.PodSpec{
		Containers: []corev1.Container{
			container("bare", "cpu=100m memory=64Mi", "cpu=2 memory=1Gi"),
			container("own", "cpu=1 memory=64Mi", "cpu=1 memory=2Gi"),
		},
		InitContainers: []corev1.Container{container("first", "cpu=1 memory=1Gi", "cpu=2 memory=1Gi")},
	}
	if diff := cmp.Diff(want, pod.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	said := "LimitRanger plugin set: cpu, memory request for container bare; cpu, memory limit for container bare; " +
		"memory request for container own; cpu, memory limit for init container first"
	if diff := cmp.Diff(said, pod.Annotations["kubernetes.io/limit-ranger"]); diff != "" {
		t.Errorf("annotation (-want +got):\n%s", diff)
	}
}

func TestLimitsLeaveTheMirrorOfAStaticPodAsItIs(t *testing.T) {
	pod := &keelsonv1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{container("c", "", "")}}}
	pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "hash"}
	item := corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Default: amounts("cpu=2")}
	if err := Limits(pod, []*keelsonv1.LimitRange{rangeOf(item)}); err != nil || pod.Spec.Containers[0].Resources.Limits != nil {
		t.Errorf("limits %v, %v", pod.Spec.Containers[0].Resources.Limits, err)
	}
}

func TestLimitsRefuse(t *testing.T) {
	perContainer := func(item corev1.LimitRangeItem) corev1.LimitRangeItem {
		item.Type = corev1.LimitTypeContainer
		return item
	}
	perPod := func(item corev1.LimitRangeItem) corev1.LimitRangeItem {
		item.Type = corev1.LimitTypePod
		return item
	}
	sidecar := container("side", "cpu=1", "")
	sidecar.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	for what, tc := range map[string]struct {
		item       corev1.LimitRangeItem
		containers []corev1.Container
		init       []corev1.Container
		want       string
	}{
		"a request below the minimum": {item: perContainer(corev1.LimitRangeItem{Min: amounts("cpu=100m")}),
			containers: []corev1.Container{container("c", "cpu=50m", "")},
			want:       "minimum cpu usage per Container is 100m, but request is 50m"},
		"no request where there is a minimum": {item: perContainer(corev1.LimitRangeItem{Min: amounts("memory=1Gi")}),
			containers: []corev1.Container{container("c", "cpu=50m", "")},
			want:       "minimum memory usage per Container is 1Gi.  No request is specified"},
		"a limit below the minimum": {item: perContainer(corev1.LimitRangeItem{Min: amounts("cpu=1")}),
			containers: []corev1.Container{container("c", "cpu=1", "cpu=500m")},
			want:       "minimum cpu usage per Container is 1, but limit is 500m"},
		"a limit above the maximum, in an init container": {item: perContainer(corev1.LimitRangeItem{Max: amounts("cpu=1")}),
			containers: []corev1.Container{container("c", "", "cpu=1")}, init: []corev1.Container{container("i", "", "cpu=1500m")},
			want: "maximum cpu usage per Container is 1, but limit is 1500m"},
		"no limit where there is a maximum": {item: perContainer(corev1.LimitRangeItem{Max: amounts("cpu=1")}),
			containers: []corev1.Container{container("c", "cpu=1", "")},
			want:       "maximum cpu usage per Container is 1.  No limit is specified"},
		"a request above the maximum": {item: perContainer(corev1.LimitRangeItem{Max: amounts("cpu=1")}),
			containers: []corev1.Container{container("c", "cpu=2", "cpu=1")},
			want:       "maximum cpu usage per Container is 1, but request is 2"},
		"a ratio above the maximum": {item: perContainer(corev1.LimitRangeItem{MaxLimitRequestRatio: amounts("cpu=1500m")}),
			containers: []corev1.Container{container("c", "cpu=1", "cpu=2")},
			want:       "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000"},
		"a ratio of nothing": {item: perContainer(corev1.LimitRangeItem{MaxLimitRequestRatio: amounts("cpu=2")}),
			containers: []corev1.Container{container("c", "", "cpu=2")},
			want:       "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"},
		"a ratio to nothing": {item: perContainer(corev1.LimitRangeItem{MaxLimitRequestRatio: amounts("cpu=2")}),
			containers: []corev1.Container{container("c", "cpu=2", "")},
			want:       "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"},
		"all at once": {item: perContainer(corev1.LimitRangeItem{Min: amounts("cpu=1"), Max: amounts("memory=1Gi")}),
			containers: []corev1.Container{container("c", "cpu=500m", "memory=2Gi")},
			want:       "[minimum cpu usage per Container is 1, but request is 500m, maximum memory usage per Container is 1Gi, but limit is 2Gi]"},
		"the sum of a Pod's containers and sidecars": {item: perPod(corev1.LimitRangeItem{Max: amounts("cpu=2")}),
			containers: []corev1.Container{container("a", "cpu=1", "cpu=1"), container("b", "cpu=1", "cpu=1")}, init: []corev1.Container{sidecar},
			want: "maximum cpu usage per Pod is 2, but request is 3"},
		"nothing, when an init container is the largest and fits": {item: perPod(corev1.LimitRangeItem{Max: amounts("cpu=2")}),
			containers: []corev1.Container{container("a", "cpu=1", "cpu=1")}, init: []corev1.Container{container("i", "cpu=2", "cpu=2")}},
		"nothing of claims": {item: corev1.LimitRangeItem{Type: corev1.LimitTypePersistentVolumeClaim, Min: amounts("storage=1Gi")},
			containers: []corev1.Container{container("c", "", "")}},
	} {
		t.Run(what, func(t *testing.T) {
			pod := &keelsonv1.Pod{Spec: corev1.PodSpec{Containers: tc.containers, InitContainers: tc.init}}
			err := Limits(pod, []*keelsonv1.LimitRange{rangeOf(tc.item)})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}
