package cgroups

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/clock"
)

// newManager returns a Manager of this machine's cgroups, with a root of its own.
func newManager(t *testing.T) *Manager {
	t.Helper()
	m, err := New("/sys/fs/cgroup", Layout{Root: "/keelson-test-" + string(uuid.NewUUID())})
	if err != nil {
		t.Fatal(err)
	}
	probe := filepath.Join(m.hierarchies()[0], "keelson-probe")
	if err := os.Mkdir(probe, 0o755); err != nil {
		t.Skipf("cgroups cannot be made here: %v", err)
	}
	if err := os.Remove(probe); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.RemoveRoot(); err != nil {
			t.Error(err)
		}
		for _, hierarchy := range m.hierarchies() {
			if _, err := os.Stat(filepath.Join(hierarchy, m.Root)); !os.IsNotExist(err) {
				t.Errorf("%s is still in %s: %v", m.Root, hierarchy, err)
			}
		}
	})
	return m
}

// read returns a file of a cgroup; controller names the hierarchy on v1.
func (m *Manager) read(t *testing.T, controller, cgroup, v1, v2 string) string {
	t.Helper()
	file := filepath.Join(m.mount, controller, cgroup, v1)
	if m.v2 {
		file = filepath.Join(m.mount, cgroup, v2)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestTreeOnThisMachine(t *testing.T) {
	m := newManager(t)
	for range 2 { // an agent that starts again finds it
		if err := m.Start(Settings{CPUShares: new(uint64(2048)), Memory: new(int64(1 << 30))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.SetBurstable(512); err != nil {
		t.Fatal(err)
	}
	for class, want := range map[corev1.PodQOSClass][2]string{"Burstable": {"512", "20"}, "BestEffort": {"2", "1"}, "Guaranteed": {"2048", "79"}} {
		got := m.read(t, "cpu", m.Class(class), "cpu.shares", "cpu.weight")
		if got != want[0] && got != want[1] {
			t.Errorf("%s weighs %s", class, got)
		}
	}
	if got := m.read(t, "memory", m.Root, "memory.limit_in_bytes", "memory.max"); got != "1073741824" {
		t.Errorf("all Pods may take %s bytes", got)
	}
	for _, class := range []corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort} {
		checkPodCgroup(t, m, class)
	}
}

func checkPodCgroup(t *testing.T, m *Manager, class corev1.PodQOSClass) {
	t.Helper()
	uid := uuid.NewUUID()
	path := m.Pod(class, uid)
	settings := Settings{CPUShares: new(uint64(512)), CPUQuota: new(int64(50000)), CPUPeriod: 100000, Memory: new(int64(64 << 20)), PIDs: new(int64(33))}
	for range 2 { // it may be there already
		if err := m.Ensure(path, settings); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []struct{ controller, v1, v2, wantV1, wantV2 string }{
		{"cpu", "cpu.shares", "cpu.weight", "512", "20"},
		{"cpu", "cpu.cfs_quota_us", "cpu.max", "50000", "50000 100000"},
		{"memory", "memory.limit_in_bytes", "memory.max", "67108864", "67108864"},
		{"pids", "pids.max", "pids.max", "33", "33"},
	} {
		if got := m.read(t, file.controller, path, file.v1, file.v2); got != file.wantV1 && got != file.wantV2 {
			t.Errorf("%s %s: %s is %q", class, path, file.v1, got)
		}
	}
	current, err := m.Current(path)
	want := Settings{CPUQuota: new(int64(50000)), CPUPeriod: 100000, Memory: new(int64(64 << 20)), PIDs: new(int64(33))}
	if diff := cmp.Diff(want, current); diff != "" || err != nil {
		t.Errorf("%v, its limits (-want +got):\n%s", err, diff)
	}
	if err := m.Ensure(path, Settings{CPUQuota: new(int64(Unlimited)), CPUPeriod: 100000, Memory: new(int64(Unlimited)), PIDs: new(int64(Unlimited))}); err != nil {
		t.Errorf("lifting the limits: %v", err)
	}
	if got := m.read(t, "pids", path, "pids.max", "pids.max"); got != "max" {
		t.Errorf("the lifted limit of processes is %s", got)
	}
	want = Settings{CPUQuota: new(int64(Unlimited)), CPUPeriod: 100000, Memory: new(int64(Unlimited)), PIDs: new(int64(Unlimited))}
	if current, err := m.Current(path); !cmp.Equal(want, current) || err != nil {
		t.Errorf("without limits it has %+v, %v", current, err)
	}
	if usage, err := m.Memory(path); err != nil || usage < 0 {
		t.Errorf("memory use %d, %v", usage, err)
	}
	child := filepath.Join(m.hierarchies()[0], path, "container", "deeper")
	if err := os.MkdirAll(child, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Remove(uid); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(m.hierarchies()[0], path)); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestOtherCgroupsAreNotTouched(t *testing.T) {
	m := &Manager{Layout: Layout{Root: DefaultRoot}, mount: t.TempDir(), v2: true, clock: clock.RealClock{}}
	for _, path := range []string{"", "/", "/system.slice", "/keelson", "/keelson/burstable", "/keelson/pod", "/keelson/pod1/../../system.slice",
		"/keelson/pod1/a", "/keelson/guaranteed/pod1", "keelson/pod1", "/keelson/pod1/", "/other/pod1"} {
		if err := m.Ensure(path, Settings{}); err == nil {
			t.Errorf("Ensure(%q) does not refuse", path)
		}
		if m.Owns(path) {
			t.Errorf("%q counts as a Pod's", path)
		}
	}
	for _, uid := range []types.UID{"", "../system.slice", "1/../../../x", "a/b"} {
		if err := m.Remove(uid); err == nil {
			t.Errorf("Remove(%q) does not refuse", uid)
		}
	}
}

func TestRootHasToBeACgroupOfItsOwn(t *testing.T) {
	for _, root := range []string{"", "/", "keelson", "/a/../b", "/a/"} {
		if _, err := New(t.TempDir(), Layout{Root: root}); err == nil || !strings.Contains(err.Error(), "write an absolute path below the root") {
			t.Errorf("%q: %v", root, err)
		}
	}
}

// TestUnifiedTree runs on files, as cgroup v2 has them.
func TestUnifiedTree(t *testing.T) {
	mount := t.TempDir()
	m := &Manager{Layout: Layout{Root: "/keelson"}, mount: mount, v2: true, clock: clock.RealClock{}}
	have := func(path, controllers string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(mount, path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(mount, path, "cgroup.controllers"), []byte(controllers), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pod := m.Pod(corev1.PodQOSBurstable, "1")
	for _, path := range []string{"/", "/keelson", "/keelson/burstable", pod} {
		have(path, "cpu memory pids hugetlb")
	}
	if err := m.Ensure(pod, Settings{CPUShares: new(uint64(1024)), CPUQuota: new(int64(-1)), CPUPeriod: 100000,
		Memory: new(int64(4096)), PIDs: new(int64(10)), HugePages: map[string]int64{"2MB": 0, "1GB": 1 << 30}}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, file := range []string{"cpu.weight", "cpu.max", "memory.max", "pids.max", "hugetlb.2MB.max", "hugetlb.1GB.max"} {
		got[file] = m.read(t, "", pod, file, file)
	}
	want := map[string]string{"cpu.weight": "39", "cpu.max": "max 100000", "memory.max": "4096", "pids.max": "10", "hugetlb.2MB.max": "0", "hugetlb.1GB.max": "1073741824"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	have("/keelson/burstable", "cpu memory")
	if err := m.Ensure(pod, Settings{PIDs: new(int64(Unlimited))}); err != nil {
		t.Errorf("no limit without a controller: %v", err)
	}
	err := m.Ensure(pod, Settings{PIDs: new(int64(10))})
	if err == nil || !strings.Contains(err.Error(), "this machine has no cgroup controller pids") {
		t.Errorf("a limit without a controller: %v", err)
	}
}

func TestShares(t *testing.T) {
	for milli, want := range map[int64]uint64{0: 2, 1: 2, 500: 512, 1000: 1024, 10_000_000: 262144} {
		if got := Shares(milli); got != want {
			t.Errorf("Shares(%d) = %d, want %d", milli, got, want)
		}
	}
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 512: 20, 1024: 39, 262144: 10000, 1 << 40: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestGrow(t *testing.T) {
	settings := func(shares uint64, quota, memory int64) Settings {
		return Settings{CPUShares: &shares, CPUQuota: &quota, CPUPeriod: 1, Memory: &memory}
	}
	tests := map[string]struct{ from, to, want Settings }{
		"each part by itself":          {settings(10, 100, 1000), settings(20, 50, 2000), settings(20, 100, 2000)},
		"a limit that goes":            {settings(10, 100, 1000), settings(10, -1, -1), settings(10, -1, -1)},
		"a limit that comes":           {settings(10, -1, -1), settings(10, 100, 1000), settings(10, -1, -1)},
		"nothing is known of what was": {Settings{}, settings(10, 100, 1000), settings(10, 100, 1000)},
		"large pages, size by size":    {Settings{HugePages: map[string]int64{"2MB": 4, "1GB": 1}}, Settings{HugePages: map[string]int64{"2MB": 2, "1GB": 3}}, Settings{HugePages: map[string]int64{"2MB": 4, "1GB": 3}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.from.Grow(tt.to)); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHugePages(t *testing.T) {
	dir := t.TempDir()
	for name, count := range map[string]string{"hugepages-2048kB": "3\n", "hugepages-1048576kB": "1\n", "other": ""} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "nr_hugepages"), []byte(count), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := HugePages(dir)
	if diff := cmp.Diff(map[int64]int64{2 << 20: 6 << 20, 1 << 30: 1 << 30}, got); diff != "" || err != nil {
		t.Errorf("%v, pages (-want +got):\n%s", err, diff)
	}
	if got, err := HugePages(filepath.Join(dir, "none")); got != nil || err != nil {
		t.Errorf("without large pages: %v, %v", got, err)
	}
	for size, want := range map[int64][2]string{64 << 10: {"hugepages-64Ki", "64KB"}, 2 << 20: {"hugepages-2Mi", "2MB"}, 1 << 30: {"hugepages-1Gi", "1GB"}} {
		if resource, name := HugePageResource(size), HugePageName(size); string(resource) != want[0] || name != want[1] {
			t.Errorf("%d: %s, %s", size, resource, name)
		}
	}
}
