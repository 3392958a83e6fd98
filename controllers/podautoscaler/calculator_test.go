package podautoscaler

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

var (
	noon  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	usual = tolerances{down: 0.1, up: 0.1}
	fine  = tolerances{down: 0.1, up: 0.01}
)

func calc() calculator {
	return calculator{cpuInitialization: 2 * time.Minute, readinessDelay: 10 * time.Second, now: noon}
}

// somePods are Pods web-0, web-1…, ready since long, of two containers that request one
// core each; each change makes one of them something else.
func somePods(count int, changes ...func(i int, pod *keelsonv1.Pod)) []*keelsonv1.Pod {
	var pods []*keelsonv1.Pod
	for i := range count {
		pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d", i), Namespace: "n", Labels: map[string]string{"app": "web"}}}
		for _, name := range []string{"c1", "c2"} {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name,
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}})
		}
		pod.Status.Phase = corev1.PodRunning
		pod.Status.StartTime = new(metav1.NewTime(noon.Add(-time.Hour)))
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(-time.Hour))}}
		for _, change := range changes {
			change(i, pod)
		}
		pods = append(pods, pod)
	}
	return pods
}

func only(change func(*keelsonv1.Pod), numbers ...int) func(int, *keelsonv1.Pod) {
	return func(i int, pod *keelsonv1.Pod) {
		for _, n := range numbers {
			if n == i {
				change(pod)
			}
		}
	}
}

func unready(pod *keelsonv1.Pod)  { pod.Status.Conditions[0].Status = corev1.ConditionFalse }
func pending(pod *keelsonv1.Pod)  { pod.Status.Phase = corev1.PodPending; unready(pod) }
func dead(pod *keelsonv1.Pod)     { pod.Status.Phase = corev1.PodFailed; unready(pod) }
func deleting(pod *keelsonv1.Pod) { pod.DeletionTimestamp = new(metav1.NewTime(noon)) }

// hot has just started, so that its use is that of its start.
func hot(pod *keelsonv1.Pod) {
	pod.Status.StartTime = new(metav1.NewTime(noon.Add(-time.Second)))
	pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(noon.Add(-time.Second))
}

func noRequest(pod *keelsonv1.Pod) { pod.Spec.Containers[1].Resources = corev1.ResourceRequirements{} }

func levels(values ...int64) samples {
	all := samples{}
	for i, value := range values {
		all[fmt.Sprintf("web-%d", i)] = sample{at: noon, window: time.Minute, value: value}
	}
	return all
}

