package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// apiOutage is how long the API server stays away in TestAPIServerOutage.
const apiOutage = 2 * time.Minute

// processesOf are the PIDs whose program has a name, and of those the ones whose
// command line holds every given part.
func processesOf(t *testing.T, program string, parts ...string) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(cmdline) == 0 {
			continue
		}
		argv := strings.Split(string(cmdline), "\x00")
		lacks := func(part string) bool { return !bytes.Contains(cmdline, []byte(part)) }
		if filepath.Base(argv[0]) != program || slices.ContainsFunc(parts, lacks) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// kill sends a signal to the one process of a program.
func kill(t *testing.T, program string, signal syscall.Signal) {
	t.Helper()
	pids := processesOf(t, program)
	if len(pids) == 0 {
		t.Fatalf("no process %s", program)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatalf("signal %s to %s (%d): %v", signal, program, pid, err)
		}
	}
}

// identity is what must not change while parts of the system die: who runs where,
// and since when.
func identity(pod *keelsonv1.Pod) string {
	status := pod.Status.ContainerStatuses[0]
	return fmt.Sprintf("%s %s %s restarts %d", pod.UID, pod.Status.PodIP, status.ContainerID, status.RestartCount)
}

// answers asks a server on the machine for one answer.
func answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func TestKilledPartsComeBackAndPodsStay(t *testing.T) {
	s := newSpace(t)
	s.apply(controller("web", 2))
	s.apply(service("web", "type: NodePort"))
	s.ready("web", 2)
	s.endpoints("web", 2)
	port := s.run("get", "ksvc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
	names := s.pods("app=web")
	before := map[string]string{}
	for _, name := range names {
		before[name] = identity(s.phase(name, corev1.PodRunning))
	}

	for _, program := range []string{"keelson-node", "keelson-manager", "kube-apiserver", "etcd", "containerd"} {
		t.Run(program, func(t *testing.T) {
			s := &space{t: t, Name: s.Name}
			old := processesOf(t, program)
			kill(t, program, syscall.SIGKILL)

			t.Log("The Service answers all the while")
			s.consistently(2*time.Second, "NodePort", func() error { return answers(t.Context(), "127.0.0.1:"+port) })
			s.eventually(eventual, program+" runs again", func() error {
				now := processesOf(t, program)
				if len(now) == 0 || slices.Equal(now, old) {
					return fmt.Errorf("processes %v", now)
				}
				return nil
			})

			t.Log("The system reacts again: a Pod comes, another goes")
			name := "after-" + strings.TrimPrefix(program, "kube-")
			s.eventually(eventual, "a Pod can be made", func() error {
				out, err := s.tryApply(shellPod(name, "Never", "echo done"))
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			})
			pod := s.phase(name, corev1.PodSucceeded)
			s.eventually(soon, "its log", func() error { return wantIn(logs(t, pod, "c0"), "done") })
			s.eventually(eventual, "it can be deleted", func() error {
				_, err := s.try("delete", "kpo", name, "--ignore-not-found")
				return err
			})
			s.eventually(soon, "the node is Ready", func() error { return wantIn(s.run("get", "kno"), " Ready ") })

			t.Log("The Pods are the very same")
			s.ready("web", 2)
			for _, name := range names {
				if now := identity(s.phase(name, corev1.PodRunning)); now != before[name] {
					t.Errorf("%s was %s, is %s", name, before[name], now)
				}
			}
		})
	}
}

func TestContainerThatEndsWhileTheAgentIsAway(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("ends", "Never", "echo before; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo after; exit 9"))
	s.podWhen("ends", "running with a log", func(pod *keelsonv1.Pod) error {
		if pod.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("phase %s", pod.Status.Phase)
		}
		return wantIn(logs(t, pod, "c0"), "before")
	})
	containers := processesOf(t, "sh", "/tmp/go") // a child that is about to become sleep looks the same
	if len(containers) == 0 {
		t.Fatal("no process of the container")
	}
	container := slices.Min(containers)
	withoutSupervisor(t, func() {
		kill(t, "keelson-node", syscall.SIGKILL)
		must(t, os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/go", container), nil, 0o600))
		eventually(t, soon, "the container ends", func() error {
			if len(processesOf(t, "sh", "/tmp/go")) != 0 {
				return fmt.Errorf("it still runs")
			}
			return nil
		})
	})
	pod := s.phase("ends", corev1.PodFailed)
	if state := pod.Status.ContainerStatuses[0].State.Terminated; state == nil || state.ExitCode != 9 {
		t.Errorf("ended as %+v, want exit code 9", state)
	}
	s.eventually(soon, "whole log", func() error { return wantIn(logs(t, pod, "c0"), "before\nafter\n") })
}

