package stats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const meminfo = `MemTotal:        8000 kB
MemFree:         3000 kB
Cached:          1500 kB
AnonPages:       1000 kB
Inactive(file):   500 kB
`

const netdev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:      10       1    0    0    0     0          0         0       10       1    0    0    0     0       0          0
  eth0:    1000       9    1    0    0     0          0         0     2000       8    2    0    0     0       0          0
`

// machine is a Sampler on files of the test's making.
type machine struct {
	*Sampler
	t       *testing.T
	clock   *testingclock.FakeClock
	runtime *fakeLister
	v2      bool
}

type fakeLister struct {
	pods []runtime.PodState
	err  error
}

func (f *fakeLister) List(context.Context) ([]runtime.PodState, error) { return f.pods, f.err }

func newMachine(t *testing.T, v2 bool) *machine {
	t.Helper()
	m := &machine{t: t, clock: testingclock.NewFakeClock(time.Unix(1000, 0)), runtime: &fakeLister{}, v2: v2}
	mount, proc := t.TempDir(), t.TempDir()
	m.file(mount, "cgroup.controllers", "cpu memory")
	if !v2 {
		if err := os.Remove(filepath.Join(mount, "cgroup.controllers")); err != nil {
			t.Fatal(err)
		}
	}
	m.file(proc, "meminfo", meminfo)
	m.file(proc, "self/net/dev", netdev)
	m.file(proc, "77/net/dev", netdev)
	m.Sampler = New(Options{NodeName: "n1", Runtime: m.runtime, CgroupMount: mount, ProcMount: proc, RootDir: t.TempDir(), Clock: m.clock})
	m.setCPU(rootCgroup, 0)
	return m
}

func (m *machine) file(dir, name, text string) {
	m.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// setCPU sets the processor time that a cgroup has used.
func (m *machine) setCPU(cgroup string, used time.Duration) {
	m.t.Helper()
	if m.v2 {
		m.file(m.CgroupMount, cgroup+"/cpu.stat", fmt.Sprintf("usage_usec %d\nnr_periods 10\nnr_throttled 4\nthrottled_usec 2000\n", used.Microseconds()))
		return
	}
	m.file(m.CgroupMount, "cpuacct"+cgroup+"/cpuacct.usage", fmt.Sprintln(used.Nanoseconds()))
	m.file(m.CgroupMount, "cpu"+cgroup+"/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 2000000\n")
}

// setMemory gives a cgroup usage bytes, of which 300 are inactive files.
func (m *machine) setMemory(cgroup string, usage int, limit string) {
	m.t.Helper()
	if m.v2 {
		m.file(m.CgroupMount, cgroup+"/memory.current", fmt.Sprintln(usage))
		m.file(m.CgroupMount, cgroup+"/memory.stat", "anon 400\nfile 500\ninactive_file 300\npgfault 7\npgmajfault 2\n")
		m.file(m.CgroupMount, cgroup+"/memory.max", limit)
		m.file(m.CgroupMount, cgroup+"/pids.current", "5\n")
		return
	}
	m.file(m.CgroupMount, "memory"+cgroup+"/memory.usage_in_bytes", fmt.Sprintln(usage))
	m.file(m.CgroupMount, "memory"+cgroup+"/memory.stat",
		"cache 1\nrss 1\ninactive_file 1\ntotal_cache 500\ntotal_rss 400\ntotal_inactive_file 300\ntotal_pgfault 7\ntotal_pgmajfault 2\n")
	m.file(m.CgroupMount, "memory"+cgroup+"/memory.limit_in_bytes", limit)
	m.file(m.CgroupMount, "pids"+cgroup+"/pids.current", "5\n")
}

const (
	podCgroup  = "/keelson/poduid-1"
	mainCgroup = podCgroup + "/id-main"
)

// runPod lets a Pod run since now, with a container that runs and one that has ended.
func (m *machine) runPod() {
	m.t.Helper()
	noMemoryLimit := "max\n"
	if !m.v2 {
		noMemoryLimit = "9223372036854771712\n"
	}
	logPath := filepath.Join(m.t.TempDir(), "0.log")
	m.file(filepath.Dir(logPath), "0.log", "12345")
	m.runtime.pods = []runtime.PodState{{
		PodIdentity: runtime.PodIdentity{UID: "uid-1", Namespace: "default", Name: "web"},
		Sandboxes:   []runtime.Sandbox{{ID: "box", State: runtime.Running, CreatedAt: m.clock.Now(), PID: 77, CgroupParent: podCgroup}},
		Containers: []runtime.Container{
			{ID: "id-main", Name: "main", Image: "main:1", State: runtime.Running, StartedAt: m.clock.Now(), LogPath: logPath, CgroupPath: mainCgroup},
			{ID: "id-old", Name: "old", State: runtime.Exited},
		},
	}}
	m.setCPU(podCgroup, 0)
	m.setCPU(mainCgroup, 0)
	m.setMemory(podCgroup, 1500, noMemoryLimit)
	m.setMemory(mainCgroup, 1000, "2000\n")
}

func (m *machine) summary(only bool) *statsv1alpha1.Summary {
	m.t.Helper()
	summary, err := m.Summary(m.t.Context(), only)
	if err != nil {
		m.t.Fatal(err)
	}
	return summary
}

func (m *machine) look() {
	m.t.Helper()
	if err := m.sample(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

func onBoth(t *testing.T, test func(*testing.T, *machine)) {
	for name, v2 := range map[string]bool{"cgroup v1": false, "cgroup v2": true} {
		t.Run(name, func(t *testing.T) { test(t, newMachine(t, v2)) })
	}
}

func TestSummary(t *testing.T) {
	onBoth(t, func(t *testing.T, m *machine) {
		m.runPod()
		m.look()
		m.clock.Step(10 * time.Second)
		m.setCPU(rootCgroup, 8*time.Second)
		m.setCPU(podCgroup, 3*time.Second)
		m.setCPU(mainCgroup, 2500*time.Millisecond)

		s := m.summary(false)
		if len(s.Pods) != 1 || len(s.Pods[0].Containers) != 1 {
			t.Fatalf("summary has %+v", s.Pods)
		}
		pod, c := s.Pods[0], s.Pods[0].Containers[0]
		got := map[string]uint64{
			"node CPU": *s.Node.CPU.UsageNanoCores, "node memory": *s.Node.Memory.WorkingSetBytes, "node available": *s.Node.Memory.AvailableBytes,
			"pod CPU": *pod.CPU.UsageNanoCores, "pod memory": *pod.Memory.WorkingSetBytes, "pod processes": *pod.ProcessStats.ProcessCount,
			"received": *pod.Network.RxBytes, "sent": *pod.Network.TxBytes, "send errors": *pod.Network.TxErrors,
			"CPU": *c.CPU.UsageNanoCores, "CPU time": *c.CPU.UsageCoreNanoSeconds, "usage": *c.Memory.UsageBytes,
			"working set": *c.Memory.WorkingSetBytes, "rss": *c.Memory.RSSBytes, "available": *c.Memory.AvailableBytes,
			"faults": *c.Memory.PageFaults, "major faults": *c.Memory.MajorPageFaults, "log": *c.Logs.UsedBytes,
		}
		want := map[string]uint64{
			"node CPU": 8e8, "node memory": 4500 << 10, "node available": 3500 << 10,
			"pod CPU": 3e8, "pod memory": 1200, "pod processes": 5, "received": 1000, "sent": 2000, "send errors": 2,
			"CPU": 2.5e8, "CPU time": 2.5e9, "usage": 1000, "working set": 700, "rss": 400, "available": 1300,
			"faults": 7, "major faults": 2, "log": 5,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("summary (-want +got):\n%s", diff)
		}
		if pod.Memory.AvailableBytes != nil {
			t.Error("memory without a limit says how much is available")
		}
		if s.Node.Fs == nil || *s.Node.Fs.CapacityBytes == 0 {
			t.Errorf("the node's file system is %+v", s.Node.Fs)
		}
	})
}

func TestSummaryOfCPUAndMemoryHasNothingElse(t *testing.T) {
	m := newMachine(t, true)
	m.runPod()
	s := m.summary(true)
	if s.Node.Fs != nil || s.Node.Network != nil || s.Pods[0].Network != nil || s.Pods[0].ProcessStats != nil || s.Pods[0].Containers[0].Logs != nil {
		t.Errorf("summary has more: %+v", s)
	}
}

func TestRates(t *testing.T) {
	second := func(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
	type step struct {
		after, used time.Duration
		look        bool
	}
	tests := map[string]struct {
		// steps follow the start of the container; the last one asks.
		steps []step
		want  uint64 // nanocores
		none  bool
	}{
		"over the time since the last look":             {steps: []step{{look: true}, {after: second(8), used: second(4)}}, want: 5e8},
		"a look just now is not enough: the one before": {steps: []step{{look: true}, {after: second(10), used: second(1), look: true}, {after: second(1), used: second(2.1)}}, want: 190909090},
		"nothing is known without a look":               {steps: []step{{after: second(20), used: second(4)}}, none: true},
		"too little time":                               {steps: []step{{look: true}, {after: second(2), used: second(1)}}, none: true},
		"a counter that went back":                      {steps: []step{{used: second(9), look: true}, {after: second(8), used: second(1)}}, none: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, true)
			m.runPod()
			for _, s := range test.steps {
				m.clock.Step(s.after)
				m.setCPU(mainCgroup, s.used)
				if s.look {
					m.look()
				}
			}
			got := m.summary(true).Pods[0].Containers[0].CPU.UsageNanoCores
			switch {
			case test.none && got != nil:
				t.Errorf("rate is %d, want none", *got)
			case !test.none && (got == nil || *got != test.want):
				t.Errorf("rate is %v, want %d", got, test.want)
			}
		})
	}
}

func TestRateOfAContainerThatIsNewerThanTheLook(t *testing.T) {
	m := newMachine(t, true)
	m.look()
	m.clock.Step(2 * time.Second)
	m.runPod()
	m.clock.Step(6 * time.Second)
	m.setCPU(mainCgroup, 3*time.Second)
	if got := m.summary(true).Pods[0].Containers[0].CPU.UsageNanoCores; got == nil || *got != 5e8 {
		t.Errorf("rate is %v", got)
	}
}

func TestWhatHasGoneIsLeftOut(t *testing.T) {
	onBoth(t, func(t *testing.T, m *machine) {
		m.runPod()
		controller := "cpuacct"
		if m.v2 {
			controller = ""
		}
		if err := os.RemoveAll(filepath.Join(m.CgroupMount, controller, mainCgroup)); err != nil {
			t.Fatal(err)
		}
		if s := m.summary(false); len(s.Pods) != 1 || len(s.Pods[0].Containers) != 0 {
			t.Errorf("summary has %+v", s.Pods)
		}
		if err := os.RemoveAll(filepath.Join(m.CgroupMount, controller, podCgroup)); err != nil {
			t.Fatal(err)
		}
		if s := m.summary(false); len(s.Pods) != 0 {
			t.Errorf("summary has %+v", s.Pods)
		}
		m.look()
		m.runtime.pods[0].Sandboxes[0].State = runtime.Exited
		if s := m.summary(false); len(s.Pods) != 0 {
			t.Errorf("summary has %+v", s.Pods)
		}
	})
}

func TestARuntimeThatDoesNotAnswer(t *testing.T) {
	m := newMachine(t, true)
	m.runtime.err = errors.New("containerd is away")
	if _, err := m.Summary(t.Context(), true); !errors.Is(err, m.runtime.err) {
		t.Errorf("summary fails with %v", err)
	}
	if text := gather(t, m.Resource(t.Context())); !strings.Contains(text, "resource_scrape_error 1") {
		t.Errorf("metrics are %s", text)
	}
}

func TestRunLooksAgainAndAgain(t *testing.T) {
	m := newMachine(t, true)
	m.runPod()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	for range 3 {
		deadline := time.After(30 * time.Second)
		for {
			m.mu.Lock()
			looked := m.newer.at.Equal(m.clock.Now())
			m.mu.Unlock()
			if looked && m.clock.HasWaiters() {
				break
			}
			select {
			case <-deadline:
				t.Fatal("no look")
			case <-time.After(time.Millisecond):
			}
		}
		m.clock.Step(sampleInterval)
	}
	cancel()
	<-done
}

func TestMetrics(t *testing.T) {
	onBoth(t, func(t *testing.T, m *machine) {
		m.runPod()
		m.setCPU(mainCgroup, 2500*time.Millisecond)
		for what, test := range map[string]struct {
			gatherer prometheus.Gatherer
			want     []string
		}{
			"/metrics/resource": {m.Resource(t.Context()), []string{
				"resource_scrape_error 0",
				"container_cpu_usage_seconds_total{container=main,namespace=default,pod=web} 2.5 @1000000",
				"container_memory_working_set_bytes{container=main,namespace=default,pod=web} 700 @1000000",
				"container_start_time_seconds{container=main,namespace=default,pod=web} 1000",
				"pod_memory_working_set_bytes{namespace=default,pod=web} 1200 @1000000",
				"node_memory_working_set_bytes{} 4.608e+06 @1000000",
			}},
			"/metrics/cadvisor": {m.Container(t.Context()), []string{
				"container_scrape_error 0",
				"container_cpu_usage_seconds_total{container=main,cpu=total,id=/keelson/poduid-1/id-main,image=main:1,name=id-main,namespace=default,pod=web} 2.5",
				"container_memory_working_set_bytes{container=main,id=/keelson/poduid-1/id-main,image=main:1,name=id-main,namespace=default,pod=web} 700",
				"container_spec_memory_limit_bytes{container=main,id=/keelson/poduid-1/id-main,image=main:1,name=id-main,namespace=default,pod=web} 2000",
				"container_cpu_cfs_throttled_seconds_total{container=main,id=/keelson/poduid-1/id-main,image=main:1,name=id-main,namespace=default,pod=web} 0.002",
				"container_network_transmit_bytes_total{container=,id=/keelson/poduid-1,image=,interface=eth0,name=,namespace=default,pod=web} 2000",
			}},
		} {
			text := gather(t, test.gatherer)
			for _, want := range test.want {
				if !strings.Contains(text, want+"\n") {
					t.Errorf("%s lacks %s:\n%s", what, want, text)
				}
			}
		}
	})
}

// gather prints metrics, one a line.
func gather(t *testing.T, from prometheus.Gatherer) string {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := family.GetName()
			if !strings.HasSuffix(name, "_error") {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			fmt.Fprintf(&out, "%s %v", name, m.GetCounter().GetValue()+m.GetGauge().GetValue())
			if m.TimestampMs != nil {
				fmt.Fprintf(&out, " @%d", m.GetTimestampMs())
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

func TestFilesThatMakeNoSense(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, []byte("many"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readNumber(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a number is %v", err)
	}
	if err := os.WriteFile(path, []byte("key many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKeys(path, "key"); err == nil || !strings.Contains(err.Error(), "key of "+path) {
		t.Errorf("a key is %v", err)
	}
	if _, err := parseInterfaces("eth0: 1 2 x 4 5 6 7 8 9 10 11 12 13 14 15 16\n", path); err == nil {
		t.Error("a counter that is no number was read")
	}
}