// The cases are those of upstream's replica_calculator_test.go.
func TestReplicasByUtilization(t *testing.T) {
	for what, tc := range map[string]struct {
		current       int32
		pods          []*keelsonv1.Pod
		levels        samples // of whole Pods, which request two cores
		container     string
		target        int32
		tolerances    tolerances
		want, percent int32
		raw           int64
		wantErr       string
	}{
		"up":                                               {current: 3, pods: somePods(3), levels: levels(600, 1000, 1400), target: 30, want: 5, percent: 50, raw: 1000},
		"up by one container":                              {current: 3, pods: somePods(3), levels: levels(300, 500, 700), container: "c2", target: 30, want: 5, percent: 50, raw: 500},
		"up less with a Pod that is not ready":             {current: 3, pods: somePods(3, only(hot, 0), only(unready, 0)), levels: levels(600, 1000, 1400), target: 30, want: 4, percent: 60, raw: 1200},
		"up less with a Pod that has started":              {current: 3, pods: somePods(3, only(hot, 0)), levels: levels(600, 1000, 1400), target: 30, want: 4, percent: 60, raw: 1200},
		"stays with Pods that are not ready":               {current: 3, pods: somePods(3, only(hot, 1, 2), only(unready, 1, 2)), levels: levels(800, 1000, 1400), target: 30, want: 3, percent: 40, raw: 800},
		"Pods that failed do not count":                    {current: 2, pods: somePods(4, only(dead, 2, 3)), levels: levels(1000, 1400), target: 30, want: 4, percent: 60, raw: 1200},
		"Pods that end do not count":                       {current: 2, pods: somePods(4, only(deleting, 2, 3)), levels: levels(1000, 1400, 9000, 9000), target: 30, want: 4, percent: 60, raw: 1200},
		"down":                                             {current: 5, pods: somePods(5), levels: levels(200, 600, 1000, 500, 500), target: 50, want: 3, percent: 28, raw: 560},
		"down without Pods that are not ready":             {current: 5, pods: somePods(5, only(hot, 3, 4), only(unready, 3, 4)), levels: levels(200, 600, 1000, 500, 500), target: 50, want: 2, percent: 30, raw: 600},
		"down without Pods that are pending":               {current: 5, pods: somePods(5, only(pending, 1, 2, 3, 4)), levels: levels(200), target: 50, want: 1, percent: 10, raw: 200},
		"within the tolerance":                             {current: 3, pods: somePods(3), levels: levels(1010, 1030, 1020), target: 50, want: 3, percent: 51, raw: 1020},
		"outside a smaller tolerance":                      {current: 3, pods: somePods(3), levels: levels(1010, 1030, 1020), target: 50, tolerances: fine, want: 4, percent: 51, raw: 1020},
		"a missing Pod uses nothing on the way up":         {current: 4, pods: somePods(4), levels: levels(400, 1900), target: 30, want: 4, percent: 57, raw: 1150},
		"a missing Pod uses its request on the way down":   {current: 3, pods: somePods(3), levels: levels(200, 200), target: 50, want: 3, percent: 10, raw: 200},
		"missing Pods never turn the direction round":      {current: 3, pods: somePods(3), levels: levels(900), target: 50, want: 3, percent: 45, raw: 900},
		"unready and missing Pods together, on the way up": {current: 5, pods: somePods(5, only(hot, 4), only(unready, 4)), levels: levels(1800, 1800, 1800), target: 30, want: 9, percent: 90, raw: 1800},
		"no Pods":                     {current: 1, target: 30, levels: levels(1), wantErr: "no pods returned by selector"},
		"no samples":                  {current: 1, pods: somePods(1), levels: samples{}, target: 30, wantErr: "did not receive metrics for targeted pods"},
		"a Pod that requests nothing": {current: 2, pods: somePods(2, only(noRequest, 1)), levels: levels(100, 100), target: 30, wantErr: "missing request for cpu in container c2 of Pod web-1"},
		"a container that no Pod has": {current: 1, pods: somePods(1), levels: levels(100), container: "c9", target: 30, wantErr: "container c9 not found in Pod web-0"},
	} {
		t.Run(what, func(t *testing.T) {
			tolerance := tc.tolerances
			if tolerance == (tolerances{}) {
				tolerance = usual
			}
			replicas, percent, raw, err := calc().utilization(tc.current, tc.target, corev1.ResourceCPU, tolerance, tc.levels, tc.pods, tc.container)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil || replicas != tc.want || percent != tc.percent || raw != tc.raw {
				t.Errorf("%d replicas at %d%% (%d), %v; want %d at %d%% (%d)", replicas, percent, raw, err, tc.want, tc.percent, tc.raw)
			}
		})
	}
}

func TestReplicasByAverage(t *testing.T) {
	for what, tc := range map[string]struct {
		current    int32
		pods       []*keelsonv1.Pod
		levels     samples
		target     int64
		tolerances tolerances
		want       int32
		used       int64
	}{
		"up":                             {current: 3, pods: somePods(3), levels: levels(20000, 10000, 30000), target: 15000, tolerances: usual, want: 4, used: 20000},
		"readiness matters for CPU only": {current: 3, pods: somePods(3, only(hot, 2), only(unready, 2)), levels: levels(50000, 10000, 30000), target: 15000, tolerances: usual, want: 6, used: 30000},
		"down":                           {current: 5, pods: somePods(5), levels: levels(10000, 10000, 10000, 10000, 20000), target: 20000, tolerances: usual, want: 3, used: 12000},
		"within the tolerance":           {current: 3, pods: somePods(3), levels: levels(20000, 21000, 21000), target: 20000, tolerances: usual, want: 3, used: 20666},
		"outside a smaller tolerance":    {current: 3, pods: somePods(3), levels: levels(20000, 21000, 21000), target: 20000, tolerances: fine, want: 4, used: 20666},
		"samples are missing":            {current: 5, pods: somePods(5), levels: levels(20000, 19000, 21000), target: 20000, tolerances: usual, want: 5, used: 20000},
		"one more Pod during a rollout":  {current: 2, pods: somePods(3), levels: levels(10000, 10000), target: 17000, tolerances: usual, want: 2, used: 10000},
	} {
		t.Run(what, func(t *testing.T) {
			replicas, used, err := calc().average(tc.current, tc.target, "", tc.tolerances, tc.levels, tc.pods)
			if err != nil || replicas != tc.want || used != tc.used {
				t.Errorf("%d replicas at %d, %v; want %d at %d", replicas, used, err, tc.want, tc.used)
			}
		})
	}
}

