package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// shellPod is a Pod whose containers each run a shell command.
func shellPod(name, restartPolicy string, commands ...string) string {
	var containers strings.Builder
	for i, command := range commands {
		fmt.Fprintf(&containers, "  - name: c%d\n    image: %s\n    command: [sh, -c, %q]\n", i, cluster.Image(busyboxImage), command)
	}
	return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata:
  name: %s
  labels: {app: %[1]s}
spec:
  restartPolicy: %s
  terminationGracePeriodSeconds: 1
  containers:
%s`, name, restartPolicy, containers.String())
}

// phase waits until the Pod is in a phase and returns it.
func (s *space) phase(name string, want corev1.PodPhase) *keelsonv1.Pod {
	s.t.Helper()
	return s.podWhen(name, "phase "+string(want), func(pod *keelsonv1.Pod) error {
		if pod.Status.Phase != want {
			return fmt.Errorf("phase is %s", pod.Status.Phase)
		}
		return nil
	})
}

// podWhen waits until check accepts the Pod and returns it.
func (s *space) podWhen(name, what string, check func(*keelsonv1.Pod) error) *keelsonv1.Pod {
	s.t.Helper()
	var found *keelsonv1.Pod
	s.eventually(eventual, name+": "+what, func() error {
		pod := &keelsonv1.Pod{}
		if err := s.get(pod, "kpo", name); err != nil {
			return err
		}
		found = pod
		return check(pod)
	})
	return found
}

// logs reads the newest log file of a container, without its CRI prefix.
func logs(t *testing.T, pod *keelsonv1.Pod, container string) string {
	t.Helper()
	pattern := filepath.Join("/var/log/pods", fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID), container, "*.log")
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return ""
	}
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		match := criLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if match == nil {
			t.Fatalf("not a CRI log line: %q", line)
		}
		out.WriteString(match[1])
		out.WriteString("\n")
	}
	return out.String()
}

// criLine is "<time> <stream> <F or P> <text>".
var criLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP] (.*)$`)

func TestPhasesFollowExitCodesAndRestartPolicy(t *testing.T) {
	s := newSpace(t)
	const ok, bad, stay = "exit 0", "exit 3", "sleep 3600"
	for name, tc := range map[string]struct {
		policy   string
		commands []string
		want     corev1.PodPhase
		restarts bool
	}{
		"always-ok":       {"Always", []string{ok}, corev1.PodRunning, true},
		"onfailure-ok":    {"OnFailure", []string{ok}, corev1.PodSucceeded, false},
		"never-ok":        {"Never", []string{ok}, corev1.PodSucceeded, false},
		"always-bad":      {"Always", []string{bad}, corev1.PodRunning, true},
		"onfailure-bad":   {"OnFailure", []string{bad}, corev1.PodRunning, true},
		"never-bad":       {"Never", []string{bad}, corev1.PodFailed, false},
		"never-one-bad":   {"Never", []string{bad, stay}, corev1.PodRunning, false},
		"always-one-bad":  {"Always", []string{bad, stay}, corev1.PodRunning, true},
		"never-both-bad":  {"Never", []string{bad, bad}, corev1.PodFailed, false},
		"always-both-bad": {"Always", []string{bad, bad}, corev1.PodRunning, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &space{t: t, Name: s.Name}
			s.apply(shellPod(name, tc.policy, tc.commands...))
			pod := s.podWhen(name, string(tc.want), func(pod *keelsonv1.Pod) error {
				first := pod.Status.ContainerStatuses
				if pod.Status.Phase != tc.want || len(first) == 0 {
					return fmt.Errorf("phase %s, %d container statuses", pod.Status.Phase, len(first))
				}
				for _, status := range first {
					if status.Name == "c0" && status.State.Terminated == nil && status.LastTerminationState.Terminated == nil {
						return fmt.Errorf("c0 has not ended yet: %+v", status.State)
					}
					if status.Name == "c0" && (status.RestartCount > 0) != tc.restarts {
						return fmt.Errorf("c0 has %d restarts", status.RestartCount)
					}
				}
				return nil
			})
			if tc.policy == "Never" {
				if state := pod.Status.ContainerStatuses[0].State.Terminated; state == nil || (state.ExitCode == 0) != (tc.commands[0] == ok) {
					t.Errorf("c0 ended as %+v", state)
				}
			}
		})
	}
}

