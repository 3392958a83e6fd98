package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/node"
)

func cpuOf(pod *keelsonv1.Pod) string {
	requests := pod.Spec.Containers[0].Resources.Requests
	return requests.Cpu().String()
}

func TestWhatPodsWereGivenSurvives(t *testing.T) {
	dir := t.TempDir()
	pod := podAsking("p", "1", "")
	pod.UID = "uid"
	if err := os.Mkdir(filepath.Join(dir, "uid"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := newResizes(dir)
	r.admit(t.Context(), pod)
	next := podAsking("p", "2", "")
	next.UID = "uid"
	if given, differs := r.observe(next); cpuOf(given) != "1" || !differs {
		t.Errorf("given %s, %v", cpuOf(given), differs)
	}
	if len(r.ordered()) != 0 {
		t.Error("resources are given away before all Pods are known")
	}
	r.ready = true
	if waiting := r.ordered(); len(waiting) != 1 || cpuOf(waiting[0].Given) != "1" || cpuOf(waiting[0].Asked) != "2" {
		t.Errorf("waiting %+v", waiting)
	}
	if err := r.grant(next); err != nil {
		t.Fatal(err)
	}
	if given, differs := r.observe(next); given != next || differs || len(r.ordered()) != 0 {
		t.Error("after it was given it still waits")
	}

	// The next agent finds a third wish.
	third := podAsking("p", "3", "")
	third.UID, third.Status.StartTime = "uid", new(metav1.Now())
	r = newResizes(dir)
	r.admit(t.Context(), third)
	if given, differs := r.observe(third); cpuOf(given) != "2" || !differs {
		t.Errorf("the next agent gives %s, %v", cpuOf(given), differs)
	}
	third.Status.Phase = corev1.PodSucceeded
	r.observe(third)
	r.ready = true
	if len(r.ordered()) != 0 {
		t.Error("a Pod that has ended waits")
	}
	r.forget("uid")
	if given, differs := r.observe(third); given != third || differs {
		t.Error("of a Pod that has left something is known")
	}
}

func TestReservations(t *testing.T) {
	o := NewOptions()
	o.KubeReserved = map[string]string{"cpu": "200m", "memory": "1Gi", "pid": "100"}
	o.SystemReserved = map[string]string{"cpu": "300m"}
	reserved, err := o.reserved()
	if err != nil {
		t.Fatal(err)
	}
	facts := node.Facts{MaxPods: 10, Reserved: reserved, Machine: node.Machine{CPUs: 2, MemoryBytes: 4 << 30, PIDs: 1000, HugePages: map[int64]int64{2 << 20: 1 << 30}}}
	want := corev1.ResourceList{
		"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("2Gi"), "pods": resource.MustParse("10"), "hugepages-2Mi": resource.MustParse("1Gi"),
	}
	if diff := cmp.Diff(want, node.Allocatable(facts)); diff != "" {
		t.Errorf("what Pods get (-want +got):\n%s", diff)
	}
	got := o.rootSettings(facts, []int64{2 << 20})
	limits := cgroups.Settings{CPUShares: new(uint64(1536)), Memory: new(int64(3 << 30)), PIDs: new(int64(900)), HugePages: map[string]int64{"2MB": 1 << 30}}
	if diff := cmp.Diff(limits, got); diff != "" {
		t.Errorf("what they are held to (-want +got):\n%s", diff)
	}
	o.EnforceNodeAllocatable = []string{enforceNone}
	limits = cgroups.Settings{CPUShares: new(uint64(2048)), Memory: new(int64(cgroups.Unlimited)), PIDs: new(int64(cgroups.Unlimited))}
	if diff := cmp.Diff(limits, o.rootSettings(facts, nil)); diff != "" {
		t.Errorf("what they are held to when nobody enforces it (-want +got):\n%s", diff)
	}
	facts.Reserved["cpu"] = resource.MustParse("3")
	const more = `resource "cpu" has a reservation of 3 but capacity of 2: expected capacity >= reservation`
	if err := node.CheckReserved(facts); err == nil || err.Error() != more {
		t.Errorf("more than there is: %v", err)
	}
}

func TestBadResourceOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		`--cgroup-root: "keelson" is not a cgroup of its own: write an absolute path below the root, such as /keelson`: func(o *Options) { o.CgroupRoot = "keelson" },
		`--kube-reserved: cannot reserve "pods" resource: only cpu, memory, ephemeral-storage and pid can be reserved`: func(o *Options) { o.KubeReserved = map[string]string{"pods": "1"} },
		`--system-reserved: resource quantity for "cpu" cannot be negative: -1`:                                        func(o *Options) { o.SystemReserved = map[string]string{"cpu": "-1"} },
		`--system-reserved: failed to parse quantity "x" for "cpu" resource`:                                           func(o *Options) { o.SystemReserved = map[string]string{"cpu": "x"} },
		`--enforce-node-allocatable: "kube-reserved" is not served: use pods, or none`:                                 func(o *Options) { o.EnforceNodeAllocatable = []string{"kube-reserved"} },
		`--enforce-node-allocatable: none goes with nothing else`:                                                      func(o *Options) { o.EnforceNodeAllocatable = []string{"none", "pods"} },
	} {
		o := NewOptions()
		if problems := o.validateResources(); len(problems) > 0 {
			t.Fatalf("the defaults: %v", problems)
		}
		change(o)
		if problems := o.validateResources(); len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), want) {
			t.Errorf("got %v, want %s", problems, want)
		}
	}
}
