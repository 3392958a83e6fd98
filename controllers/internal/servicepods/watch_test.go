package servicepods

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// What shows in Endpoints must be in the projection, or its change would be missed;
// what does not must not be, or every status write would cost a pass.
func TestProjectionChangesWithWhatEndpointsShow(t *testing.T) {
	ready := func() *keelsonv1.Pod { return pod("a", "10.0.0.1").Hostname("h", "s").Ready().Obj() }
	tests := map[string]struct {
		change      func(*keelsonv1.Pod)
		wantChanged bool
	}{
		"readiness":     {func(p *keelsonv1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }, true},
		"the address":   {func(p *keelsonv1.Pod) { p.Status.PodIPs[0].IP = "10.0.0.2" }, true},
		"termination":   {func(p *keelsonv1.Pod) { p.DeletionTimestamp = new(metaTime(1)) }, true},
		"the end":       {func(p *keelsonv1.Pod) { p.Status.Phase = corev1.PodFailed }, true},
		"another Pod":   {func(p *keelsonv1.Pod) { p.UID = "other" }, true},
		"the hostname":  {func(p *keelsonv1.Pod) { p.Spec.Hostname = "x" }, true},
		"the subdomain": {func(p *keelsonv1.Pod) { p.Spec.Subdomain = "x" }, true},
		"the node":      {func(p *keelsonv1.Pod) { p.Spec.NodeName = "x" }, true},
		"an annotation": {func(p *keelsonv1.Pod) { p.Annotations = map[string]string{"a": "b"} }, false},
		"a restart":     {func(p *keelsonv1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 1}} }, false},
		"a message":     {func(p *keelsonv1.Pod) { p.Status.Message = "x" }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			before, after := ready(), ready()
			tc.change(after)
			if changed := projectionOf(before) != projectionOf(after); changed != tc.wantChanged {
				t.Errorf("changed %t, want %t", changed, tc.wantChanged)
			}
		})
	}
	noAddress := pod("a", "").Ready().Obj()
	noAddress.Status.PodIPs = nil
	if got := projectionOf(noAddress); got != "" {
		t.Errorf("a Pod without an address has the projection %q", got)
	}
}

func TestFirstPairIsTheSameForEqualSelectors(t *testing.T) {
	selector := map[string]string{"b": "2", "a": "1", "c": "3"}
	for range 20 {
		if got := firstPair(selector); got != "a=1" {
			t.Fatalf("firstPair = %s, want a=1", got)
		}
	}
}

func pod(name, ip string) *builders.PodBuilder {
	return builders.MakePod(name).UID("uid-"+name).Label("app", "web").Node("n1").IP(ip)
}

func metaTime(seconds int64) metav1.Time { return metav1.NewTime(time.Unix(seconds, 0)) }