func TestCrashLoopBackOffIsReported(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("crash", "Always", "echo dying; exit 7"))
	pod := s.podWhen("crash", "CrashLoopBackOff", func(pod *keelsonv1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			if w := status.State.Waiting; w != nil && w.Reason == "CrashLoopBackOff" && status.RestartCount >= 1 {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	status := pod.Status.ContainerStatuses[0]
	if last := status.LastTerminationState.Terminated; last == nil || last.ExitCode != 7 || last.Reason != "Error" {
		t.Errorf("lastState is %+v, want exit code 7, reason Error", last)
	}
	if message := status.State.Waiting.Message; !strings.Contains(message, "restarting failed container=c0 pod=crash_"+s.Name) {
		t.Errorf("waiting message is %q", message)
	}
	s.eventually(soon, "STATUS column", func() error { return wantIn(s.run("get", "kpo", "crash"), "CrashLoopBackOff") })
	s.eventually(soon, "log of the last run", func() error { return wantIn(logs(t, pod, "c0"), "dying") })
	s.eventually(soon, "event", func() error { return wantIn(s.run("get", "events"), "BackOff") })
}

func TestContainersOfAPodShareItsNetwork(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: duo}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 1
  containers:
  - {name: server, image: %[1]s, args: [http, ":8080"]}
  - name: client
    image: %[1]s
    command: [sh, -c, "until /testserver fetch http://127.0.0.1:8080/; do sleep 0.1; done; hostname; ls /proc/1/exe; cat /etc/hosts"]
`, cluster.Image(testserverImage)))
	pod := s.podWhen("duo", "client done", func(pod *keelsonv1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			if status.Name == "client" && status.State.Terminated != nil && status.State.Terminated.ExitCode == 0 {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	text := logs(t, pod, "client")
	for _, want := range []string{"duo 127.0.0.1:", "\nduo\n", pod.Status.PodIP + "\tduo"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if pod.Status.Phase != corev1.PodRunning || pod.Status.Summary.Ready != "1/2" {
		t.Errorf("phase %s, ready %s, want Running and 1/2", pod.Status.Phase, pod.Status.Summary.Ready)
	}
}

func TestCommandArgsAndEnvironment(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: env}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: %s
    command: [sh, -c]
    args: ['echo "$GREETING|$(NAME)|$$(NAME)|$(UNKNOWN)|$(pwd)" 2>/dev/null']
    workingDir: /tmp
    env:
    - {name: NAME, value: world}
    - {name: GREETING, value: "hello $(NAME)"}
`, cluster.Image(busyboxImage)))
	pod := s.phase("env", corev1.PodSucceeded)
	// The shell replaces what expansion left alone: $(NAME) and $(UNKNOWN) are commands that do not exist.
	if got, want := logs(t, pod, "main"), "hello world|world|||/tmp\n"; !strings.Contains(got, want) {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestBadImagesAndCommandsSayWhy(t *testing.T) {
	s := newSpace(t)
	pod := func(name, image, command string) string {
		return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Always
  containers: [{name: main, image: "%s", imagePullPolicy: %s}]
`, name, image, command)
	}
	s.apply(pod("missing", cluster.Registry.Host+"/no/such:v1", "IfNotPresent"))
	s.apply(pod("never", cluster.Registry.Host+"/never/pulled:v1", "Never"))
	s.apply(strings.Replace(shellPod("nocommand", "Never", "x"), "[sh, -c, \"x\"]", "[/no/such/program]", 1))

	waiting := func(name string, reason string) string {
		message := ""
		s.podWhen(name, reason, func(pod *keelsonv1.Pod) error {
			for _, status := range pod.Status.ContainerStatuses {
				if w := status.State.Waiting; w != nil && w.Reason == reason {
					message = w.Message
					return nil
				}
			}
			return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
		})
		return message
	}
	if message := waiting("missing", "ImagePullBackOff"); !strings.Contains(message, "no/such:v1") || !strings.Contains(message, "not found") {
		t.Errorf("ImagePullBackOff says %q; want the image and the registry's answer", message)
	}
	if message := waiting("never", "ErrImageNeverPull"); !strings.Contains(message, "never/pulled:v1") {
		t.Errorf("ErrImageNeverPull says %q", message)
	}
	failed := s.phase("nocommand", corev1.PodFailed)
	state := failed.Status.ContainerStatuses[0].State.Terminated
	if state == nil || state.ExitCode != 128 || state.Reason != "StartError" || !strings.Contains(state.Message, "/no/such/program") {
		t.Errorf("the container ended as %+v, want exit code 128, StartError and the program's name", state)
	}
	s.eventually(soon, "pull events", func() error { return wantIn(s.run("get", "events"), "ErrImagePull", "ImagePullBackOff") })
}

func TestMemoryLimitKills(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: %s
    args: [eat, "256"]
    resources: {limits: {memory: 32Mi, cpu: 0.5}}
`, cluster.Image(testserverImage)))
	pod := s.phase("hungry", corev1.PodFailed)
	if state := pod.Status.ContainerStatuses[0].State.Terminated; state == nil || state.Reason != "OOMKilled" || state.ExitCode != 137 {
		t.Errorf("ended as %+v, want OOMKilled with 137", state)
	}
	if pod.Status.QOSClass != corev1.PodQOSGuaranteed {
		t.Errorf("QoS class %s, want Guaranteed: requests default to limits", pod.Status.QOSClass)
	}
}

