package job

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
	"github.com/keelson-dev/keelson/test/builders"
)

// TestVictims: of two Pods the one goes that upstream's order (ActivePods) puts first.
func TestVictims(t *testing.T) {
	early, late := time.Unix(100, 0), time.Unix(200, 0)
	running := func(restarts, sidecarRestarts int32) *keelsonv1.Pod {
		pod := builders.MakePod("").Node("n").Ready(early).Obj()
		pod.Spec.InitContainers = []corev1.Container{
			{Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}, {Name: "once"},
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", RestartCount: restarts}}
		// An init container that ends has no part in it, however often it was tried.
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "side", RestartCount: sidecarRestarts}, {Name: "once", RestartCount: 9 - sidecarRestarts}}
		return pod
	}
	older := running(0, 0)
	older.CreationTimestamp.Time = early
	younger := running(0, 0)
	younger.CreationTimestamp.Time = late
	for name, tc := range map[string]struct{ goes, stays *keelsonv1.Pod }{
		"unplaced before placed":            {builders.MakePod("").Obj(), running(5, 5)},
		"pending before running":            {builders.MakePod("").Node("n").Phase(corev1.PodPending).Obj(), running(5, 5)},
		"not ready before ready":            {builders.MakePod("").Node("n").NotReady(early).Obj(), running(5, 5)},
		"ready for a shorter time":          {builders.MakePod("").Node("n").Ready(late).Obj(), running(5, 5)},
		"more restarts":                     {running(2, 0), running(1, 5)},
		"more restarts of a sidecar":        {running(1, 2), running(1, 1)},
		"the younger of two that are alike": {younger, older},
	} {
		t.Run(name, func(t *testing.T) {
			for i, pod := range []*keelsonv1.Pod{tc.goes, tc.stays} {
				pod.Name, pod.UID = []string{"goes", "stays"}[i], types.UID([]string{"2", "1"}[i])
				pod.Finalizers = []string{"batch.kubernetes.io/job-tracking"}
			}
			job := makeJob(1, 2).Obj()
			jobs.Default(job)
			for _, pods := range [][]*keelsonv1.Pod{{tc.goes, tc.stays}, {tc.stays, tc.goes}} {
				var got []string
				for _, pod := range planVictims(&snapshot{job: job, active: pods}, 1) {
					got = append(got, pod.Name)
				}
				if diff := cmp.Diff([]string{"goes"}, got); diff != "" {
					t.Errorf("victims (-want +got):\n%s", diff)
				}
			}
		})
	}
}
