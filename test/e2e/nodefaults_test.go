package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/env/leaks"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// hanging is a registry that sends half of a layer and then nothing, until it is freed.
type hanging struct {
	*imagebuild.Registry
	on atomic.Bool
	// waiting are the requests that hang.
	waiting atomic.Int32
	freed   chan struct{}
}

func newHanging(t *testing.T) *hanging {
	t.Helper()
	h := &hanging{freed: make(chan struct{})}
	registry, err := imagebuild.StartRegistry("127.0.0.1:0", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !h.on.Load() || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
				next.ServeHTTP(w, r)
				return
			}
			whole := &recorded{header: http.Header{}}
			next.ServeHTTP(whole, r)
			if whole.body.Len() < 64<<10 {
				whole.send(w, whole.body.Len())
				return
			}
			h.waiting.Add(1)
			defer h.waiting.Add(-1)
			whole.send(w, whole.body.Len()/2)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-h.freed:
				_, _ = w.Write(whole.body.Bytes()[whole.body.Len()/2:])
			}
		})
	})
	must(t, err)
	h.Registry = registry
	t.Cleanup(func() { _ = registry.Close() })
	return h
}

// recorded is an answer that was not sent yet.
type recorded struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorded) Header() http.Header         { return r.header }
func (r *recorded) WriteHeader(code int)        { r.code = code }
func (r *recorded) Write(p []byte) (int, error) { return r.body.Write(p) }

func (r *recorded) send(w http.ResponseWriter, n int) {
	for name, values := range r.header {
		w.Header()[name] = values
	}
	if r.code != 0 {
		w.WriteHeader(r.code)
	}
	_, _ = w.Write(r.body.Bytes()[:n])
}

func TestRegistryThatHangsInTheMiddleOfALayer(t *testing.T) {
	s := newSpace(t)
	registry := newHanging(t)
	spec, err := imagebuild.Busybox()
	must(t, err)
	spec.Files["/etc/this-test"] = imagebuild.File{Content: []byte(t.Name()), Mode: 0o644} // a layer that is not here yet
	image, err := imagebuild.Build(spec, runtime.GOARCH)
	must(t, err)
	ref, _, err := registry.Push(t.Context(), image, "slow:1")
	must(t, err)
	registry.on.Store(true)
	slow := func(name string) string {
		return strings.Replace(shellPod(name, "Never", "echo done"), cluster.Image(busyboxImage), ref, 1)
	}

	s.apply(slow("given-up"))
	s.eventually(eventual, "the registry hangs", func() error {
		if registry.waiting.Load() == 0 {
			return errors.New("nobody asks it for a layer")
		}
		return nil
	})
	t.Log("Other Pods do not wait")
	s.apply(shellPod("other", "Never", "exit 0"))
	s.phase("other", corev1.PodSucceeded)

	t.Log("A Pod that is deleted gives its pull up")
	s.run("delete", "kpo", "given-up", "--wait=false")
	s.gone("kpo", "given-up")
	s.eventually(soon, "nobody asks the registry any more", func() error {
		if n := registry.waiting.Load(); n != 0 {
			return fmt.Errorf("%d requests wait", n)
		}
		return nil
	})

	t.Log("A registry that comes to itself lets the Pod start")
	s.apply(slow("patient"))
	s.eventually(eventual, "the registry hangs", func() error {
		if registry.waiting.Load() == 0 {
			return errors.New("nobody asks it for a layer")
		}
		return nil
	})
	close(registry.freed)
	s.phase("patient", corev1.PodSucceeded)
}

