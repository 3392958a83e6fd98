package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
)

func TestPodRuns(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a", "b"))

		s := m.statusOf(pod)
		if s.Phase != corev1.PodRunning || s.PodIP != "10.244.0.2" || s.HostIP != "192.0.2.1" {
			t.Errorf("got phase %s, podIP %s, hostIP %s", s.Phase, s.PodIP, s.HostIP)
		}
		for _, name := range []string{"a", "b"} {
			if c := m.container(pod, name); c.State.Running == nil || !c.Ready || c.RestartCount != 0 {
				t.Errorf("container %s: %+v", name, c)
			}
		}
		config := m.runtime.Config(pod.UID, "a")
		hosts, err := os.ReadFile(config.Mounts[0].HostPath)
		if err != nil || !strings.Contains(string(hosts), "10.244.0.2\tweb\n") {
			t.Errorf("/etc/hosts is %q, %v", hosts, err)
		}
		if want := filepath.Join(m.manager.PodLogDir, "default_web_uid-web", "a", "0.log"); config.LogPath != want {
			t.Errorf("log goes to %s, want %s", config.LogPath, want)
		}
	})
}

// TestEveryFailureIsOvercome lets each call to the outside fail once while a Pod
// starts, and once while it leaves: both still happen, and nothing stays behind.
func TestEveryFailureIsOvercome(t *testing.T) {
	boom := errors.New("boom")
	failures := map[string]func(m *machine){
		"attach or detach":    func(m *machine) { m.network.fail(boom) },
		"cgroup":              func(m *machine) { m.cgroups.fail(boom) },
		"status or finalizer": func(m *machine) { m.status.fail(boom) },
		"finalizer": func(m *machine) {
			m.status.fail(nil)
			m.status.fail(boom)
		},
	}
	for _, call := range []fake.Call{
		fake.CallPod, fake.CallPull, fake.CallRunSandbox, fake.CallCreateContainer, fake.CallStartContainer,
		fake.CallStopContainer, fake.CallStopSandbox, fake.CallRemoveSandbox, fake.CallRemoveContainer, fake.CallImage,
	} {
		failures["runtime "+string(call)] = func(m *machine) { m.runtime.FailNext(call, boom) }
	}
	for name, fail := range failures {
		t.Run("starting: "+name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				fail(m)
				pod := m.run(makePod("web", "a", "b"))
				m.after(time.Minute)

				if s := m.statusOf(pod); s.Phase != corev1.PodRunning {
					t.Errorf("phase is %s: %+v", s.Phase, s.ContainerStatuses)
				}
				if c := m.container(pod, "a"); c.RestartCount != 0 {
					t.Errorf("container a was restarted %d times", c.RestartCount)
				}
			})
		})
		t.Run("leaving: "+name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := m.run(makePod("web", "a", "b"))
				fail(m)
				m.run(deleted(pod))
				m.after(time.Minute)
				m.expectNothing(pod)
			})
		})
		t.Run("leaving, agent restarted: "+name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := m.run(makePod("web", "a", "b"))
				fail(m)
				m.pool.Update(deleted(pod))
				m.restart()
				m.run(deleted(pod))
				m.after(time.Minute)
				m.expectNothing(pod)
			})
		})
	}
}

// expectNothing checks that a Pod has left every part of the machine, and that its
// finalizer went.
func (m *machine) expectNothing(pod *keelsonv1.Pod) {
	m.t.Helper()
	state, err := m.runtime.Pod(m.t.Context(), pod.UID)
	if err != nil || len(state.Sandboxes)+len(state.Containers) > 0 {
		m.t.Errorf("the runtime still holds %+v, %v", state, err)
	}
	if len(m.network.attached) > 0 || len(m.cgroups.settings) > 0 {
		m.t.Errorf("left: addresses %v, cgroups %v", m.network.attached, m.cgroups.settings)
	}
	if !m.status.hasReleased(pod.UID) || m.pool.Has(pod.UID) {
		m.t.Errorf("finalizer removed: %v, worker left: %v", m.status.hasReleased(pod.UID), m.pool.Has(pod.UID))
	}
	for _, dir := range []string{m.manager.podDir(identity(pod)), m.manager.logDir(identity(pod))} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			m.t.Errorf("%s is still there (%v)", dir, err)
		}
	}
	links, _ := os.ReadDir(m.manager.ContainerLogDir)
	if len(links) > 0 {
		m.t.Errorf("links to logs are left: %v", links)
	}
}

