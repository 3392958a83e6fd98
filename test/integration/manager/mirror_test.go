package manager_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// An agent makes mirrors of its own static Pods, which open nothing of the API to it,
// and deletes no others.
func TestAgentMirrorsItsStaticPods(t *testing.T) {
	install(t)
	waitForPolicy(t)
	ns := testEnv.Namespace(t)
	agent := as(t, "keelson:node:mirrors", keelsonv1.NodesGroup)
	node := create(t, &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "mirrors"}})
	mirror := func(change func(*keelsonv1.Pod)) *keelsonv1.Pod {
		pod := builders.MakePod("web-mirrors").Namespace(ns).Node("mirrors").Annotation(corev1.MirrorPodAnnotationKey, "hash").Obj()
		pod.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: keelsonv1.GroupVersion.String(), Kind: "Node", Name: node.Name, UID: node.UID, Controller: new(true)}}
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}}}}
		pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "i", Env: []corev1.EnvVar{{Name: "A", Value: "b"}}}}
		change(pod)
		return pod
	}
	volume := func(source corev1.VolumeSource) func(*keelsonv1.Pod) {
		return func(p *keelsonv1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}} }
	}
	fromSecret := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}
	tests := map[string]struct {
		change func(*keelsonv1.Pod)
		want   string
	}{
		"a mirror":                    {change: func(*keelsonv1.Pod) {}},
		"no mirror":                   {func(p *keelsonv1.Pod) { p.Annotations = nil }, "can only create mirror pods"},
		"of another node":             {func(p *keelsonv1.Pod) { p.Spec.NodeName = "other" }, "with spec.nodeName set to itself"},
		"of no node":                  {func(p *keelsonv1.Pod) { p.Spec.NodeName = "" }, "with spec.nodeName set to itself"},
		"with another's name":         {func(p *keelsonv1.Pod) { p.Name = "db-0" }, "a name that ends in it"},
		"without an owner":            {func(p *keelsonv1.Pod) { p.OwnerReferences = nil }, "owner reference set to itself"},
		"with another owner":          {func(p *keelsonv1.Pod) { p.OwnerReferences[0].Name = "other" }, "owner reference set to itself"},
		"with a ServiceAccount":       {func(p *keelsonv1.Pod) { p.Spec.ServiceAccountName = "robot" }, "reference other objects"},
		"with a pull secret":          {func(p *keelsonv1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}} }, "reference other objects"},
		"with a Secret in a variable": {func(p *keelsonv1.Pod) { p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: fromSecret}} }, "reference other objects"},
		"with one in an init container": {func(p *keelsonv1.Pod) {
			p.Spec.InitContainers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: fromSecret}}
		}, "reference other objects"},
		"with variables of a ConfigMap": {func(p *keelsonv1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}}
		}, "reference other objects"},
		"with a volume of a Secret": {volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}), "reference other objects"},
		"with a projected token": {volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "t"}}}}}), "reference other objects"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := mirror(tt.change)
			err := agent.Create(t.Context(), pod)
			switch {
			case tt.want != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error is %v, want a refusal with %q", err, tt.want)
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want == "":
				if err := agent.Status().Patch(t.Context(), pod, merge(`{"status":{"phase":"Running"}}`)); err != nil {
					t.Errorf("its status is refused: %v", err)
				}
				if err := agent.Patch(t.Context(), pod.DeepCopy(), merge(`{"metadata":{"annotations":{"kubernetes.io/config.mirror":null}}}`)); !apierrors.IsForbidden(err) {
					t.Errorf("it may become a Pod of its own: %v", err)
				}
				if err := agent.Delete(t.Context(), pod); err != nil {
					t.Errorf("its deletion is refused: %v", err)
				}
			}
		})
	}
}
