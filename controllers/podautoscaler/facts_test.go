package podautoscaler

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// requesting gives the two containers of Pod i half of the cores each.
func requesting(cores ...string) func(int, *keelsonv1.Pod) {
	return func(i int, pod *keelsonv1.Pod) {
		for c := range pod.Spec.Containers {
			pod.Spec.Containers[c].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cores[i])}
		}
	}
}

// TestFactsOfUtilization holds what upstream's replica_calculator_test.go says of
// tolerances and of metrics that are not complete.
func TestFactsOfUtilization(t *testing.T) {
	mixed := func() []*keelsonv1.Pod { return somePods(3, requesting("0.9", "1", "1.1")) }
	firstNew := func(count int) []*keelsonv1.Pod { return somePods(count, only(hot, 0), only(unready, 0)) }
	for what, tc := range map[string]struct {
		current       int32
		pods          []*keelsonv1.Pod
		levels        samples
		target        int32
		tolerances    tolerances
		want, percent int32
		raw           int64
		wantErr       string
	}{
		"requests differ, within a tenth":                    {current: 3, pods: mixed(), levels: levels(2020, 2060, 2040), target: 100, tolerances: usual, want: 3, percent: 102, raw: 2040},
		"no tolerance at all":                                {current: 3, pods: mixed(), levels: levels(1818, 2020, 2222), target: 100, want: 4, percent: 101, raw: 2020},
		"within thrice the target upwards":                   {current: 3, pods: mixed(), levels: levels(3780, 3820, 3800), target: 100, tolerances: tolerances{0.1, 2}, want: 3, percent: 190, raw: 3800},
		"outside 8 % upwards, whatever goes downwards":       {current: 3, pods: mixed(), levels: levels(2200, 2160, 2180), target: 100, tolerances: tolerances{2, 0.08}, want: 4, percent: 109, raw: 2180},
		"within 36 % downwards":                              {current: 3, pods: mixed(), levels: levels(1320, 1280, 1300), target: 100, tolerances: tolerances{0.36, 0.1}, want: 3, percent: 65, raw: 1300},
		"outside 34 % downwards":                             {current: 3, pods: mixed(), levels: levels(1320, 1280, 1300), target: 100, tolerances: tolerances{0.34, 0.1}, want: 2, percent: 65, raw: 1300},
		"metrics of strangers count for nothing":             {current: 4, pods: somePods(4), levels: levels(8000, 19000, 6000, 14000, 6400, 4000), target: 100, tolerances: usual, want: 24, percent: 587, raw: 11750},
		"two of four are missing, and it goes down":          {current: 4, pods: somePods(4), levels: levels(800, 190), target: 100, tolerances: usual, want: 3, percent: 24, raw: 495},
		"one of two is missing, the other at the target":     {current: 2, pods: somePods(2), levels: levels(2000), target: 100, tolerances: usual, want: 2, percent: 100, raw: 2000},
		"one of two is missing, the other above it":          {current: 2, pods: somePods(2), levels: levels(3800), target: 100, tolerances: usual, want: 2, percent: 190, raw: 3800},
		"one of two is missing, the other below it":          {current: 2, pods: somePods(2), levels: levels(1200), target: 100, tolerances: usual, want: 2, percent: 60, raw: 1200},
		"one is new, one missing, it stays":                  {current: 3, pods: firstNew(3), levels: levels(200, 900), target: 50, tolerances: usual, want: 3, percent: 45, raw: 900},
		"one is new, one missing, it goes up":                {current: 3, pods: firstNew(3), levels: levels(200, 4000), target: 50, tolerances: usual, want: 4, percent: 200, raw: 4000},
		"one is new, one missing, it goes down":              {current: 4, pods: firstNew(4), levels: levels(200, 200, 200), target: 50, tolerances: usual, want: 3, percent: 10, raw: 200},
		"a target above 100 % is what a missing Pod uses":    {current: 4, pods: somePods(4, requesting("1", "1", "2", "2"), only(hot, 0), only(unready, 0)), levels: levels(400, 200, 200), target: 300, tolerances: usual, want: 2, percent: 6, raw: 200},
		"one Pod more, without metrics, during a rollout":    {current: 2, pods: somePods(3), levels: levels(200, 200), target: 50, tolerances: usual, want: 2, percent: 10, raw: 200},
		"metrics of none of the Pods":                        {current: 1, pods: somePods(1), levels: samples{"older": {value: 100}}, target: 100, tolerances: usual, wantErr: "no metrics returned matched known pods"},
		"a hair more than the tolerance takes away the most": {current: 10, pods: somePods(10), levels: levels(slices.Repeat([]int64{1000}, 10)...), target: 56, tolerances: usual, want: 9, percent: 50, raw: 1000},
		"exactly the tolerance takes nothing away":           {current: 10, pods: somePods(10), levels: levels(slices.Repeat([]int64{900}, 10)...), target: 50, tolerances: usual, want: 10, percent: 45, raw: 900},
	} {
		t.Run(what, func(t *testing.T) {
			replicas, percent, raw, err := calc().utilization(tc.current, tc.target, corev1.ResourceCPU, tc.tolerances, tc.levels, tc.pods, "")
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

// TestFactsOfOtherMetrics: the same of metrics that are no share of a request.
func TestFactsOfOtherMetrics(t *testing.T) {
	twoNew := func(count int) []*keelsonv1.Pod { return somePods(count, only(unready, 0, 2)) }
	for what, tc := range map[string]struct {
		current       int32
		pods          []*keelsonv1.Pod // of all Pods together, where there are some
		value, target int64
		tolerances    tolerances
		want          int32
		used          int64
	}{
		"a share of the Service, up":                      {current: 3, value: 20000, target: 5000, tolerances: usual, want: 4, used: 6667},
		"a share of the Service, down":                    {current: 5, value: 6000, target: 2000, tolerances: usual, want: 3, used: 1200},
		"a share of the queue, within a tenth":            {current: 3, value: 8600, target: 2900, tolerances: usual, want: 3, used: 2867},
		"a share of the queue, outside a hundredth":       {current: 3, value: 8600, target: 2800, tolerances: fine, want: 4, used: 2867},
		"a share that is as large as it can be":           {current: 1, value: math.MaxInt64, target: math.MaxInt64, tolerances: usual, want: 1, used: math.MaxInt64},
		"the queue, with Pods that are not ready":         {current: 3, pods: twoNew(3), value: 8600, target: 4400, tolerances: usual, want: 2},
		"the Service, with Pods that are not ready":       {current: 3, pods: twoNew(3), value: 50000, target: 10000, tolerances: usual, want: 5},
		"the queue, down":                                 {current: 5, pods: somePods(5), value: 8600, target: 14334, tolerances: usual, want: 3},
		"the queue, within a tenth":                       {current: 3, pods: somePods(3), value: 8600, target: 8888, tolerances: usual, want: 3},
		"the queue, outside a hundredth":                  {current: 3, pods: somePods(3), value: 8900, target: 8800, tolerances: fine, want: 4},
		"the queue, as large as it can be, as its target": {current: 3, pods: somePods(3), value: math.MaxInt64, target: math.MaxInt64, tolerances: usual, want: 3},
	} {
		t.Run(what, func(t *testing.T) {
			if tc.pods == nil {
				if got, used := perPod(tc.current, tc.value, tc.target, tc.tolerances); got != tc.want || used != tc.used {
					t.Errorf("%d replicas at %d, want %d at %d", got, used, tc.want, tc.used)
				}
				return
			}
			if got, err := whole(tc.current, float64(tc.value)/float64(tc.target), tc.tolerances, tc.pods); err != nil || got != tc.want {
				t.Errorf("%d replicas, %v; want %d", got, err, tc.want)
			}
		})
	}
	if replicas, used, err := calc().average(3, 15000, "", usual, levels(50000, 15000, 30000), twoNew(3)); err != nil || replicas != 7 || used != 31666 {
		t.Errorf("a metric that is not CPU counts Pods that are not ready: %d replicas at %d, %v", replicas, used, err)
	}
}

// TestWhatASampleIsWorth: which Pods count, by when they started and became ready.
func TestWhatASampleIsWorth(t *testing.T) {
	since := func(started, changed time.Duration, ready corev1.ConditionStatus) func(*keelsonv1.Pod) {
		return func(pod *keelsonv1.Pod) {
			pod.Status.StartTime = new(metav1.NewTime(ago(started)))
			pod.Status.Conditions[0].Status = ready
			pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(ago(changed))
		}
	}
	unknown := func(pod *keelsonv1.Pod) { pod.Status.Conditions = nil }
	measured := func(age, window time.Duration) samples {
		return samples{"web-0": {at: ago(age), window: window, value: 1}}
	}
	for what, tc := range map[string]struct {
		pod     func(*keelsonv1.Pod)
		metrics samples
		memory  bool
		want    string
	}{
		"it is ready":                                         {pod: since(3*time.Minute, 3*time.Minute, "True"), metrics: measured(2*time.Minute, time.Minute), want: "counts"},
		"its memory counts at once":                           {pod: since(0, 0, "False"), metrics: measured(0, time.Minute), memory: true, want: "counts"},
		"it has no condition yet":                             {pod: unknown, metrics: measured(0, 0), want: "unready"},
		"it has just started, and a window was measured":      {pod: since(time.Minute, 30*time.Second, "True"), metrics: measured(0, 30*time.Second), want: "counts"},
		"it has just started, and no window was measured":     {pod: since(time.Minute, 30*time.Second, "True"), metrics: measured(0, time.Minute), want: "unready"},
		"it has just started and is not ready":                {pod: since(time.Minute, 30*time.Second, "False"), metrics: measured(0, 0), want: "unready"},
		"it was never ready":                                  {pod: since(10*time.Minute, 10*time.Minute-6*time.Second, "False"), metrics: measured(0, 0), want: "unready"},
		"it was ready once":                                   {pod: since(10*time.Minute, 9*time.Minute, "False"), metrics: measured(0, 0), want: "counts"},
		"it ceased to be ready when it could first have been": {pod: since(10*time.Minute, 9*time.Minute+50*time.Second, "False"), metrics: measured(0, 0), want: "counts"},
		"nothing was measured":                                {pod: unknown, want: "missing"},
		"it is pending":                                       {pod: pending, want: "unready"},
		"it ends":                                             {pod: deleting, metrics: measured(0, 0), want: "left out"},
		"it has failed":                                       {pod: dead, metrics: measured(0, 0), want: "left out"},
	} {
		t.Run(what, func(t *testing.T) {
			name := corev1.ResourceCPU
			if tc.memory {
				name = corev1.ResourceMemory
			}
			g := calc().group(somePods(1, only(tc.pod, 0)), tc.metrics, name)
			got := "left out"
			switch {
			case g.ready == 1 && len(g.metrics) == 1:
				got = "counts"
			case g.unready.Has("web-0") && len(g.metrics) == 0:
				got = "unready"
			case g.missing.Has("web-0"):
				got = "missing"
			case len(g.metrics) > 0:
				got = "left out, but measured"
			}
			if got != tc.want {
				t.Errorf("%s, want %s: %+v", got, tc.want, g)
			}
		})
	}
}

// TestRequests: whose requests a share is of.
func TestRequests(t *testing.T) {
	whole := func(pod *keelsonv1.Pod) {
		pod.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("800m")}}
	}
	sidecar := func(pod *keelsonv1.Pod) {
		request := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m")}}
		pod.Spec.InitContainers = []corev1.Container{{Name: "setup", Resources: request}, {Name: "beside", Resources: request, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
	}
	memoryAlone := func(pod *keelsonv1.Pod) {
		pod.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}
	}
	both := func(changes ...func(*keelsonv1.Pod)) func(*keelsonv1.Pod) {
		return func(pod *keelsonv1.Pod) {
			for _, change := range changes {
				change(pod)
			}
		}
	}
	for what, tc := range map[string]struct {
		pod       func(*keelsonv1.Pod)
		container string
		want      int64
		wantErr   string
	}{
		"the sum of the containers":                   {pod: func(*keelsonv1.Pod) {}, want: 2000},
		"and of sidecars, but of nothing that ends":   {pod: sidecar, want: 2050},
		"the request of the Pod, where it has one":    {pod: whole, want: 800},
		"even if a container has none":                {pod: both(whole, noRequest), want: 800},
		"of one container, whatever the Pod requests": {pod: whole, container: "c1", want: 1000},
		"of a sidecar":            {pod: sidecar, container: "beside", want: 50},
		"a container without one": {pod: noRequest, wantErr: "missing request for cpu in container c2 of Pod web-0"},
		"another container without one is nobody's business":   {pod: noRequest, container: "c1", want: 1000},
		"a container that is not there":                        {pod: sidecar, container: "setup", wantErr: "container setup not found in Pod web-0"},
		"the sum, where the Pod requests but another resource": {pod: memoryAlone, want: 2000},
	} {
		t.Run(what, func(t *testing.T) {
			requests, err := requestsOf(somePods(1, only(tc.pod, 0)), tc.container, corev1.ResourceCPU)
			if tc.wantErr != "" {
				if err == nil || err.Error() != tc.wantErr {
					t.Fatalf("error %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil || requests["web-0"] != tc.want {
				t.Errorf("%v, %v; want %d", requests, err, tc.want)
			}
		})
	}
}

// spread are changes in the middle of as many parts of the last two minutes, the oldest
// first.
func spread(replicas ...int32) []change {
	var all []change
	part := 2 * time.Minute / time.Duration(len(replicas))
	for i, n := range replicas {
		all = append(all, change{n, ago(2*time.Minute - part*time.Duration(i) - part/2)})
	}
	return all
}

// TestFactsOfRates: policies, and what was done within their periods.
func TestFactsOfRates(t *testing.T) {
	const most = upstreamautoscalingv2.MaxChangePolicySelect
	for what, tc := range map[string]struct {
		ups, downs             []change
		up, down               *upstreamautoscalingv2.HPAScalingRules
		min, max               int32
		current, desired, want int32
		why                    string
	}{
		"one percent of three is one":                        {max: 2000, current: 3, desired: 1000, up: rules(0, most, percent(1, 60)), want: 4, why: "ScaleUpLimit"},
		"the usual rules":                                    {max: 1000, current: 10, desired: 50, want: 20, why: "ScaleUpLimit"},
		"Pods are more than percents":                        {max: 1000, current: 10, desired: 500, up: rules(0, most, pods(100, 60), percent(100, 60)), want: 110, why: "ScaleUpLimit"},
		"percents are more than Pods":                        {max: 1000, current: 10, desired: 500, up: rules(0, most, pods(2, 60), percent(100, 60)), want: 20, why: "ScaleUpLimit"},
		"enough is allowed":                                  {max: 1000, current: 10, desired: 50, up: rules(0, most, pods(100, 60)), want: 50, why: "DesiredWithinRange"},
		"thirty are":                                         {max: 1000, current: 10, desired: 50, up: rules(0, most, pods(30, 60)), want: 40, why: "ScaleUpLimit"},
		"thrice as many are":                                 {max: 1000, current: 10, desired: 50, up: rules(0, most, percent(200, 60)), want: 30, why: "ScaleUpLimit"},
		"down, Pods are more than percents":                  {max: 1000, current: 100, desired: 2, down: rules(300, most, pods(20, 60), percent(1, 60)), want: 80, why: "ScaleDownLimit"},
		"down, by two of a hundred":                          {max: 1000, current: 100, desired: 2, down: rules(300, most, pods(2, 60), percent(1, 60)), want: 98, why: "ScaleDownLimit"},
		"down to the least":                                  {max: 1000, current: 10, desired: 0, down: rules(300, most, pods(100, 60)), want: 1, why: "TooFewReplicas"},
		"down by all, to the least":                          {min: 5, max: 1000, current: 10, desired: 2, down: rules(300, most, percent(100, 60)), want: 5, why: "TooFewReplicas"},
		"down by five":                                       {max: 1000, current: 10, desired: 2, down: rules(300, most, pods(5, 60)), want: 5, why: "ScaleDownLimit"},
		"down by half, as wanted":                            {max: 1000, current: 10, desired: 5, down: rules(300, most, percent(50, 60)), want: 5, why: "DesiredWithinRange"},
		"the most comes before what the rate allows":         {ups: spread(1, 5, 9), max: 200, current: 100, desired: 500, up: rules(0, most, pods(300, 60)), want: 200, why: "TooManyReplicas"},
		"as it does with percents":                           {ups: spread(1, 5, 9), max: 200, current: 100, desired: 500, up: rules(0, most, percent(10000, 60)), want: 200, why: "TooManyReplicas"},
		"more was added than the policy now allows":          {ups: spread(1, 5, 9), max: 1000, current: 100, desired: 500, up: rules(0, most, pods(5, 120)), want: 100, why: "ScaleUpLimit"},
		"Pods are counted from the period's begin":           {ups: spread(1, 5, 9), max: 1000, current: 100, desired: 500, up: rules(0, most, pods(150, 120)), want: 235, why: "ScaleUpLimit"},
		"so are percents":                                    {ups: spread(1, 5, 9), max: 1000, current: 100, desired: 500, up: rules(0, most, percent(200, 120)), want: 255, why: "ScaleUpLimit"},
		"what was taken away counts, too":                    {ups: spread(4), downs: spread(2), max: 1000, current: 6, desired: 24, up: rules(0, most, percent(300, 300)), want: 16, why: "ScaleUpLimit"},
		"the usual rules take away all":                      {downs: spread(1, 5, 9), max: 1000, current: 10, desired: 5, want: 5, why: "DesiredWithinRange"},
		"down to the least, after some":                      {downs: spread(1, 5, 9), max: 1000, current: 100, desired: 0, down: rules(300, most, pods(115, 120)), want: 1, why: "TooFewReplicas"},
		"down to a higher least, after some":                 {downs: spread(1, 5, 9), min: 5, max: 1000, current: 100, desired: 0, down: rules(300, most, pods(130, 120)), want: 5, why: "TooFewReplicas"},
		"down by all, after some":                            {downs: spread(1, 5, 9), min: 5, max: 1000, current: 100, desired: 2, down: rules(300, most, percent(100, 120)), want: 5, why: "TooFewReplicas"},
		"more was taken away than is allowed":                {downs: spread(1, 5, 9), max: 1000, current: 100, desired: 2, down: rules(300, most, pods(5, 120)), want: 100, why: "ScaleDownLimit"},
		"half of what there was":                             {downs: spread(2, 4, 6), max: 1000, current: 100, desired: 0, down: rules(300, most, percent(50, 120)), want: 56, why: "ScaleDownLimit"},
		"half, after something was added":                    {ups: spread(2), downs: spread(4), max: 1000, current: 10, desired: 1, down: rules(0, most, percent(50, 180)), want: 6, why: "ScaleDownLimit"},
		"a tenth of what there was is gone":                  {downs: spread(10, 10, 10), max: 1000, current: 100, desired: 0, down: rules(300, most, percent(10, 120)), want: 100, why: "ScaleDownLimit"},
		"ten times what there was allows anything":           {downs: spread(10, 10, 10), max: 1000, current: 10, desired: 5, down: rules(300, most, percent(1000, 120)), want: 5, why: "DesiredWithinRange"},
		"without any, within the least and the most to zero": {min: -1, max: 10, current: 1, desired: 0, want: 0, why: "DesiredWithinRange"},
	} {
		t.Run(what, func(t *testing.T) {
			l := limits{min: max(tc.min, 1), max: tc.max, current: tc.current, window: window}
			if tc.min < 0 {
				l.min = 0
			}
			l.behavior = &upstreamautoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: tc.up, ScaleDown: tc.down}
			h := history{ups: tc.ups, downs: tc.downs}
			n := h.normalize(tc.desired, l, noon)
			if n.replicas != tc.want || n.why.reason != tc.why {
				t.Errorf("%d, %s; want %d, %s", n.replicas, n.why.reason, tc.want, tc.why)
			}
		})
	}
}

// TestWhatIsRemembered: recommendations and changes that no window reaches make room.
func TestWhatIsRemembered(t *testing.T) {
	at := func(replicas int32, minutes int) recommendation {
		return recommendation{replicas, ago(time.Duration(minutes) * time.Minute)}
	}
	for what, tc := range map[string]struct {
		have             []recommendation
		up, down         int32 // windows in seconds
		current, desired int32
		want             int32
		kept             []int32
	}{
		"nothing before":                         {current: 100, desired: 5, want: 5, kept: []int32{5}},
		"the highest of the window":              {have: []recommendation{at(4, 2), at(5, 1)}, down: 180, current: 100, desired: 3, want: 5, kept: []int32{4, 5, 3}},
		"the lowest of the window":               {have: []recommendation{at(4, 2), at(5, 1)}, up: 300, current: 1, desired: 7, want: 4, kept: []int32{4, 5, 7}},
		"the window upwards holds nothing down":  {have: []recommendation{at(1, 2), at(2, 1)}, up: 300, current: 100, desired: 3, want: 3, kept: []int32{1, 2, 3}},
		"the window downwards holds nothing up":  {have: []recommendation{at(4, 2), at(5, 1)}, down: 300, current: 1, desired: 3, want: 3, kept: []int32{4, 5, 3}},
		"an old one makes room":                  {have: []recommendation{at(10, 10), at(9, 9)}, current: 100, desired: 3, want: 3, kept: []int32{10, 3}},
		"one that neither window reaches does":   {have: []recommendation{at(10, 10), at(4, 1), at(5, 2), at(9, 9)}, down: 180, current: 100, desired: 3, want: 5, kept: []int32{10, 4, 5, 3}},
		"one that one of them reaches does not":  {have: []recommendation{at(10, 100), at(6, 1), at(5, 2), at(9, 3)}, up: 300, current: 1, desired: 100, want: 5, kept: []int32{100, 6, 5, 9}},
		"a recommendation down moves nothing up": {have: []recommendation{at(2, 100), at(3, 3)}, up: 300, down: 300, current: 2, desired: 1, want: 2, kept: []int32{1, 3}},
		"and one up nothing down":                {have: []recommendation{at(2, 100), at(1, 3)}, up: 300, down: 300, current: 2, desired: 3, want: 2, kept: []int32{3, 1}},
	} {
		t.Run(what, func(t *testing.T) {
			h := history{recommendations: tc.have}
			behavior := upstreamautoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(tc.up, ""), ScaleDown: rules(tc.down, "")}
			if got := h.stabilizeBoth(tc.desired, tc.current, behavior, noon); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
			var kept []int32
			for _, r := range h.recommendations {
				kept = append(kept, r.replicas)
			}
			if diff := cmp.Diff(tc.kept, kept); diff != "" {
				t.Errorf("remembered (-want +got):\n%s", diff)
			}
		})
	}

	h := history{ups: []change{{8, ago(29 * time.Second)}, {6, ago(59 * time.Second)}, {7, ago(61 * time.Second)}}}
	h.scaled(3, 5, nil, noon)
	if len(h.ups) != 3 {
		t.Errorf("without rules, changes were touched: %v", h.ups)
	}
	behavior := &upstreamautoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, upstreamautoscalingv2.MaxChangePolicySelect, pods(10, 60), percent(100, 30))}
	h.scaled(3, 5, behavior, noon)
	if diff := cmp.Diff([]int32{8, 6, 2}, []int32{h.ups[0].replicas, h.ups[1].replicas, h.ups[2].replicas}); diff != "" || len(h.ups) != 3 {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}