func TestCrashLoop(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("crash", "a"))
		started := time.Now()

		m.exit(pod, "a", 1) // the first restart is immediate
		if c := m.container(pod, "a"); c.RestartCount != 1 || c.State.Running == nil || c.LastTerminationState.Terminated.ExitCode != 1 {
			t.Fatalf("after the first exit: %+v", c)
		}
		var pauses []time.Duration
		for range 7 {
			m.exit(pod, "a", 1)
			c := m.container(pod, "a")
			if c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" {
				t.Fatalf("not backing off: %+v", c.State)
			}
			before := time.Now()
			for m.container(pod, "a").State.Running == nil {
				m.after(time.Second)
			}
			pauses = append(pauses, time.Since(before))
		}
		want := []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second,
			5 * time.Minute, 5 * time.Minute}
		if diff := cmp.Diff(want, pauses); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		m.after(11 * time.Minute) // long enough to be trusted again
		m.exit(pod, "a", 1)
		if c := m.container(pod, "a"); c.State.Running == nil {
			t.Errorf("after %v: %+v", time.Since(started), c.State)
		}
	})
}

func TestCrashLoopSaysWhatUpstreamSays(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("crash", "a"))
		m.exit(pod, "a", 1)
		m.exit(pod, "a", 1)

		want := "back-off 10s restarting failed container=a pod=crash_default(uid-crash)"
		if c := m.container(pod, "a"); c.State.Waiting.Message != want || c.Ready {
			t.Errorf("got %+v", c)
		}
		if s := m.statusOf(pod); s.Phase != corev1.PodRunning {
			t.Errorf("phase is %s", s.Phase)
		}
		event := "Warning a BackOff: Back-off restarting failed container a in pod crash_default(uid-crash)"
		m.after(5 * time.Second)
		if n := m.events.count(event); n != 1 {
			t.Errorf("event %q was recorded %d times", event, n)
		}
	})
}

func TestRestartPolicies(t *testing.T) {
	tests := map[string]struct {
		policy    corev1.RestartPolicy
		code      int32
		want      corev1.PodPhase
		restarted bool
	}{
		"Always restarts success":    {corev1.RestartPolicyAlways, 0, corev1.PodRunning, true},
		"Always restarts failure":    {corev1.RestartPolicyAlways, 1, corev1.PodRunning, true},
		"OnFailure keeps success":    {corev1.RestartPolicyOnFailure, 0, corev1.PodSucceeded, false},
		"OnFailure restarts failure": {corev1.RestartPolicyOnFailure, 1, corev1.PodRunning, true},
		"Never keeps success":        {corev1.RestartPolicyNever, 0, corev1.PodSucceeded, false},
		"Never keeps failure":        {corev1.RestartPolicyNever, 1, corev1.PodFailed, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := m.run(withPolicy(makePod("p", "a"), tt.policy))
				m.exit(pod, "a", tt.code)

				c := m.container(pod, "a")
				if s := m.statusOf(pod); s.Phase != tt.want || (c.RestartCount == 1) != tt.restarted {
					t.Errorf("phase %s, restarts %d", s.Phase, c.RestartCount)
				}
			})
		})
	}
}

func TestFinishedPodKeepsItsContainersUntilDeleted(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withPolicy(makePod("job", "a"), corev1.RestartPolicyNever))
		m.exit(pod, "a", 0)

		state, _ := m.runtime.Pod(t.Context(), pod.UID)
		if len(state.Containers) != 1 || len(state.Sandboxes) != 0 || len(m.network.attached) != 0 {
			t.Errorf("holds %d containers, %d sandboxes, %d addresses", len(state.Containers), len(state.Sandboxes), len(m.network.attached))
		}
		if s := m.statusOf(pod); s.Phase != corev1.PodSucceeded || s.PodIP == "" {
			t.Errorf("phase %s, podIP %q", s.Phase, s.PodIP)
		}
		m.run(deleted(pod))
		m.expectNothing(pod)
	})
}

func TestSandboxDies(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a", "b"))
		m.runtime.KillSandbox(pod.UID)
		m.settle()

		s := m.statusOf(pod)
		if s.Phase != corev1.PodRunning || s.PodIP != "10.244.0.2" || m.container(pod, "b").RestartCount != 1 {
			t.Errorf("got %s, %s, %+v", s.Phase, s.PodIP, s.ContainerStatuses)
		}
		state, _ := m.runtime.Pod(t.Context(), pod.UID)
		if len(state.Sandboxes) != 1 || state.Sandboxes[0].Attempt != 1 {
			t.Errorf("sandboxes: %+v", state.Sandboxes)
		}
		if n := m.events.count("Normal  SandboxChanged: Pod sandbox changed, it will be killed and re-created."); n != 1 {
			t.Errorf("SandboxChanged was recorded %d times", n)
		}
	})
}

