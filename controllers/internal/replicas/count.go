package replicas

import (
	"time"

	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// Counts is what an owner reports about its Pods.
type Counts struct {
	Replicas, FullyLabeled, Ready, Available int32
	// NextAvailable is when the next ready Pod becomes available; 0 when none waits.
	NextAvailable time.Duration
}

// Count counts active Pods: those that carry every label of the template, the ready
// ones, and those ready for minReadySeconds.
func Count(active []*keelsonv1.Pod, templateLabels map[string]string, minReadySeconds int32, now time.Time) Counts {
	counts := Counts{Replicas: int32(len(active))}
	template := labels.SelectorFromSet(templateLabels)
	for _, pod := range active {
		if template.Matches(labels.Set(pod.Labels)) {
			counts.FullyLabeled++
		}
		if podstatus.IsReady(pod) {
			counts.Ready++
		}
		wait, ok := podstatus.AvailableAfter(pod, minReadySeconds, now)
		switch {
		case !ok:
		case wait == 0:
			counts.Available++
		case counts.NextAvailable == 0 || wait < counts.NextAvailable:
			counts.NextAvailable = wait
		}
	}
	return counts
}
