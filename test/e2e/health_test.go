package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// podWith is a Pod with the given rest of its spec; busybox and testserver stand for
// their images.
func podWith(name, spec string) string {
	images := strings.NewReplacer("image: busybox", "image: "+cluster.Image(busyboxImage), "image: testserver", "image: "+cluster.Image(testserverImage))
	return "apiVersion: core.keelson.dev/v1\nkind: Pod\nmetadata:\n  name: " + name + "\n  labels: {app: " + name + "}\nspec:\n  terminationGracePeriodSeconds: 5\n" + images.Replace(spec)
}

func statusIn(statuses []corev1.ContainerStatus, name string) corev1.ContainerStatus {
	for _, s := range statuses {
		if s.Name == name {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

func conditionOf(pod *keelsonv1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func TestInitContainersRunOneAfterTheOther(t *testing.T) {
	s := newSpace(t)
	s.apply(podWith("init", `
  initContainers:
  - {name: second, image: busybox, command: [sh, -c, "echo one; sleep 3"]}
  - {name: first, image: busybox, command: [sh, -c, "echo two"]}
  containers:
  - {name: main, image: busybox, command: [sleep, "3600"]}
`))
	s.eventually(soon, "STATUS column while it is initialized", func() error { return wantIn(s.run("get", "kpo", "init"), "Init:0/2") })
	pod := s.podWhen("init", "first init container runs", func(pod *keelsonv1.Pod) error {
		if statusIn(pod.Status.InitContainerStatuses, "second").State.Running == nil {
			return fmt.Errorf("%+v", pod.Status.InitContainerStatuses)
		}
		return nil
	})
	if c := conditionOf(pod, corev1.PodInitialized); c.Status != corev1.ConditionFalse || c.Message != "containers with incomplete status: [second first]" {
		t.Errorf("Initialized is %+v", c)
	}
	if w := statusIn(pod.Status.ContainerStatuses, "main").State.Waiting; w == nil || w.Reason != "PodInitializing" {
		t.Errorf("main is %+v", pod.Status.ContainerStatuses)
	}
	pod = s.phase("init", corev1.PodRunning)
	one, two := pod.Status.InitContainerStatuses[0], pod.Status.InitContainerStatuses[1]
	if one.Name != "second" || one.State.Terminated == nil || two.State.Terminated == nil || !one.Ready || !two.Ready {
		t.Fatalf("init containers: %+v", pod.Status.InitContainerStatuses)
	}
	main := statusIn(pod.Status.ContainerStatuses, "main").State.Running
	if two.State.Terminated.StartedAt.Before(&one.State.Terminated.FinishedAt) || main.StartedAt.Before(&two.State.Terminated.FinishedAt) {
		t.Errorf("out of order: %+v, %+v, %+v", one.State, two.State, main)
	}
	if c := conditionOf(pod, corev1.PodInitialized); c.Status != corev1.ConditionTrue {
		t.Errorf("Initialized is %+v", c)
	}
}

func TestFailingInitContainers(t *testing.T) {
	s := newSpace(t)
	for policy, want := range map[string]struct {
		phase  corev1.PodPhase
		column string
	}{
		"Never":  {corev1.PodFailed, "Init:Error"},
		"Always": {corev1.PodPending, "Init:CrashLoopBackOff"},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := s.of(t)
			name := strings.ToLower(policy)
			s.apply(podWith(name, "  restartPolicy: "+policy+`
  initContainers:
  - {name: bad, image: busybox, command: [sh, -c, "exit 4"]}
  - {name: later, image: busybox, command: ["true"]}
  containers:
  - {name: main, image: busybox, command: [sleep, "3600"]}
`))
			s.eventually(soon, "STATUS column", func() error { return wantIn(s.run("get", "kpo", name), want.column) })
			pod := s.phase(name, want.phase)
			if w := statusIn(pod.Status.ContainerStatuses, "main").State.Waiting; w == nil || w.Reason != "PodInitializing" {
				t.Errorf("main is %+v", pod.Status.ContainerStatuses)
			}
			if w := statusIn(pod.Status.InitContainerStatuses, "later").State.Waiting; w == nil || w.Reason != "PodInitializing" {
				t.Errorf("later is %+v", pod.Status.InitContainerStatuses)
			}
		})
	}
}

func TestSidecarsStartFirstAndStopLast(t *testing.T) {
	s := newSpace(t)
	s.apply(podWith("sidecar", `
  restartPolicy: Never
  initContainers:
  - name: proxy
    image: testserver
    args: [http, ":8080"]
    restartPolicy: Always
    startupProbe: {httpGet: {port: 8080}, periodSeconds: 1, failureThreshold: 30}
  - {name: check, image: testserver, args: [fetch, "http://127.0.0.1:8080/"]}
  containers:
  - {name: main, image: testserver, args: [fetch, "http://127.0.0.1:8080/"]}
`))
	pod := s.phase("sidecar", corev1.PodSucceeded)
	proxy := statusIn(pod.Status.InitContainerStatuses, "proxy").State.Terminated
	main := statusIn(pod.Status.ContainerStatuses, "main").State.Terminated
	if proxy == nil || main == nil || main.ExitCode != 0 || proxy.FinishedAt.Before(&main.FinishedAt) {
		t.Errorf("proxy %+v, main %+v", proxy, main)
	}
}

func TestLivenessProbeRestartsTheContainer(t *testing.T) {
	s := newSpace(t)
	s.apply(podWith("liveness", `
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "touch /tmp/alive; sleep 4; rm -f /tmp/alive; sleep 3600 & wait"]
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, initialDelaySeconds: 1, periodSeconds: 1, failureThreshold: 2, terminationGracePeriodSeconds: 2}
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo stopping > /proc/1/fd/1"]}}}
`))
	pod := s.podWhen("liveness", "one restart", func(pod *keelsonv1.Pod) error {
		if c := statusIn(pod.Status.ContainerStatuses, "main"); c.RestartCount < 1 || c.State.Running == nil {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	for _, want := range []string{
		"Unhealthy", "Liveness probe failed: cat: can't open '/tmp/alive': No such file or directory",
		"Killing", "Container main failed liveness probe, will be restarted",
	} {
		s.eventually(soon, want, func() error { return wantIn(s.run("get", "events"), want) })
	}
	first := filepath.Join("/var/log/pods", fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID), "main", "0.log")
	if text, err := os.ReadFile(first); err != nil || !strings.Contains(string(text), "stopping") {
		t.Errorf("the hook before the stop left no trace: %q, %v", text, err)
	}
}

func TestReadinessDrivesEndpoints(t *testing.T) {
	s := newSpace(t)
	s.apply(podWith("ready", `
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "sleep 4; touch /tmp/ready; sleep 8; rm /tmp/ready; sleep 3600"]
    readinessProbe: {exec: {command: [test, -f, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
`))
	s.apply(`
apiVersion: core.keelson.dev/v1
kind: Service
metadata: {name: ready}
spec: {selector: {app: ready}, ports: [{port: 80}]}
`)
	addresses := func(ready, notReady int) {
		s.eventually(soon, fmt.Sprintf("%d ready addresses, %d others", ready, notReady), func() error {
			e := &keelsonv1.Endpoints{}
			if err := s.get(e, "kep", "ready"); err != nil {
				return err
			}
			if len(e.Subsets) != 1 || len(e.Subsets[0].Addresses) != ready || len(e.Subsets[0].NotReadyAddresses) != notReady {
				return fmt.Errorf("%+v", e.Subsets)
			}
			return nil
		})
	}
	addresses(0, 1)
	pod := s.phase("ready", corev1.PodRunning)
	if c := conditionOf(pod, corev1.ContainersReady); c.Status != corev1.ConditionTrue && c.Message != "containers with unready status: [main]" {
		t.Errorf("ContainersReady is %+v", c)
	}
	addresses(1, 0)
	addresses(0, 1)
	if c := statusIn(s.phase("ready", corev1.PodRunning).Status.ContainerStatuses, "main"); c.RestartCount != 0 {
		t.Errorf("an unready container was restarted: %+v", c)
	}
}

func TestProbesOverTheNetwork(t *testing.T) {
	s := newSpace(t)
	s.apply(podWith("network", `
  containers:
  - name: main
    image: testserver
    args: [http, ":8080"]
    ports: [{name: web, containerPort: 8080}]
    startupProbe: {tcpSocket: {port: web}, periodSeconds: 1, failureThreshold: 20}
    readinessProbe: {httpGet: {port: web, path: /x, httpHeaders: [{name: X-A, value: b}]}, periodSeconds: 1}
    livenessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
  - name: wrong
    image: testserver
    args: [tcp, ":9000"]
    readinessProbe: {grpc: {port: 9000}, periodSeconds: 1, timeoutSeconds: 1}
`))
	pod := s.podWhen("network", "main ready, wrong not", func(pod *keelsonv1.Pod) error {
		if pod.Status.Summary.Ready != "1/2" || !statusIn(pod.Status.ContainerStatuses, "main").Ready {
			return fmt.Errorf("%s: %+v", pod.Status.Summary.Ready, pod.Status.ContainerStatuses)
		}
		return nil
	})
	s.eventually(soon, "event", func() error { return wantIn(s.run("get", "events"), "Readiness probe failed: timeout:") })
	if n := statusIn(pod.Status.ContainerStatuses, "main").RestartCount; n != 0 {
		t.Errorf("%d restarts", n)
	}
}

func TestHooksOfAContainer(t *testing.T) {
	s := newSpace(t)
	s.apply(podWith("poststart", `
  restartPolicy: Never
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "until test -f /tmp/hook; do sleep 0.1; done"]
    lifecycle: {postStart: {exec: {command: [touch, /tmp/hook]}}}
`))
	s.apply(podWith("failing", `
  restartPolicy: Never
  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    lifecycle: {postStart: {exec: {command: ["false"]}}}
`))
	s.apply(podWith("slow", `
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; sleep 3600 & wait"]
    lifecycle: {preStop: {sleep: {seconds: 3}}}
`))
	s.phase("poststart", corev1.PodSucceeded)
	s.phase("failing", corev1.PodFailed)
	s.eventually(soon, "event", func() error { return wantIn(s.run("get", "events"), "FailedPostStartHook", "PostStartHook failed") })

	s.apply(podWith("monitor", `
  containers:
  - name: main
    image: busybox
    command: [httpd, -f, -vv, -p, "8080"]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`))
	monitor := s.podWhen("monitor", "ready", func(pod *keelsonv1.Pod) error {
		if c := conditionOf(pod, corev1.PodReady); c.Status != corev1.ConditionTrue {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	s.apply(podWith("javaweb", `
  containers:
  - name: war
    image: busybox
    command: [sh, -c, "until test -f /tmp/app; do sleep 0.1; done; sleep 3600"]
    lifecycle:
      postStart: {exec: {command: [touch, /tmp/app]}}
      preStop: {httpGet: {host: `+monitor.Status.PodIP+`, port: 8080, path: /warning}}
`))
	s.phase("javaweb", corev1.PodRunning)
	s.run("delete", "kpo", "javaweb")
	s.eventually(soon, "what the hook before the stop asked for", func() error { return wantIn(logs(t, monitor, "main"), "url:/warning") })

	s.phase("slow", corev1.PodRunning)
	began := time.Now()
	s.run("delete", "kpo", "slow")
	if took := time.Since(began); took < 3*time.Second || took > 20*time.Second {
		t.Errorf("with a hook of 3 s before the stop the Pod left after %v", took)
	}
}

func TestActiveDeadline(t *testing.T) {
	s := newSpace(t)
	s.apply(podWith("deadline", "  activeDeadlineSeconds: 60\n  containers:\n  - {name: main, image: busybox, command: [sleep, \"3600\"]}\n"))
	s.phase("deadline", corev1.PodRunning)
	s.run("patch", "kpo", "deadline", "--type=merge", "-p", `{"spec":{"activeDeadlineSeconds":3}}`)
	pod := s.phase("deadline", corev1.PodFailed)
	if pod.Status.Reason != "DeadlineExceeded" || pod.Status.Message != "Pod was active on the node longer than the specified deadline" {
		t.Errorf("reason %q, message %q", pod.Status.Reason, pod.Status.Message)
	}
	if c := pod.Status.ContainerStatuses[0]; c.State.Terminated == nil {
		t.Errorf("it failed while it ran: %+v", c)
	}
}

func TestReadinessGates(t *testing.T) {
	s := newSpace(t)
	s.apply(podWith("gate", "  readinessGates: [{conditionType: example.com/open}]\n  containers:\n  - {name: main, image: busybox, command: [sleep, \"3600\"]}\n"))
	pod := s.phase("gate", corev1.PodRunning)
	if c := conditionOf(pod, corev1.PodReady); c.Status != corev1.ConditionFalse || c.Reason != "ReadinessGatesNotReady" {
		t.Errorf("Ready is %+v", c)
	}
	s.run("patch", "kpo", "gate", "--subresource=status", "--type=json", "-p",
		`[{"op":"add","path":"/status/conditions/-","value":{"type":"example.com/open","status":"True","lastProbeTime":null,"lastTransitionTime":null}}]`)
	s.podWhen("gate", "ready", func(pod *keelsonv1.Pod) error {
		if c := conditionOf(pod, corev1.PodReady); c.Status != corev1.ConditionTrue {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}