func TestRestartedAgentAdopts(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		m.exit(pod, "a", 1)
		before := len(m.runtime.Calls())
		pod.Status.PodStatus = m.statusOf(pod)
		id := m.container(pod, "a").ContainerID
		m.restart()
		m.run(pod)

		if c := m.container(pod, "a"); c.ContainerID != id || c.RestartCount != 1 || c.LastTerminationState.Terminated == nil {
			t.Errorf("got %+v", c)
		}
		if calls := m.runtime.Calls()[before:]; len(calls) > 0 {
			t.Errorf("adopting changed something: %v", calls)
		}
		if s := m.statusOf(pod); s.PodIP != "10.244.0.2" {
			t.Errorf("podIP %q", s.PodIP)
		}
	})
}

func TestContainerLostWhileAwayIsCounted(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		pod.Status.PodStatus = m.statusOf(pod)
		m.stop()
		fresh := fake.New(m.manager.Clock) // the machine was wiped
		m.runtime = fresh
		m.status.forgetLocal()
		m.boot(m.manager.RootDir)
		m.run(pod)

		c := m.container(pod, "a")
		if c.State.Running == nil || c.RestartCount != 1 {
			t.Errorf("got %+v", c)
		}
	})
}

func TestContainerLostWhileAwayRunsOnceOnly(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withPolicy(makePod("once", "done", "running"), corev1.RestartPolicyNever))
		m.exit(pod, "done", 0)
		pod.Status.PodStatus = m.statusOf(pod)
		m.stop()
		m.runtime = fake.New(m.manager.Clock) // the machine was wiped
		m.status.forgetLocal()
		m.boot(m.manager.RootDir)
		m.run(pod)

		if calls := m.runtime.Calls(); slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(c, string(fake.CallCreateContainer)) }) {
			t.Errorf("a container runs a second time: %v", calls)
		}
		s := m.statusOf(pod)
		if s.Phase != corev1.PodFailed {
			t.Errorf("phase is %s", s.Phase)
		}
		if c := m.container(pod, "done"); c.State.Terminated == nil || c.State.Terminated.ExitCode != 0 {
			t.Errorf("the one that had ended: %+v", c.State)
		}
		if c := m.container(pod, "running"); c.State.Terminated == nil || c.State.Terminated.Reason != "ContainerStatusUnknown" {
			t.Errorf("the one that ran: %+v", c.State)
		}
	})
}

func TestBackOffOfFormerImagesIsForgotten(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		m.exit(pod, "a", 1)
		former := backoffKey(pod, &pod.Spec.Containers[0])
		if m.manager.backoff.Get(former) == 0 {
			t.Fatal("the restart is not counted")
		}
		pod = pod.DeepCopy()
		pod.Spec.Containers[0].Image, pod.Generation = "image-b", 2
		m.run(pod)
		m.after(time.Hour)

		m.run(deleted(m.run(makePod("other", "a"))))
		if delay := m.manager.backoff.Get(former); delay != 0 {
			t.Errorf("still kept: %v", delay)
		}
	})
}

func TestNetworkIsRepaired(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		clear(m.network.attached) // somebody took it away

		m.pool.WakeAll()
		m.settle()
		if len(m.network.attached) > 0 {
			t.Error("each sync asks the network: that is more work than needed")
		}
		m.manager.RecheckNetworks()
		m.pool.WakeAll()
		m.settle()
		if got := m.network.attached[pod.UID]; got.String() != m.statusOf(pod).PodIP || m.container(pod, "a").RestartCount != 0 {
			t.Errorf("attached with %v; %+v", got, m.statusOf(pod))
		}
	})
}

// TestAddressDuringARecheck looks after the networks of all Pods between the moment in
// which one gets its address and the one in which that is published.
func TestAddressDuringARecheck(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.cgroups.meanwhile = func() { m.manager.RecheckNetworks() }
		pod := m.run(makePod("web", "a"))
		if s := m.statusOf(pod); s.Phase != corev1.PodRunning || s.PodIP == "" || len(s.PodIPs) != 1 {
			t.Errorf("published %s with the address %q", s.Phase, s.PodIP)
		}
	})
}