func TestReplicasByOneValue(t *testing.T) {
	for what, tc := range map[string]struct {
		current    int32
		pods       []*keelsonv1.Pod
		ratio      float64
		tolerances tolerances
		want       int32
	}{
		"up":                                   {current: 3, pods: somePods(3), ratio: 20000. / 15000, tolerances: usual, want: 4},
		"Pods that are not ready are left out": {current: 3, pods: somePods(3, only(unready, 0, 2)), ratio: 5, tolerances: usual, want: 5},
		"down":                                 {current: 5, pods: somePods(5), ratio: 0.6, tolerances: usual, want: 3},
		"within the tolerance":                 {current: 3, pods: somePods(3), ratio: 1.03, tolerances: usual, want: 3},
		"outside a smaller tolerance":          {current: 3, pods: somePods(3), ratio: 1.03, tolerances: fine, want: 4},
		"more than there can be":               {current: 3, pods: somePods(3), ratio: math.MaxInt64, tolerances: usual, want: math.MaxInt32},
		"from zero the ratio is the number":    {current: 0, ratio: 2.5, tolerances: usual, want: 3},
		"from zero to zero":                    {current: 0, ratio: 0, tolerances: usual, want: 0},
	} {
		t.Run(what, func(t *testing.T) {
			if got, err := whole(tc.current, tc.ratio, tc.tolerances, tc.pods); err != nil || got != tc.want {
				t.Errorf("%d replicas, %v; want %d", got, err, tc.want)
			}
		})
	}
}

func TestReplicasByShare(t *testing.T) {
	for what, tc := range map[string]struct {
		current       int32
		value, target int64
		tolerances    tolerances
		want          int32
		used          int64
	}{
		"up":                          {current: 3, value: 8600, target: 2150, tolerances: usual, want: 4, used: 2867},
		"down":                        {current: 5, value: 8600, target: 2867, tolerances: usual, want: 3, used: 1720},
		"within the tolerance":        {current: 4, value: 20166, target: 5000, tolerances: usual, want: 4, used: 5042},
		"outside a smaller tolerance": {current: 4, value: 20206, target: 5000, tolerances: fine, want: 5, used: 5052},
		"more than there can be":      {current: 1, value: math.MaxInt64, target: 1, tolerances: usual, want: math.MaxInt32, used: math.MaxInt64},
		"from zero":                   {current: 0, value: 3000, target: 1000, tolerances: usual, want: 3, used: 3000},
	} {
		t.Run(what, func(t *testing.T) {
			if got, used := perPod(tc.current, tc.value, tc.target, tc.tolerances); got != tc.want || used != tc.used {
				t.Errorf("%d replicas at %d, want %d at %d", got, used, tc.want, tc.used)
			}
		})
	}
	if got := sumOf([]int64{math.MaxInt64, 5}); got != math.MaxInt64 {
		t.Errorf("sums run over: %d", got)
	}
}

func TestSamplesOfContainers(t *testing.T) {
	cpu := func(name, value string) metricsv1beta1.ContainerMetrics {
		return metricsv1beta1.ContainerMetrics{Name: name, Usage: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(value)}}
	}
	measured := []metricsv1beta1.PodMetrics{
		{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Containers: []metricsv1beta1.ContainerMetrics{cpu("c1", "100m"), cpu("c2", "50m")}},
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Containers: []metricsv1beta1.ContainerMetrics{cpu("c1", "100m"), {Name: "c2"}}},
	}
	if all := samplesOf(measured, corev1.ResourceCPU, ""); len(all) != 1 || all["a"].value != 150 {
		t.Errorf("of whole Pods: %v", all)
	}
	if one := samplesOf(measured, corev1.ResourceCPU, "c1"); len(one) != 2 || one["a"].value != 100 {
		t.Errorf("of one container: %v", one)
	}
}

// TestMoreUseNeverAsksForLess: with all Pods measured and ready, the number grows with
// the use, and keeps the use at the target.
func TestMoreUseNeverAsksForLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 20).Draw(t, "count")
		target := rapid.Int32Range(1, 200).Draw(t, "target")
		values := rapid.SliceOfN(rapid.Int64Range(0, 5000), count, count).Draw(t, "values")
		more := rapid.Int64Range(0, 5000).Draw(t, "more")
		ask := func(add int64) int32 {
			used := append([]int64{}, values...)
			used[0] += add
			replicas, _, _, err := calc().utilization(int32(count), target, corev1.ResourceCPU, usual, levels(used...), somePods(count), "")
			if err != nil {
				t.Fatal(err)
			}
			return replicas
		}
		if before, after := ask(0), ask(more); after < before {
			t.Fatalf("%d more used asks for %d instead of %d", more, after, before)
		}
	})
}
