package probes

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// fixed is a clock that stands.
type fixed struct {
	clock.RealClock
	now time.Time
}

func (f fixed) Now() time.Time { return f.now }

// bench is a Manager in fake time whose commands answer as the test says.
type bench struct {
	*Manager
	mu      sync.Mutex
	code    map[string]int
	asked   []string
	changes int
}

func onBench(t *testing.T, story func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &bench{code: map[string]int{}}
		b.Manager = New(ctx, Options{Executor: b, Clock: clock.RealClock{},
			Record:  func(*keelsonv1.Pod, string, string, string, string) {},
			Changed: func(types.UID) { b.mu.Lock(); b.changes++; b.mu.Unlock() }})
		story(b)
		cancel()
		b.Wait()
	})
}

func (b *bench) Exec(_ context.Context, _ string, command []string, _ runtime.Streams) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, command[0])
	if code := b.code[command[0]]; code != 0 {
		return &runtime.ExitError{Code: code}
	}
	return nil
}

func (b *bench) answer(command string, code int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.code[command] = code
}

func (b *bench) count(command string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked) - len(slices.DeleteFunc(slices.Clone(b.asked), func(a string) bool { return a == command }))
}

func (b *bench) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func command(name string, change func(*corev1.Probe)) *corev1.Probe {
	p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{name}}},
		TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3}
	if change != nil {
		change(p)
	}
	return p
}

func probed(id string) Target {
	return Target{ID: id, StartedAt: time.Now(), Container: &corev1.Container{Name: "c",
		LivenessProbe: command("alive", nil), ReadinessProbe: command("ready", nil)}}
}

func pod(uid string) *keelsonv1.Pod {
	p := &keelsonv1.Pod{}
	p.UID = types.UID(uid)
	return p
}

func TestThresholdsAndDelays(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*corev1.Probe)
		// answers are codes, one each second; want is whether the container is ready after.
		answers []int
		want    []bool
	}{
		"the defaults":           {nil, []int{0, 1, 1, 1, 0}, []bool{true, true, true, false, true}},
		"success must last":      {func(p *corev1.Probe) { p.SuccessThreshold = 3 }, []int{0, 0, 1, 0, 0, 0}, []bool{false, false, false, false, false, true}},
		"one failure is enough":  {func(p *corev1.Probe) { p.FailureThreshold = 1 }, []int{0, 1, 0}, []bool{true, false, true}},
		"nothing in the delay":   {func(p *corev1.Probe) { p.InitialDelaySeconds = 2 }, []int{0, 0, 0}, []bool{false, false, true}},
		"failures are in a row":  {func(p *corev1.Probe) { p.FailureThreshold = 2 }, []int{0, 1, 0, 1, 0}, []bool{true, true, true, true, true}},
		"every period, no more":  {func(p *corev1.Probe) { p.PeriodSeconds, p.FailureThreshold = 2, 1 }, []int{0, 1, 0, 1}, []bool{true, true, true, true}},
		"unready from the start": {nil, []int{1, 1}, []bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				target := probed("1")
				target.Container.LivenessProbe = nil
				target.Container.ReadinessProbe.PeriodSeconds = 1
				if tt.change != nil {
					tt.change(target.Container.ReadinessProbe)
				}
				b.answer("ready", tt.answers[0])
				b.Sync(pod("p"), []Target{target})
				var got []bool
				for i := range tt.answers {
					b.answer("ready", tt.answers[i])
					if i == 0 {
						synctest.Wait()
					} else {
						b.after(time.Second)
					}
					got = append(got, b.Health("1").Ready)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("ready %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestProbesEndWithTheContainer(t *testing.T) {
	onBench(t, func(b *bench) {
		b.Sync(pod("p"), []Target{probed("1"), probed("2")})
		b.Sync(pod("q"), []Target{probed("3")})
		b.after(time.Second)
		if b.count("alive") != 3 || b.count("ready") != 3 {
			t.Fatalf("asked %v", b.asked)
		}
		b.Sync(pod("p"), []Target{probed("2")})
		b.after(10 * time.Second)
		if b.count("alive") != 5 {
			t.Errorf("after one ended: asked %v", b.asked)
		}
		b.Forget("p")
		b.Terminating("q")
		b.after(10 * time.Second)
		if b.count("alive") != 5 || b.count("ready") != 6 {
			t.Errorf("after the Pods: asked %v", b.asked)
		}
		if h := b.Health("2"); h != (Health{Started: true, Ready: true}) {
			t.Errorf("of a container that is not probed: %+v", h)
		}
	})
}

func TestALivenessFailureIsSaidOnce(t *testing.T) {
	onBench(t, func(b *bench) {
		b.answer("alive", 1)
		b.Sync(pod("p"), []Target{probed("1")})
		b.after(time.Hour)
		if h := b.Health("1"); h.Failed != Liveness || b.count("alive") != 3 || b.changes != 2 {
			t.Errorf("%+v, asked %d times, %d changes", h, b.count("alive"), b.changes)
		}
		b.Sync(pod("p"), []Target{probed("2")})
		if h := b.Health("2"); h.Failed != "" {
			t.Errorf("the next attempt: %+v", h)
		}
	})
}

func TestStartupGate(t *testing.T) {
	onBench(t, func(b *bench) {
		target := probed("1")
		target.Container.StartupProbe = command("up", func(p *corev1.Probe) { p.PeriodSeconds, p.FailureThreshold = 1, 5 })
		b.answer("up", 1)
		b.Sync(pod("p"), []Target{target})
		b.after(3 * time.Second)
		if h := b.Health("1"); h.Started || h.Ready || b.count("alive")+b.count("ready") != 0 {
			t.Errorf("before: %+v, asked %v", h, b.asked)
		}
		b.answer("up", 0)
		b.after(time.Second)
		if h := b.Health("1"); !h.Started || !h.Ready || b.count("alive") != 1 || b.count("ready") != 1 {
			t.Errorf("after: %+v, asked %v", h, b.asked)
		}

		b.answer("up", 1)
		target.ID = "2"
		b.Sync(pod("p"), []Target{target})
		b.after(time.Minute)
		if h := b.Health("2"); h.Failed != Startup || h.Started {
			t.Errorf("after it failed: %+v", h)
		}
	})
}

func TestAdoptedContainersKeepTheirState(t *testing.T) {
	onBench(t, func(b *bench) {
		target := probed("1")
		target.Container.StartupProbe = command("up", nil)
		target.WasStarted, target.WasReady = true, true
		b.answer("ready", 1)
		b.Sync(pod("p"), []Target{target})
		if h := b.Health("1"); h != (Health{Started: true, Ready: true}) {
			t.Errorf("at once: %+v", h)
		}
		b.after(40 * time.Second)
		if h := b.Health("1"); h.Ready || !h.Started || b.count("up") != 0 {
			t.Errorf("after failures: %+v", h)
		}
	})
}