func TestImageTrouble(t *testing.T) {
	onMachine(t, func(m *machine) {
		for range 2 {
			m.runtime.FailNext(fake.CallPull, errors.New("registry says 404"))
		}
		pod := m.run(makePod("web", "a"))
		if w := m.container(pod, "a").State.Waiting; w == nil || w.Reason != "ErrImagePull" || w.Message != "registry says 404" {
			t.Errorf("first: %+v", w)
		}
		m.after(4 * time.Second)
		if w := m.container(pod, "a").State.Waiting; w == nil || w.Reason != "ImagePullBackOff" ||
			w.Message != `Back-off pulling image "image-a": ErrImagePull: registry says 404` {
			t.Errorf("then: %+v", w)
		}
		m.after(time.Minute)
		if c := m.container(pod, "a"); c.State.Running == nil || c.RestartCount != 0 {
			t.Errorf("in the end: %+v", c)
		}
	})
}

func TestOneBadImageDoesNotHoldUpTheOther(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("web", "a", "b")
		pod.Spec.Containers[0].ImagePullPolicy = corev1.PullNever
		m.run(pod)

		if w := m.container(pod, "a").State.Waiting; w == nil || w.Reason != "ErrImageNeverPull" {
			t.Errorf("a: %+v", w)
		}
		if m.container(pod, "b").State.Running == nil || m.statusOf(pod).Phase != corev1.PodPending {
			t.Errorf("b: %+v, phase %s", m.container(pod, "b").State, m.statusOf(pod).Phase)
		}
	})
}

func TestCommandNotFound(t *testing.T) {
	onMachine(t, func(m *machine) {
		for range 2 {
			m.runtime.FailNext(fake.CallStartContainer, &runtime.StartError{ExitCode: 128, Message: "no such file"})
		}
		pod := m.run(makePod("web", "a"))

		c := m.container(pod, "a")
		if c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || c.LastTerminationState.Terminated == nil {
			t.Fatalf("got %+v", c)
		}
		if last := c.LastTerminationState.Terminated; last.ExitCode != 128 || last.Reason != "StartError" || last.Message != "no such file" {
			t.Errorf("last state %+v", last)
		}
		if n := m.events.count("Warning a Failed: Error: no such file"); n != 2 {
			t.Errorf("the event was recorded %d times", n)
		}
	})
}

func TestChangedImageRestartsThatContainer(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a", "b"))
		changed := pod.DeepCopy()
		changed.Generation, changed.Spec.Containers[0].Image = 2, "image-a2"
		m.run(changed)

		if c := m.container(pod, "a"); c.Image != "image-a2" || c.RestartCount != 1 {
			t.Errorf("a: %+v", c)
		}
		if c := m.container(pod, "b"); c.RestartCount != 0 {
			t.Errorf("b: %+v", c)
		}
		if s := m.statusOf(pod); s.ObservedGeneration != 2 {
			t.Errorf("observedGeneration %d", s.ObservedGeneration)
		}
		if n := m.events.count("Normal a Killing: Container a definition changed, will be restarted"); n != 1 {
			t.Errorf("Killing was recorded %d times", n)
		}
	})
}

func TestRefusedPodFails(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("greedy", "a")
		m.manager.Reject(pod.UID, "OutOfcpu", "Pod was rejected: too much")
		m.run(pod)

		s := m.statusOf(pod)
		if s.Phase != corev1.PodFailed || s.Reason != "OutOfcpu" || s.Message != "Pod was rejected: too much" || s.ContainerStatuses != nil {
			t.Errorf("got %+v", s)
		}
		if calls := m.runtime.Calls(); len(calls) > 0 {
			t.Errorf("it ran: %v", calls)
		}
	})
}

func TestGrace(t *testing.T) {
	tests := map[string]struct {
		annotation string
		want       time.Duration
	}{
		"the spec's":             {"", 30 * time.Second},
		"shortened":              {"5", 5 * time.Second},
		"not lengthened":         {"300", 30 * time.Second},
		"none":                   {"0", 0},
		"negative is one second": {"-7", time.Second},
		"garbage counts as none": {"soon", 30 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				m.runtime.IgnoreTerm()
				pod := m.run(makePod("web", "a"))
				started := time.Now()
				gone := deleted(pod)
				if tt.annotation != "" {
					gone.Annotations = map[string]string{keelsonv1.DeletionGracePeriodAnnotation: tt.annotation}
				}
				m.run(gone)
				for m.pool.Has(pod.UID) {
					m.after(100 * time.Millisecond)
				}
				if took := time.Since(started); took.Round(time.Second) != tt.want {
					t.Errorf("took %v, want %v", took, tt.want)
				}
				if c := m.status.last(pod.UID).ContainerStatuses[0]; c.State.Terminated == nil || c.State.Terminated.ExitCode != 137 {
					t.Errorf("last status %+v", c.State)
				}
			})
		})
	}
}

