package eviction

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const mib = int64(1 << 20)

// podOf is a Pod of one container "c".
func podOf(name string, changes ...func(*keelsonv1.Pod)) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{}
	pod.Name, pod.Namespace = name, "default"
	pod.Spec.Containers = []corev1.Container{{Name: "c"}}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func requesting(name corev1.ResourceName, text string) func(*keelsonv1.Pod) {
	return func(pod *keelsonv1.Pod) {
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{name: resource.MustParse(text)}
	}
}

func limiting(name corev1.ResourceName, text string) func(*keelsonv1.Pod) {
	return func(pod *keelsonv1.Pod) {
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{name: resource.MustParse(text)}
	}
}

func important(priority int32) func(*keelsonv1.Pod) {
	return func(pod *keelsonv1.Pod) { pod.Spec.Priority = &priority }
}

func bytesOf(n int64) runtime.DiskUsage { return runtime.DiskUsage{Bytes: n, Inodes: n / mib} }

func onDiskOf(rootfs, logs, volume int64) *Usage {
	return &Usage{
		Containers: []ContainerUsage{{Name: "c", Rootfs: bytesOf(rootfs), Logs: bytesOf(logs)}},
		Volumes:    map[string]runtime.DiskUsage{"v": bytesOf(volume)},
	}
}