func TestConfigMapThatIsDeletedWhileMounted(t *testing.T) {
	s := newSpace(t)
	s.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {word: first}\n")
	s.apply(volumePod("reads", "while :; do cat /c/word; echo; sleep 0.2; done", `[{name: c, mountPath: /c}]`, `[{name: c, configMap: {name: settings}}]`))
	before := identity(s.podWhen("reads", "reads the first word", func(pod *keelsonv1.Pod) error {
		if pod.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("phase %s", pod.Status.Phase)
		}
		return wantIn(logs(t, pod, pod.Spec.Containers[0].Name), "first")
	}))
	s.run("delete", "configmap", "settings")
	lines := func() int {
		pod := s.phase("reads", corev1.PodRunning)
		return strings.Count(logs(t, pod, pod.Spec.Containers[0].Name), "first")
	}
	read := lines()
	kill(t, "keelson-node", syscall.SIGKILL)
	s.apply(shellPod("marker", "Never", "exit 0"))
	s.phase("marker", corev1.PodSucceeded) // by the next agent
	s.eventually(soon, "it goes on reading what it has", func() error {
		if now := lines(); now < read+5 {
			return fmt.Errorf("%d times, %d before", now, read)
		}
		return nil
	})
	if now := identity(s.phase("reads", corev1.PodRunning)); now != before {
		t.Errorf("was %s, is %s", before, now)
	}
	s.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {word: second}\n")
	s.podWhen("reads", "reads the second word", func(pod *keelsonv1.Pod) error {
		return wantIn(logs(t, pod, pod.Spec.Containers[0].Name), "second")
	})
}

func TestContainerdRestartsUnderManyPods(t *testing.T) {
	const many = 30
	s := newSpace(t)
	s.apply(controller("many", many))
	s.ready("many", many)
	before := map[string]string{}
	names := s.pods("app=many")
	for _, name := range names {
		before[name] = identity(s.phase(name, corev1.PodRunning))
	}
	for range 3 {
		old := processesOf(t, "containerd")
		kill(t, "containerd", syscall.SIGKILL)
		s.eventually(eventual, "containerd runs again", func() error {
			if now := processesOf(t, "containerd"); len(now) == 0 || slices.Equal(now, old) {
				return fmt.Errorf("processes %v", now)
			}
			return nil
		})
	}
	s.apply(shellPod("after", "Never", "exit 0"))
	s.phase("after", corev1.PodSucceeded)
	for _, name := range names {
		if now := identity(s.phase(name, corev1.PodRunning)); now != before[name] {
			t.Errorf("%s was %s, is %s", name, before[name], now)
		}
	}
	s.run("delete", "krc", "many")
	s.eventually(eventual, "all Pods leave", func() error {
		if left := s.pods("app=many"); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
}

// cgroupProcesses are those in the cgroups of Pods.
func cgroupProcesses(t *testing.T) []int {
	t.Helper()
	var pids []int
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) || err == nil && (entry.IsDir() || entry.Name() != "cgroup.procs" || !strings.Contains(path, "/keelson/")) {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
			return err
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	must(t, err)
	return pids
}

// After a power cut nothing runs, and everything that should does again.
func TestPodsAfterAReboot(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("always", "Always", "sleep 3600"))
	s.apply(shellPod("never", "Never", "sleep 3600"))
	s.apply(shellPod("done", "Never", "exit 0"))
	s.apply(shellPod("twice", "Always", "[ -e /dev/shm/x ] && exec sleep 3600; touch /dev/shm/x; exit 1"))
	always := s.phase("always", corev1.PodRunning)
	s.phase("never", corev1.PodRunning)
	done := s.phase("done", corev1.PodSucceeded)
	twice := s.podWhen("twice", "runs for the second time", func(pod *keelsonv1.Pod) error {
		if pod.Status.Phase != corev1.PodRunning || pod.Status.ContainerStatuses[0].RestartCount != 1 || pod.Status.ContainerStatuses[0].State.Running == nil {
			return fmt.Errorf("%s", identity(pod))
		}
		return nil
	})
	withoutSupervisor(t, func() {
		kill(t, "keelson-node", syscall.SIGKILL)
		kill(t, "containerd", syscall.SIGKILL)
		for _, pid := range append(processesOf(t, "containerd-shim-runc-v2"), cgroupProcesses(t)...) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
		}
		eventually(t, soon, "nothing of any Pod runs", func() error {
			if pids := cgroupProcesses(t); len(pids) > 0 {
				return fmt.Errorf("processes %v", pids)
			}
			return nil
		})
	})
	for name, restarts := range map[string]int32{
		always.Name: always.Status.ContainerStatuses[0].RestartCount + 1,
		twice.Name:  twice.Status.ContainerStatuses[0].RestartCount + 1,
	} {
		s.podWhen(name, "runs again", func(pod *keelsonv1.Pod) error {
			// The second's memory is gone with its sandbox, so it may have ended once more.
			c := pod.Status.ContainerStatuses[0]
			if c.State.Running == nil || c.RestartCount < restarts || c.RestartCount > restarts+1 {
				return fmt.Errorf("%d restarts, want %d: %+v", c.RestartCount, restarts, c.State)
			}
			if last := c.LastTerminationState.Terminated; last == nil {
				return fmt.Errorf("how it ended is not said")
			}
			return nil
		})
	}
	if state := s.phase("never", corev1.PodFailed).Status.ContainerStatuses[0].State.Terminated; state == nil || state.ExitCode == 0 {
		t.Errorf("the Pod that must not start again ended as %+v", state)
	}
	if now := s.phase("done", corev1.PodSucceeded); identity(now) != identity(done) {
		t.Errorf("what had ended was %s, is %s", identity(done), identity(now))
	}
}