func TestGraceShrinksWhileStopping(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.runtime.IgnoreTerm()
		pod := m.run(makePod("web", "a"))
		gone := deleted(pod)
		m.run(gone)
		m.after(2 * time.Second)
		hurry := gone.DeepCopy()
		hurry.Annotations = map[string]string{keelsonv1.DeletionGracePeriodAnnotation: "0"}
		m.run(hurry)

		m.expectNothing(pod)
	})
}

func TestDeletionCancelsAStart(t *testing.T) {
	onMachine(t, func(m *machine) {
		for range 3 {
			m.runtime.FailNext(fake.CallRunSandbox, errors.New("not yet"))
		}
		pod := m.run(makePod("web", "a"))
		m.run(deleted(pod))

		m.expectNothing(pod)
		if s := m.status.last(pod.UID); s.Phase != corev1.PodFailed {
			t.Errorf("phase %s", s.Phase)
		}
	})
}

func TestPodTornOutOfTheAPI(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		m.pool.Gone(pod.UID)
		m.settle()
		m.expectNothing(pod)
	})
}

func TestOrphanIsRemoved(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		m.restart()
		m.pool.Orphan(identity(pod))
		m.settle()

		state, _ := m.runtime.Pod(t.Context(), pod.UID)
		if len(state.Containers)+len(state.Sandboxes)+len(m.network.attached) > 0 || m.pool.Has(pod.UID) {
			t.Errorf("left: %+v, %v", state, m.network.attached)
		}
	})
}

func TestTerminationMessage(t *testing.T) {
	tests := map[string]struct {
		policy       corev1.TerminationMessagePolicy
		code         int32
		file, log    string
		want         string
		wantContains bool
	}{
		"the file":                     {corev1.TerminationMessageReadFile, 1, "last words", "", "last words", false},
		"the file of a success":        {corev1.TerminationMessageReadFile, 0, "all well", "", "all well", false},
		"not the log without policy":   {corev1.TerminationMessageReadFile, 1, "", "2026-01-01T00:00:00Z stderr F oops\n", "", false},
		"the log where policy says":    {corev1.TerminationMessageFallbackToLogsOnError, 1, "", "2026-01-01T00:00:00Z stderr F oops\n", "oops", true},
		"not the log of a success":     {corev1.TerminationMessageFallbackToLogsOnError, 0, "", "2026-01-01T00:00:00Z stdout F fine\n", "", false},
		"the file rather than the log": {corev1.TerminationMessageFallbackToLogsOnError, 1, "file", "2026-01-01T00:00:00Z stderr F oops\n", "file", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := withPolicy(makePod("job", "a"), corev1.RestartPolicyNever)
				pod.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
				pod.Spec.Containers[0].TerminationMessagePolicy = tt.policy
				m.run(pod)
				config := m.runtime.Config(pod.UID, "a")
				for path, text := range map[string]string{config.TerminationMessageHostPath: tt.file, config.LogPath: tt.log} {
					if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				m.exit(pod, "a", tt.code)
				got := m.container(pod, "a").State.Terminated.Message
				if got != tt.want && (!tt.wantContains || !strings.Contains(got, tt.want)) {
					t.Errorf("message %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestHostNetworkPod(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("net", "a")
		pod.Spec.HostNetwork = true
		m.run(pod)

		if s := m.statusOf(pod); s.PodIP != "192.0.2.1" || len(m.network.attached) != 0 {
			t.Errorf("podIP %s, attached %v", s.PodIP, m.network.attached)
		}
		m.run(deleted(pod))
		m.expectNothing(pod)
	})
}

func TestOldContainersAreRemoved(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		for range 4 {
			m.exit(pod, "a", 1)
			m.after(6 * time.Minute)
		}
		state, _ := m.runtime.Pod(t.Context(), pod.UID)
		var attempts []uint32
		for _, c := range state.Containers {
			attempts = append(attempts, c.Attempt)
		}
		if diff := cmp.Diff([]uint32{4, 3}, attempts); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}
