package podadmission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func toleration(key string, seconds int64) corev1.Toleration {
	return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}
}

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
}

func TestDefault(t *testing.T) {
	forEver := corev1.Toleration{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	completed := func(change func(*keelsonv1.Pod)) *keelsonv1.Pod {
		pod := &keelsonv1.Pod{Spec: corev1.PodSpec{
			ServiceAccountName: "default", DeprecatedServiceAccount: "default",
			EnableServiceLinks: new(true),
			Tolerations:        []corev1.Toleration{toleration(corev1.TaintNodeNotReady, 300), toleration(corev1.TaintNodeUnreachable, 300)},
		}}
		change(pod)
		return pod
	}
	for name, tc := range map[string]struct {
		pod  keelsonv1.Pod
		want *keelsonv1.Pod
	}{
		"an empty Pod gets the default account and tolerations": {
			want: completed(func(*keelsonv1.Pod) {})},
		"the old name of the account field counts": {
			pod: keelsonv1.Pod{Spec: corev1.PodSpec{DeprecatedServiceAccount: "robot"}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount = "robot", "robot"
			})},
		"the new name wins over the old one": {
			pod: keelsonv1.Pod{Spec: corev1.PodSpec{ServiceAccountName: "new", DeprecatedServiceAccount: "old"}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount = "new", "new"
			})},
		"a priority that is set stays": {
			pod: keelsonv1.Pod{Spec: corev1.PodSpec{Priority: new(int32(7)), PreemptionPolicy: new(corev1.PreemptNever)}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.Priority, p.Spec.PreemptionPolicy = new(int32(7)), new(corev1.PreemptNever)
			})},
		"what a Pod tolerates itself is not said again": {
			pod: keelsonv1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{forEver, toleration("mine", 300)}}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{forEver, toleration("mine", 300), toleration(corev1.TaintNodeUnreachable, 300)}
			})},
		"everything is tolerated already": {
			pod: keelsonv1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
			})},
		"a Pod with a node is held by its finalizer": {
			pod: keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"x/y"}}, Spec: corev1.PodSpec{NodeName: "n1"}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.NodeName = "n1"
				p.Finalizers = []string{"x/y", keelsonv1.PodFinalizer}
			})},
		"requests follow limits, resource by resource": {
			pod: keelsonv1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
				Limits: resources("2", "1Gi"), Requests: corev1.ResourceList{"cpu": resource.MustParse("1")}}}, {Resources: corev1.ResourceRequirements{Limits: resources("2", "1Gi")}}, {}}}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.Containers = []corev1.Container{
					{Resources: corev1.ResourceRequirements{Limits: resources("2", "1Gi"), Requests: resources("1", "1Gi")}},
					{Resources: corev1.ResourceRequirements{Limits: resources("2", "1Gi"), Requests: resources("2", "1Gi")}}, {}}
			})},
		"ports of a Pod in the host's network are host ports": {
			pod: keelsonv1.Pod{Spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80}, {ContainerPort: 81, HostPort: 81}}}}}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.HostNetwork = true
				p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}, {ContainerPort: 81, HostPort: 81}}}}
			})},
		"a negative grace period is one second": {
			pod: keelsonv1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(-5)), EnableServiceLinks: new(false)}},
			want: completed(func(p *keelsonv1.Pod) {
				p.Spec.TerminationGracePeriodSeconds, p.Spec.EnableServiceLinks = new(int64(1)), new(false)
			})},
	} {
		t.Run(name, func(t *testing.T) {
			shared := tc.pod.DeepCopy()
			got := *shared
			Default(&got)
			if diff := cmp.Diff(&tc.pod, shared); diff != "" {
				t.Errorf("Default() changed what the Pod shares with its template (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, &got); diff != "" {
				t.Errorf("Default() (-want +got):\n%s", diff)
			}
			again := got.DeepCopy()
			Default(again)
			if diff := cmp.Diff(&got, again); diff != "" {
				t.Errorf("a second Default() changed the Pod (-first +second):\n%s", diff)
			}
		})
	}
}