// cyclesKnob names how many Pods TestPodsThatComeAndGo makes.
const cyclesKnob = "KEELSON_E2E_CYCLES"

// TestPodsThatComeAndGo leaves nothing on the machine, and nothing in the agent.
func TestPodsThatComeAndGo(t *testing.T) {
	const batch = 20
	cycles := 60
	if text := os.Getenv(cyclesKnob); text != "" {
		var err error
		if cycles, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", cyclesKnob, err)
		}
	}
	s := newSpace(t)
	round := func(count int) {
		t.Helper()
		var manifest strings.Builder
		for i := range count {
			manifest.WriteString("---\n" + shellPod(fmt.Sprintf("p%d", i), "Always", "exec sleep 3600"))
		}
		s.apply(manifest.String())
		s.eventually(eventual, "all Pods run", func() error {
			phases := s.run("get", "kpo", "-o", `jsonpath={range .items[*]}{.status.phase}{"\n"}{end}`)
			if got := strings.Count(phases, "Running"); got != count {
				return fmt.Errorf("%d of %d", got, count)
			}
			return nil
		})
		s.run("delete", "kpo", "--all", "--wait=false")
		s.eventually(eventual, "all Pods are gone", func() error {
			if left := s.run("get", "kpo", "-o", "name"); left != "" {
				return fmt.Errorf("%s", left)
			}
			return nil
		})
	}
	round(batch) // what is made once and stays
	before, err := leaks.Take()
	must(t, err)
	leases, goroutines := leaseFiles(t), agentGoroutines(t)
	start := time.Now()
	for left := cycles; left > 0; left -= batch {
		round(min(batch, left))
	}
	t.Logf("%d Pods came and went in %.1f s", cycles, time.Since(start).Seconds())
	s.eventually(soon, "nothing is left", func() error {
		after, err := leaks.Take()
		if err != nil {
			return err
		}
		err = before.Compare(after)
		if now := leaseFiles(t); now != leases {
			err = errors.Join(err, fmt.Errorf("%d files of leases, %d before", now, leases))
		}
		// A few come and go with what the agent does at the moment.
		if now := agentGoroutines(t); now > goroutines+15 {
			err = errors.Join(err, fmt.Errorf("the agent has %d goroutines, %d before", now, goroutines))
		}
		return err
	})
}

// leaseFiles counts what the agent keeps of addresses.
func leaseFiles(t *testing.T) int {
	t.Helper()
	count := 0
	must(t, filepath.WalkDir(filepath.Join(cluster.DataDir, "node", "network"), func(_ string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			count++
		}
		return err
	}))
	return count
}

// agentGoroutines is what the agent says of itself.
func agentGoroutines(t *testing.T) int {
	t.Helper()
	_, args := commandOf(t, "keelson-node")
	for _, arg := range args {
		address, ok := strings.CutPrefix(arg, "--health-address=")
		if !ok {
			continue
		}
		for line := range strings.Lines(fetch(t, "http://"+address+"/metrics")) {
			if text, ok := strings.CutPrefix(line, "go_goroutines "); ok {
				count, err := strconv.Atoi(strings.TrimSpace(text))
				must(t, err)
				return count
			}
		}
	}
	t.Fatal("the agent does not say how many goroutines it has")
	return 0
}
