package agent

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func withPriority(pod *keelsonv1.Pod, priority int32) *keelsonv1.Pod {
	pod.Spec.Priority = &priority
	return pod
}

// guaranteed gives the Pod limits that are its requests.
func guaranteed(pod *keelsonv1.Pod) *keelsonv1.Pod {
	c := &pod.Spec.Containers[0]
	c.Resources.Limits = c.Resources.Requests.DeepCopy()
	return pod
}

// TestPlanPreemption has the cases of upstream's TestGetPodsToPreempt and some more: the
// classes in their order, then few Pods, then small ones.
func TestPlanPreemption(t *testing.T) {
	critical := withPriority(podAsking("critical", "", ""), systemCritical)
	pod := func(name, cpu, memory string) *keelsonv1.Pod {
		p := withPriority(podAsking(name, cpu, memory), 0)
		p.UID = types.UID(name)
		return p
	}
	tiny, small, big := pod("tiny", "1m", "1Mi"), pod("small", "100m", "100Mi"), pod("big", "1", "1Gi")
	best, other := pod("best", "", ""), pod("other", "", "")
	precious, gold := guaranteed(pod("precious", "1", "1Gi")), guaranteed(pod("gold", "100m", "100Mi"))
	needs := func(cpu, memory int64) []shortage {
		var lacks []shortage
		if cpu > 0 {
			lacks = append(lacks, shortage{corev1.ResourceCPU, cpu + 5, 7, 12}) // five are left
		}
		if memory > 0 {
			lacks = append(lacks, shortage{corev1.ResourceMemory, memory << 20, 9, 9})
		}
		return lacks
	}
	for name, tt := range map[string]struct {
		pod       *keelsonv1.Pod
		others    []*keelsonv1.Pod
		lacks     []shortage
		want      []string
		wantError string
	}{
		"a place: a best-effort Pod goes":                       {critical, []*keelsonv1.Pod{big, best, precious}, []shortage{{corev1.ResourcePods, 1, 3, 3}}, []string{"best"}, ""},
		"cpu: best-effort Pods have none":                       {critical, []*keelsonv1.Pod{best, small, precious}, needs(90, 0), []string{"small"}, ""},
		"the smallest that is enough":                           {critical, []*keelsonv1.Pod{big, small, tiny}, needs(1, 1), []string{"tiny"}, ""},
		"one Pod rather than two":                               {critical, []*keelsonv1.Pod{small, tiny, big}, needs(101, 0), []string{"big"}, ""},
		"two when one is not enough":                            {critical, []*keelsonv1.Pod{small, tiny, big}, needs(1050, 0), []string{"big", "small"}, ""},
		"a guaranteed Pod only when the others have too little": {critical, []*keelsonv1.Pod{precious, small, gold}, needs(150, 0), []string{"small", "gold"}, ""},
		"what the guaranteed one frees is not asked of others":  {critical, []*keelsonv1.Pod{precious, small}, needs(900, 0), []string{"precious"}, ""},
		"nobody critical":                                       {critical, []*keelsonv1.Pod{withPriority(pod("peer", "1", "1Gi"), systemCritical)}, needs(1, 0), nil, "no set of running pods found to reclaim resources: [(res: cpu, q: 1), ]"},
		"a critical one of lower priority":                      {withPriority(podAsking("node-critical", "", ""), systemCritical+1000), []*keelsonv1.Pod{withPriority(pod("peer", "1", "1Gi"), systemCritical)}, needs(1, 0), []string{"peer"}, ""},
		"all together have too little":                          {critical, []*keelsonv1.Pod{tiny, other}, needs(50, 50), nil, "no set of running pods found to reclaim resources: [(res: cpu, q: 49), (res: memory, q: 51380224), ]"},
	} {
		t.Run(name, func(t *testing.T) {
			victims, err := planPreemption(tt.pod, tt.others, tt.lacks)
			if (err == nil) != (tt.wantError == "") || err != nil && !strings.Contains(err.Error(), tt.wantError) {
				t.Fatalf("error %v, want %q", err, tt.wantError)
			}
			var names []string
			for _, v := range victims {
				names = append(names, v.Name)
			}
			if diff := cmp.Diff(tt.want, names); diff != "" {
				t.Errorf("victims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCriticalPodTakesThePlaceOfAnother(t *testing.T) {
	m := newMachine(t, "critical")
	m.join()
	ask := func(name, cpu string, priority int32) *keelsonv1.Pod {
		pod := m.makePod(name)
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		pod.Spec.Priority = &priority
		pod.Spec.TerminationGracePeriodSeconds = new(int64(3600))
		return pod
	}
	victim := m.eventuallyShows(m.create(ask("victim", "3", 0)), "Running")
	bystander := m.eventuallyShows(m.create(ask("bystander", "500m", 0)), "Running")
	m.runtime.IgnoreTerm() // so that the victim takes its time
	critical := m.create(ask("urgent", "2", systemCritical))
	m.eventually("the victim is told to end", func(ctx context.Context) bool {
		return slices.ContainsFunc(m.runtime.Calls(), func(c string) bool { return strings.HasPrefix(c, "StopContainer") })
	})
	if m.runtime.Config(critical.UID, "main") != nil {
		t.Error("the critical Pod runs beside its victim")
	}
	if err := m.runtime.Exit(victim.UID, "main", 0, "Completed"); err != nil {
		t.Fatal(err)
	}
	m.eventuallyShows(critical, "Running")
	m.eventually("the victim has failed", func(context.Context) bool { return m.get(victim).Status.Reason == "Preempting" })
	got := m.get(victim)
	if got.Status.Phase != corev1.PodFailed || got.Status.Message != "Preempted in order to admit critical pod" {
		t.Errorf("phase %s, message %q", got.Status.Phase, got.Status.Message)
	}
	if !slices.ContainsFunc(got.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "TerminationByKubelet" &&
			c.Message == "Pod was preempted by Kubelet to accommodate a critical pod."
	}) {
		t.Errorf("conditions %+v", got.Status.Conditions)
	}
	m.eventuallyShows(bystander, "Running")
	hopeless := m.eventuallyShows(m.create(ask("hopeless", "5", systemCritical)), "UnexpectedAdmissionError")
	if want := "Pod was rejected: Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found"; !strings.HasPrefix(hopeless.Status.Message, want) {
		t.Errorf("message %q", hopeless.Status.Message)
	}
}