func TestRank(t *testing.T) {
	for name, test := range map[string]struct {
		signal    Signal
		dedicated bool
		pods      []Candidate
		want      []string
	}{
		"memory: beyond the request, then unimportant, then most beyond it": {MemoryAvailable, false, []Candidate{
			{podOf("below-unimportant", requesting("memory", "400Mi"), important(-1)), &Usage{Memory: 300 * mib}},
			{podOf("above-important", requesting("memory", "100Mi"), important(100)), &Usage{Memory: 900 * mib}},
			{podOf("above-little", requesting("memory", "100Mi")), &Usage{Memory: 200 * mib}},
			{podOf("above-much", requesting("memory", "100Mi")), &Usage{Memory: 500 * mib}},
			{podOf("best-effort"), &Usage{Memory: 300 * mib}},
			{podOf("below"), &Usage{}},
		}, []string{"above-much", "best-effort", "above-little", "above-important", "below-unimportant", "below"}},
		"one that cannot be measured goes first": {MemoryAvailable, false, []Candidate{
			{podOf("known"), &Usage{Memory: 300 * mib}}, {podOf("unknown", important(9)), nil},
		}, []string{"unknown", "known"}},
		"equal ones keep their order": {NodeFsAvailable, false, []Candidate{
			{podOf("b"), onDiskOf(1, 0, 0)}, {podOf("a"), onDiskOf(1, 0, 0)},
		}, []string{"b", "a"}},
		"disk: all parts count": {NodeFsAvailable, false, []Candidate{
			{podOf("asked", requesting("ephemeral-storage", "1Gi")), onDiskOf(500*mib, 0, 0)},
			{podOf("layer"), onDiskOf(100*mib, 0, 0)},
			{podOf("logs"), onDiskOf(0, 300*mib, 0)},
			{podOf("volume"), onDiskOf(0, 0, 200*mib)},
		}, []string{"logs", "volume", "layer", "asked"}},
		"disk of the node beside one of images: layers do not count": {NodeFsAvailable, true, []Candidate{
			{podOf("layer"), onDiskOf(900*mib, 0, 0)}, {podOf("volume"), onDiskOf(0, 0, mib)},
		}, []string{"volume", "layer"}},
		"disk of images: only layers count": {ImageFsAvailable, true, []Candidate{
			{podOf("volume"), onDiskOf(0, 0, 900*mib)}, {podOf("layer"), onDiskOf(mib, 0, 0)},
		}, []string{"layer", "volume"}},
		"inodes": {NodeFsInodesFree, false, []Candidate{
			{podOf("few"), onDiskOf(2*mib, 0, 0)}, {podOf("many"), onDiskOf(2*mib, 0, 9*mib)},
		}, []string{"many", "few"}},
		"processes: unimportant ones, then those with most": {PIDAvailable, false, []Candidate{
			{podOf("important", important(1)), &Usage{Processes: 500}}, {podOf("few"), &Usage{Processes: 5}}, {podOf("many"), &Usage{Processes: 50}},
		}, []string{"many", "few", "important"}},
	} {
		t.Run(name, func(t *testing.T) {
			rank(test.pods, test.signal, test.dedicated)
			var got []string
			for _, c := range test.pods {
				got = append(got, c.Pod.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	seen := Observations{MemoryAvailable: {90 * mib, 1000 * mib}, NodeFsInodesFree: {7, 1000}, NodeFsAvailable: {5 << 30, 100 << 30}}
	for name, test := range map[string]struct {
		candidate       Candidate
		short           corev1.ResourceName
		active          []Threshold
		want            string
		wantAnnotations map[string]string
	}{
		"memory beyond the request": {
			Candidate{podOf("p", requesting("memory", "100Mi")), &Usage{Containers: []ContainerUsage{{Name: "c", Memory: 200 * mib}}}},
			corev1.ResourceMemory, []Threshold{{Signal: MemoryAvailable, Value: quantity("100Mi")}},
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. Container c was using 200Mi, request is 100Mi, has larger consumption of memory. ",
			map[string]string{"offending_containers": "c", "offending_containers_usage": "200Mi", "starved_resource": "memory"},
		},
		"memory within the request": {
			Candidate{podOf("p", requesting("memory", "300Mi")), &Usage{Containers: []ContainerUsage{{Name: "c", Memory: 200 * mib}}}},
			corev1.ResourceMemory, []Threshold{{Signal: MemoryAvailable, Value: quantity("100Mi")}},
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. ",
			map[string]string{"offending_containers": "", "offending_containers_usage": "", "starved_resource": "memory"},
		},
		"disk, by a percentage": {
			Candidate{podOf("p"), onDiskOf(3*mib, mib, 9*mib)},
			corev1.ResourceEphemeralStorage, []Threshold{{Signal: NodeFsAvailable, Value: Value{Share: 0.1}}},
			"The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 5Gi. Container c was using 4Mi, request is 0, has larger consumption of ephemeral-storage. ",
			map[string]string{"offending_containers": "c", "offending_containers_usage": "4Mi", "starved_resource": "ephemeral-storage"},
		},
		"inodes, which have no containers": {
			Candidate{podOf("p"), onDiskOf(3*mib, mib, 9*mib)}, resourceInodes, []Threshold{{Signal: NodeFsInodesFree, Value: quantity("10")}},
			"The node was low on resource: inodes. Threshold quantity: 10, available: 7. ",
			map[string]string{"offending_containers": "", "offending_containers_usage": "", "starved_resource": "inodes"},
		},
		"a Pod that could not be measured": {
			Candidate{podOf("p"), nil}, corev1.ResourceMemory, nil, "The node was low on resource: memory. ", map[string]string{},
		},
		"a request of the Pod as a whole": {
			Candidate{podOf("p", func(p *keelsonv1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{"memory": resource.MustParse("50Mi")}}
			}), &Usage{Memory: 60 * mib}}, corev1.ResourceMemory, nil,
			"The node was low on resource: memory. Pod p was using 60Mi, request is 50Mi, has larger consumption of memory. ",
			map[string]string{"offending_pod": "p", "offending_pod_usage": "60Mi", "offending_containers": "", "offending_containers_usage": "", "starved_resource": "memory"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, annotations := explain(test.candidate, test.short, test.active, seen)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.wantAnnotations, annotations); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOverLimit(t *testing.T) {
	volume := func(medium corev1.StorageMedium, limit string) func(*keelsonv1.Pod) {
		return func(pod *keelsonv1.Pod) {
			e := &corev1.EmptyDirVolumeSource{Medium: medium}
			if limit != "" {
				e.SizeLimit = new(resource.MustParse(limit))
			}
			pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: e}}}
		}
	}
	second := func(pod *keelsonv1.Pod) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "d"})
	}
	limited := limiting("ephemeral-storage", "10Mi")
	for name, test := range map[string]struct {
		pod        *keelsonv1.Pod
		used       *Usage
		dedicated  bool
		want       string
		wantKind   string
		unmeasured bool // nothing of the Pod has a limit
	}{
		"no limit":                           {pod: podOf("p", volume("", "")), used: onDiskOf(99*mib, 99*mib, 99*mib), unmeasured: true},
		"within all limits":                  {pod: podOf("p", limited, volume("", "5Mi")), used: onDiskOf(3*mib, 2*mib, 5*mib)},
		"a volume":                           {pod: podOf("p", volume("", "5Mi")), used: onDiskOf(0, 0, 5*mib+1), want: `Usage of EmptyDir volume "v" exceeds the limit "5Mi". `, wantKind: "emptydirfs.limit"},
		"a volume in memory is the kernel's": {pod: podOf("p", volume(corev1.StorageMediumMemory, "5Mi")), used: onDiskOf(0, 0, 9*mib), unmeasured: true},
		"all of the Pod together":            {pod: podOf("p", limited), used: onDiskOf(4*mib, 4*mib, 4*mib), want: "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ", wantKind: "ephemeralpodfs.limit"},
		"the others' use counts for the Pod": {pod: podOf("p", limited, second), wantKind: "ephemeralpodfs.limit", want: "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ",
			used: &Usage{Containers: []ContainerUsage{{Name: "d", Rootfs: bytesOf(11 * mib)}}}},
		"a container within the Pod's sum": {pod: podOf("p", limited, second, func(p *keelsonv1.Pod) {
			p.Spec.Containers[1].Resources.Limits = corev1.ResourceList{"ephemeral-storage": resource.MustParse("90Mi")}
		}), used: onDiskOf(6*mib, 5*mib, 0), want: `Container c exceeded its local ephemeral storage limit "10Mi". `, wantKind: "ephemeralcontainerfs.limit"},
		"on a disk of its own the layer does not count for a container": {pod: podOf("p", limited, second, func(p *keelsonv1.Pod) {
			p.Spec.Containers[1].Resources.Limits = corev1.ResourceList{"ephemeral-storage": resource.MustParse("90Mi")}
		}), used: onDiskOf(6*mib, 5*mib, 0), dedicated: true},
	} {
		t.Run(name, func(t *testing.T) {
			kind, got := overLimit(test.pod, test.used, test.dedicated)
			if got != test.want || kind != test.wantKind {
				t.Errorf("got %q %q, want %q %q", kind, got, test.wantKind, test.want)
			}
			if HasLimits(test.pod) == test.unmeasured {
				t.Errorf("HasLimits is %v", !test.unmeasured)
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	tolerating := func(pod *keelsonv1.Pod) {
		pod.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}}
	}
	memoryOnly := []corev1.NodeConditionType{corev1.NodeMemoryPressure}
	both := []corev1.NodeConditionType{corev1.NodeDiskPressure, corev1.NodeMemoryPressure}
	for name, test := range map[string]struct {
		pod        *keelsonv1.Pod
		conditions []corev1.NodeConditionType
		want       string
	}{
		"no condition":                     {podOf("p"), nil, ""},
		"best effort and short of memory":  {podOf("p"), memoryOnly, "The node had condition: [MemoryPressure]. "},
		"burstable and short of memory":    {podOf("p", requesting("cpu", "1")), memoryOnly, ""},
		"one that tolerates it":            {podOf("p", tolerating), memoryOnly, ""},
		"which helps with nothing else":    {podOf("p", tolerating), both, "The node had condition: [DiskPressure MemoryPressure]. "},
		"a critical one":                   {podOf("p", important(systemCritical)), both, ""},
		"an important one is not critical": {podOf("p", important(systemCritical-1)), both, "The node had condition: [DiskPressure MemoryPressure]. "},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Options{})
			m.conditions = test.conditions
			if got := m.Refuse(test.pod); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestGrace(t *testing.T) {
	m := New(Options{MaxGrace: 20 * time.Second})
	pod := podOf("p", func(p *keelsonv1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(5)) })
	soft := Threshold{Grace: time.Minute}
	if got := m.grace(Threshold{}, pod); got != time.Second {
		t.Errorf("hard: %v", got)
	}
	if got := m.grace(soft, pod); got != 5*time.Second {
		t.Errorf("soft, the Pod's own: %v", got)
	}
	if got := m.grace(soft, podOf("p")); got != 20*time.Second {
		t.Errorf("soft, at most: %v", got)
	}
}
