package containerd_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// limitsOf reads shares, quota and memory limit of a cgroup, in the words of cgroup v1.
func limitsOf(t *testing.T, cgroup string) string {
	t.Helper()
	files := []string{"cpu" + cgroup + "/cpu.shares", "cpu" + cgroup + "/cpu.cfs_quota_us", "memory" + cgroup + "/memory.limit_in_bytes"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		files = []string{cgroup + "/cpu.weight", cgroup + "/cpu.max", cgroup + "/memory.max"}
	}
	var values []string
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", file))
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, strings.Fields(string(data))[0])
	}
	return strings.Join(values, " ")
}

// weights are what runc makes of shares on cgroup v2: in proportion, or, as
// runc 1.5.2 does, so that the two defaults (1024 and 100) meet.
func weights(shares uint64) []uint64 {
	l := math.Log2(float64(shares))
	return []uint64{1 + (shares-2)*9999/262142, uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))}
}

func TestResourcesOfARunningContainerChange(t *testing.T) {
	f := newFixture(t)
	p := f.newPod()
	asked := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}
	made := runtime.Resources{CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000, MemoryLimit: 64 << 20, Asked: asked}
	config := p.config("limited", "sleep", "1000")
	config.Resources = made
	id := p.run(config)
	check := func(want runtime.Resources) {
		t.Helper()
		c := p.container(id)
		if diff := cmp.Diff(want, c.Resources); diff != "" {
			t.Errorf("resources of the container (-want +got):\n%s", diff)
		}
		shares := []uint64{want.CPUShares}
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
			shares = weights(want.CPUShares)
		}
		var expected []string
		for _, s := range shares {
			expected = append(expected, fmt.Sprintf("%d %d %d", s, want.CPUQuota, want.MemoryLimit))
		}
		if got := limitsOf(t, c.CgroupPath); !slices.Contains(expected, got) {
			t.Errorf("the cgroup has %s, want one of %q", got, expected)
		}
		if c.State != runtime.Running || c.Attempt != 0 {
			t.Errorf("the container is %+v", c)
		}
	}
	check(made)
	for _, next := range []runtime.Resources{
		{CPUShares: 1024, CPUQuota: 100_000, CPUPeriod: 100_000, MemoryLimit: 128 << 20, Asked: asked},
		{CPUShares: 256, CPUQuota: 25_000, CPUPeriod: 100_000, MemoryLimit: 32 << 20, Asked: asked},
	} {
		f.must(f.UpdateContainer(t.Context(), id, next))
		check(next)
		f.restartAgent()
		check(next)
	}
	f.must(f.StopContainer(t.Context(), id, 0))
	if err := f.UpdateContainer(t.Context(), id, made); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("updating a container that has ended: %v", err)
	}
}

// TestForkBomb lets a Pod make as many processes as it can, under a limit, and looks
// that everything else goes on.
func TestForkBomb(t *testing.T) {
	f := newFixture(t)
	m, err := cgroups.New("/sys/fs/cgroup", cgroups.Layout{Root: "/keelson-bomb-" + filepath.Base(f.daemon.Dir())})
	f.must(err)
	t.Cleanup(func() {
		if err := m.RemoveRoot(); err != nil {
			t.Error(err)
		}
	})
	f.must(m.Start(cgroups.Settings{}))
	p := f.podWithoutSandbox()
	cgroup := m.Pod(corev1.PodQOSBestEffort, p.identity.UID)
	f.must(m.Ensure(cgroup, cgroups.Settings{PIDs: new(int64(40))}))
	t.Cleanup(func() {
		if err := m.Remove(p.identity.UID); err != nil {
			t.Error(err)
		}
	})
	p.start(func(c *runtime.SandboxConfig) { c.CgroupParent = cgroup })
	config := p.config("bomb", "sh", "-c", "bomb() { bomb | bomb & }; bomb; i=0; while sleep 0.1; do i=$((i+1)); sleep 1000 & done; sleep 1000")
	config.CgroupParent = cgroup
	id := p.run(config)
	p.waitOutput(id, "fork")
	neighbour := f.newPod()
	other := neighbour.shell("neighbour", "seq 100 | while read n; do true & done; echo alive")
	if c := neighbour.waitExited(other); c.ExitCode != 0 || neighbour.output(other) != "alive\n" {
		t.Errorf("beside the bomb a container ended with %d: %s", c.ExitCode, neighbour.output(other))
	}
	f.must(f.StopContainer(t.Context(), id, 0))
	f.must(f.StopSandbox(t.Context(), p.sandbox.ID))
	p.remove(id)
}

func (p *pod) remove(containers ...string) {
	p.t.Helper()
	for _, id := range containers {
		p.must(p.RemoveContainer(p.t.Context(), id))
	}
	p.must(p.RemoveSandbox(p.t.Context(), p.sandbox.ID))
}