func TestTerminationMessageIsReported(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("last-words", "Never", "echo farewell > /dev/termination-log; exit 1"))
	pod := s.phase("last-words", corev1.PodFailed)
	if state := pod.Status.ContainerStatuses[0].State.Terminated; state == nil || state.Message != "farewell\n" {
		t.Errorf("ended as %+v, want the message farewell", state)
	}
}

func TestGracefulDeletion(t *testing.T) {
	s := newSpace(t)
	s.apply(strings.Replace(shellPod("stubborn", "Always", "trap '' TERM; echo ready; while :; do sleep 0.1; done"),
		"terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 600", 1))
	s.phase("stubborn", corev1.PodRunning)
	s.run("delete", "kpo", "stubborn", "--wait=false")
	s.eventually(soon, "Terminating", func() error { return wantIn(s.run("get", "kpo", "stubborn"), "Terminating") })
	s.run("annotate", "kpo", "stubborn", keelsonv1.DeletionGracePeriodAnnotation+"=0")
	s.gone("kpo", "stubborn")
}

// gone waits until an object no longer exists.
func (s *space) gone(kind, name string) {
	s.t.Helper()
	s.eventually(eventual, kind+" "+name+" gone", func() error {
		out, err := s.try("get", kind, name)
		if err == nil {
			return fmt.Errorf("still there: %s", out)
		}
		return wantIn(out, "NotFound")
	})
}

func TestHostNetwork(t *testing.T) {
	s := newSpace(t)
	s.apply(strings.Replace(shellPod("host", "Never", "hostname"), "spec:\n", "spec:\n  hostNetwork: true\n", 1))
	pod := s.phase("host", corev1.PodSucceeded)
	if pod.Status.PodIP != pod.Status.HostIP || pod.Status.HostIP == "" {
		t.Errorf("podIP %q, hostIP %q, want one address", pod.Status.PodIP, pod.Status.HostIP)
	}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(logs(t, pod, "c0")); got != hostname {
		t.Errorf("hostname %q, want the machine's %q", got, hostname)
	}
}

func TestImageUpdateRestartsTheContainerOnly(t *testing.T) {
	s := newSpace(t)
	s.apply(shellPod("update", "Always", "sleep 3600"))
	before := s.phase("update", corev1.PodRunning)
	s.run("patch", "kpo", "update", "--type=json", "-p",
		fmt.Sprintf(`[{"op":"replace","path":"/spec/containers/0/image","value":%q}]`, cluster.Image(testserverImage)))
	after := s.podWhen("update", "new image", func(pod *keelsonv1.Pod) error {
		status := pod.Status.ContainerStatuses[0]
		if status.RestartCount != 1 || status.State.Running == nil || status.Image != cluster.Image(testserverImage) {
			return fmt.Errorf("%+v", status)
		}
		return nil
	})
	if before.UID != after.UID || before.Status.PodIP != after.Status.PodIP {
		t.Errorf("the Pod changed: %s %s, then %s %s", before.UID, before.Status.PodIP, after.UID, after.Status.PodIP)
	}
}

// wantIn fails unless text holds every part.
func wantIn(text string, parts ...string) error {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return fmt.Errorf("%q is missing in:\n%s", part, text)
		}
	}
	return nil
}
