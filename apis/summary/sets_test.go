package summary

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

func setTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		NodeSelector: map[string]string{"b": "2", "a": "1"},
		Containers:   []corev1.Container{{Name: "c1", Image: "i1"}, {Name: "c2", Image: "i2"}},
	}}
}

var setSelector = &metav1.LabelSelector{
	MatchLabels:      map[string]string{"app": "x"},
	MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}}},
}

func TestDaemonSet(t *testing.T) {
	ds := &appsv1.DaemonSet{Spec: upstreamappsv1.DaemonSetSpec{Selector: setSelector, Template: setTemplate()}}
	ds.Status.UpdatedNumberScheduled, ds.Status.NumberAvailable = 3, 2
	want := appsv1.DaemonSetSummary{UpToDate: 3, Available: 2, NodeSelector: "a=1,b=2", Containers: "c1,c2", Images: "i1,i2", Selector: "app=x,tier in (a,b)"}
	if diff := cmp.Diff(want, DaemonSet(ds)); diff != "" {
		t.Errorf("DaemonSet() (-want +got):\n%s", diff)
	}
	if got := DaemonSet(&appsv1.DaemonSet{}).NodeSelector; got != None {
		t.Errorf("no node selector shows %q", got)
	}
}

func TestStatefulSet(t *testing.T) {
	set := &appsv1.StatefulSet{Spec: upstreamappsv1.StatefulSetSpec{Replicas: new(int32(3)), Selector: setSelector, Template: setTemplate()}}
	set.Status.ReadyReplicas = 2
	want := appsv1.StatefulSetSummary{Ready: "2/3", Containers: "c1,c2", Images: "i1,i2", Selector: "app=x,tier in (a,b)"}
	if diff := cmp.Diff(want, StatefulSet(set)); diff != "" {
		t.Errorf("StatefulSet() (-want +got):\n%s", diff)
	}
	set.Spec.Replicas = nil
	if got := StatefulSet(set).Ready; got != "2/1" {
		t.Errorf("without replicas READY is %q, want the default of 1", got)
	}
}
