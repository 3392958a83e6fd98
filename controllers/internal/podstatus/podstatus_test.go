package podstatus

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

func TestIsActive(t *testing.T) {
	tests := map[string]struct {
		pod  *keelsonv1.Pod
		want bool
	}{
		"a new Pod counts":                   {pod: builders.MakePod("a").Obj(), want: true},
		"a running Pod counts":               {pod: builders.MakePod("a").NotReady().Obj(), want: true},
		"a failed Pod does not":              {pod: builders.MakePod("a").Phase(corev1.PodFailed).Obj()},
		"a succeeded Pod does not":           {pod: builders.MakePod("a").Phase(corev1.PodSucceeded).Obj()},
		"a Pod that is being deleted is out": {pod: builders.MakePod("a").Ready().Deleting(time.Unix(1, 0)).Obj()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := IsActive(tc.pod); got != tc.want {
				t.Errorf("IsActive = %t, want %t", got, tc.want)
			}
		})
	}
}

func TestAvailableAfter(t *testing.T) {
	now := time.Unix(1000, 0)
	tests := map[string]struct {
		pod      *keelsonv1.Pod
		seconds  int32
		wantWait time.Duration
		wantOK   bool
	}{
		"not ready is never available":            {pod: builders.MakePod("a").NotReady(now).Obj()},
		"no condition is never available":         {pod: builders.MakePod("a").Obj(), seconds: 5},
		"without minReadySeconds ready is enough": {pod: builders.MakePod("a").Ready(now).Obj(), wantOK: true},
		"three of ten seconds are missing": {
			pod: builders.MakePod("a").Ready(now.Add(-7 * time.Second)).Obj(), seconds: 10, wantWait: 3 * time.Second, wantOK: true,
		},
		"exactly long enough": {pod: builders.MakePod("a").Ready(now.Add(-10 * time.Second)).Obj(), seconds: 10, wantOK: true},
		"longer than needed":  {pod: builders.MakePod("a").Ready(now.Add(-time.Hour)).Obj(), seconds: 10, wantOK: true},
		"a condition without a time cannot be judged": {
			pod: builders.MakePod("a").Ready(time.Time{}).Obj(), seconds: 10,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			wait, ok := AvailableAfter(tc.pod, tc.seconds, now)
			if wait != tc.wantWait || ok != tc.wantOK {
				t.Errorf("AvailableAfter = %s, %t; want %s, %t", wait, ok, tc.wantWait, tc.wantOK)
			}
		})
	}
}
