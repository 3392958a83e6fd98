package status

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestStatusOfAStaticPodGoesToItsMirror(t *testing.T) {
	s, mirror := newServer(t, makePod("a"))
	w := NewWriter(s, clock.RealClock{})
	static := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: mirror.Namespace, Name: mirror.Name, UID: "static"}}
	w.ObserveStatic(static.UID)
	w.Set(static, corev1.PodStatus{Phase: corev1.PodRunning})
	if err := w.Flush(t.Context(), static); err != nil || s.patches != 0 {
		t.Fatalf("%v after %d patches of nothing", err, s.patches)
	}
	w.ObserveMirror(static.UID, mirror)
	if err := w.Flush(t.Context(), static); err != nil || s.read(t, mirror).Status.Phase != corev1.PodRunning {
		t.Errorf("%v, the mirror says %s", err, s.read(t, mirror).Status.Phase)
	}
	w.ObserveMirror(static.UID, nil)
	w.Set(static, corev1.PodStatus{Phase: corev1.PodFailed})
	if err := w.Flush(t.Context(), static); err != nil || s.read(t, mirror).Status.Phase != corev1.PodRunning {
		t.Errorf("%v, a mirror of something else says %s", err, s.read(t, mirror).Status.Phase)
	}
}

func TestNewAgentKnowsAStaticPodByItsMirror(t *testing.T) {
	w := NewWriter(nil, clock.RealClock{})
	w.ObserveStatic("static")
	if _, known := w.Get("static"); known {
		t.Error("known before anything was said")
	}
	mirror := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID("m")}}
	mirror.Status.PodIP = "10.0.0.1"
	w.ObserveMirror("static", mirror)
	if got, known := w.Get("static"); !known || got.PodIP != "10.0.0.1" {
		t.Errorf("got %+v, %v", got, known)
	}
}

func TestAdopt(t *testing.T) {
	early, late := metav1.NewTime(time.Unix(10, 0)), metav1.NewTime(time.Unix(20, 0))
	condition := func(kind corev1.PodConditionType, status corev1.ConditionStatus, at metav1.Time) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: at}
	}
	before := &corev1.PodStatus{StartTime: &early, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}, Conditions: []corev1.PodCondition{
		condition(corev1.PodReady, corev1.ConditionFalse, early), condition(corev1.PodInitialized, corev1.ConditionTrue, early),
	}}
	now := corev1.PodStatus{StartTime: &late, Conditions: []corev1.PodCondition{
		condition(corev1.PodReady, corev1.ConditionTrue, late), condition(corev1.PodInitialized, corev1.ConditionTrue, late),
		condition(corev1.PodReadyToStartContainers, corev1.ConditionTrue, late),
	}}
	got := adopt(now, before)
	if !got.StartTime.Equal(&early) || got.PodIP != "10.0.0.1" || len(got.PodIPs) != 1 ||
		!got.Conditions[0].LastTransitionTime.Equal(&late) || !got.Conditions[1].LastTransitionTime.Equal(&early) {
		t.Errorf("adopted %+v", got)
	}
	now.Conditions = now.Conditions[:2]
	if got := adopt(now, before); got.PodIP != "" {
		t.Errorf("a Pod without a sandbox has address %s", got.PodIP)
	}
}
