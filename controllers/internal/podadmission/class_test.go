package podadmission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func priorityClass(name string, value int32, isDefault bool, policy *corev1.PreemptionPolicy) *schedulingv1.PriorityClass {
	return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, GlobalDefault: isDefault, PreemptionPolicy: policy}
}

func TestDefaultPriority(t *testing.T) {
	high, low, other := priorityClass("high", 9, true, nil), priorityClass("low", 3, true, nil), priorityClass("other", 1, false, nil)
	if got := DefaultPriority([]*schedulingv1.PriorityClass{high, low, other}); got != low {
		t.Errorf("got %v, want the lowest default", got)
	}
	if got := DefaultPriority([]*schedulingv1.PriorityClass{other}); got != nil {
		t.Errorf("got %v, want none", got)
	}
}

func TestPriority(t *testing.T) {
	never := priorityClass("batch", 5, false, new(corev1.PreemptNever))
	for what, tc := range map[string]struct {
		class *schedulingv1.PriorityClass
		spec  corev1.PodSpec
		want  corev1.PodSpec
		err   string
	}{
		"no class": {want: corev1.PodSpec{Priority: new(int32(0)), PreemptionPolicy: new(corev1.PreemptLowerPriority)}},
		"a class":  {class: never, want: corev1.PodSpec{PriorityClassName: "batch", Priority: new(int32(5)), PreemptionPolicy: new(corev1.PreemptNever)}},
		"the same once more": {class: never, spec: corev1.PodSpec{PriorityClassName: "batch", Priority: new(int32(5)), PreemptionPolicy: new(corev1.PreemptNever)},
			want: corev1.PodSpec{PriorityClassName: "batch", Priority: new(int32(5)), PreemptionPolicy: new(corev1.PreemptNever)}},
		"a number of one's own": {class: never, spec: corev1.PodSpec{Priority: new(int32(7))},
			err: "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 5 from the given PriorityClass name"},
		"a policy of one's own": {class: never, spec: corev1.PodSpec{PreemptionPolicy: new(corev1.PreemptLowerPriority)},
			err: "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"},
	} {
		t.Run(what, func(t *testing.T) {
			pod := &keelsonv1.Pod{Spec: tc.spec}
			check(t, Priority(pod, tc.class), tc.err, pod, tc.want)
		})
	}
}

func check(t *testing.T, err error, wantErr string, pod *keelsonv1.Pod, want corev1.PodSpec) {
	t.Helper()
	if wantErr != "" {
		if err == nil || err.Error() != wantErr {
			t.Errorf("error %v\nwant  %s", err, wantErr)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, pod.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestRuntimeClass(t *testing.T) {
	overhead := &nodev1.Overhead{PodFixed: amounts("cpu=10m")}
	gpu := corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists}
	scheduling := &nodev1.Scheduling{NodeSelector: map[string]string{"sandbox": "yes"}, Tolerations: []corev1.Toleration{gpu}}
	for what, tc := range map[string]struct {
		class *nodev1.RuntimeClass
		spec  corev1.PodSpec
		want  corev1.PodSpec
		err   string
	}{
		"no class":                    {},
		"its overhead":                {class: &nodev1.RuntimeClass{Overhead: overhead}, want: corev1.PodSpec{Overhead: amounts("cpu=10m")}},
		"the same overhead":           {class: &nodev1.RuntimeClass{Overhead: overhead}, spec: corev1.PodSpec{Overhead: amounts("cpu=10m")}, want: corev1.PodSpec{Overhead: amounts("cpu=10m")}},
		"another overhead":            {class: &nodev1.RuntimeClass{Overhead: overhead}, spec: corev1.PodSpec{Overhead: amounts("cpu=1")}, err: "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"},
		"an overhead without a class": {spec: corev1.PodSpec{Overhead: amounts("cpu=1")}, err: "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		"its nodes": {class: &nodev1.RuntimeClass{Scheduling: scheduling}, spec: corev1.PodSpec{NodeSelector: map[string]string{"zone": "a"}, Tolerations: []corev1.Toleration{gpu}},
			want: corev1.PodSpec{NodeSelector: map[string]string{"zone": "a", "sandbox": "yes"}, Tolerations: []corev1.Toleration{gpu}}},
		"other nodes": {class: &nodev1.RuntimeClass{Scheduling: scheduling}, spec: corev1.PodSpec{NodeSelector: map[string]string{"sandbox": "no"}},
			err: "conflict: runtimeClass.scheduling.nodeSelector[sandbox] = yes; pod.spec.nodeSelector[sandbox] = no"},
	} {
		t.Run(what, func(t *testing.T) {
			pod := &keelsonv1.Pod{Spec: tc.spec}
			check(t, RuntimeClass(pod, tc.class), tc.err, pod, tc.want)
		})
	}
}
