package join

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAfterLeavingTheNodeIsNotReady(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration) metav1.Time { return metav1.NewTime(now.Add(-ago)) }
	left := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: reasonLeft, Message: messageLeft,
		LastHeartbeatTime: at(0), LastTransitionTime: at(0),
	}
	lasting := left
	lasting.LastTransitionTime = at(time.Hour)
	pressure := corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, LastTransitionTime: at(time.Hour)}
	ready := func(status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: corev1.NodeReady, Status: status, LastTransitionTime: at(time.Hour)}
	}
	for name, c := range map[string]struct{ have, want []corev1.NodeCondition }{
		"it was ready":                 {[]corev1.NodeCondition{ready(corev1.ConditionTrue), pressure}, []corev1.NodeCondition{pressure, left}},
		"it was not ready for an hour": {[]corev1.NodeCondition{pressure, ready(corev1.ConditionFalse)}, []corev1.NodeCondition{pressure, lasting}},
		"it was silent":                {[]corev1.NodeCondition{ready(corev1.ConditionUnknown)}, []corev1.NodeCondition{left}},
		"it never said anything":       {nil, []corev1.NodeCondition{left}},
	} {
		if diff := cmp.Diff(c.want, conditionsAfterLeaving(c.have, now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