func TestPodDeletedWhileTheAgentIsAwayIsSwept(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("gone", "Always", "sleep 987654"))
	s.phase("gone", corev1.PodRunning)
	withoutSupervisor(t, func() {
		kill(t, "keelson-node", syscall.SIGKILL)
		s.run("patch", "kpo", "gone", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
		s.run("delete", "kpo", "gone", "--wait=false")
		s.gone("kpo", "gone")
	})
	s.eventually(eventual, "its process ends", func() error {
		if pids := processesOf(t, "sleep", "987654"); len(pids) != 0 {
			return fmt.Errorf("processes %v", pids)
		}
		return nil
	})
}

func TestNodeWithoutItsContainerdSaysSo(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("stays", "Always", "sleep 3600"))
	before := identity(s.phase("stays", corev1.PodRunning))
	ready := func(want string, parts ...string) func() error {
		return func() error {
			out, err := s.try("get", "kno", "-o", `jsonpath={range .items[0].status.conditions[?(@.type=="Ready")]}{.status} {.reason} {.message}{end}`)
			if err == nil && !strings.HasPrefix(out, want+" ") {
				err = fmt.Errorf("Ready is %s", out)
			}
			for _, part := range parts {
				err = errors.Join(err, wantIn(out, part))
			}
			return err
		}
	}
	withoutSupervisor(t, func() {
		kill(t, "containerd", syscall.SIGKILL)
		eventually(t, eventual, "the node is not Ready and says why", ready("False", "KubeletNotReady", "container runtime is down"))
		if out := s.run("get", "kno"); !strings.Contains(out, "NotReady") {
			t.Errorf("kubectl get kno prints\n%s", out)
		}
	})
	s.eventually(eventual, "the node is Ready", ready("True"))
	if now := identity(s.phase("stays", corev1.PodRunning)); now != before {
		t.Errorf("was %s, is %s", before, now)
	}
	s.apply(shellPod("works", "Never", "exit 0"))
	s.phase("works", corev1.PodSucceeded)
}

func TestAPIServerOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	s := newSpace(t)
	s.apply(controller("web", 1))
	s.ready("web", 1)
	name := s.pods("app=web")[0]
	web := s.phase(name, corev1.PodRunning)
	s.apply(shellPod("loop", "Always", "echo turn; sleep 1; exit 1"))
	loop := s.podWhen("loop", "first restart", func(pod *keelsonv1.Pod) error {
		if len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].RestartCount == 0 {
			return fmt.Errorf("no restart yet")
		}
		return nil
	})
	restarts := loop.Status.ContainerStatuses[0].RestartCount

	withoutSupervisor(t, func() {
		kill(t, "kube-apiserver", syscall.SIGKILL)
		for end := time.Now().Add(apiOutage); time.Now().Before(end); time.Sleep(time.Second) {
			if err := answers(t.Context(), web.Status.PodIP+":8080"); err != nil {
				t.Errorf("the Pod does not answer during the outage: %v", err)
				return
			}
		}
	})

	s.eventually(eventual, "the node is Ready", func() error {
		out, err := s.try("get", "kno")
		if err != nil {
			return err
		}
		return wantIn(out, " Ready ")
	})
	if now := s.phase(name, corev1.PodRunning); identity(now) != identity(web) {
		t.Errorf("was %s, is %s", identity(web), identity(now))
	}
	s.podWhen("loop", "restarts during the outage", func(pod *keelsonv1.Pod) error {
		if got := pod.Status.ContainerStatuses[0].RestartCount; got <= restarts {
			return fmt.Errorf("%d restarts, %d before the outage", got, restarts)
		}
		return nil
	})
	s.run("scale", "krc", "web", "--replicas=2")
	s.ready("web", 2)
}

// withoutSupervisor runs f while nothing restarts what dies.
func withoutSupervisor(t *testing.T, f func()) {
	t.Helper()
	pids := processesOf(t, "keelson")
	if len(pids) == 0 {
		t.Fatal("no supervisor runs")
	}
	defer func() {
		for _, pid := range pids {
			must(t, syscall.Kill(pid, syscall.SIGCONT))
		}
	}()
	for _, pid := range pids {
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		eventually(t, soon, "the supervisor has stopped", func() error {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil || bytes.Contains(status, []byte("\nState:\tT")) {
				return err
			}
			return errors.New("it still runs")
		})
	}
	f()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
