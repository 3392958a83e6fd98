package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// securePod is a Pod whose container c0 runs command; security is the Pod's and more the
// container's part of the spec, both in YAML.
func securePod(name, command, security, more string) string {
	return fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  securityContext: %s
  containers:
  - name: c0
    image: %s
    command: [sh, -c, %q]
    securityContext: %s
`, name, security, cluster.Image(busyboxImage), command, more)
}

func TestContainersRunWithTheRightsThatThePodSays(t *testing.T) {
	s := newSpace(t)
	for name, tc := range map[string]struct{ command, pod, container, want string }{
		"user-of-the-pod": {"echo $(id -u) $(id -g)", "{runAsUser: 1000, runAsGroup: 3000}", "{}", "1000 3000\n"},
		"user-of-its-own": {"echo $(id -u) $(id -g)", "{runAsUser: 1000, runAsGroup: 3000}", "{runAsUser: 2000}", "2000 3000\n"},
		"groups":          {"grep Groups: /proc/self/status | cut -f2", "{runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000], supplementalGroupsPolicy: Strict}", "{}", "2000 3000 4000 \n"},
		"non-root":        {"id -u", "{runAsNonRoot: true, runAsUser: 1}", "{}", "1\n"},
		"privileged":      {"test -c /dev/kmsg && echo all devices", "{}", "{privileged: true}", "all devices\n"},
		"unprivileged":    {"test -c /dev/kmsg || echo few devices", "{}", "{privileged: false}", "few devices\n"},
		"read-only-root":  {"touch /x 2>&1 || touch /dev/shm/x && echo only memory", "{}", "{readOnlyRootFilesystem: true}", "touch: /x: Read-only file system\nonly memory\n"},
		"no-escalation":   {"grep NoNewPrivs /proc/self/status | cut -f2", "{}", "{allowPrivilegeEscalation: false}", "1\n"},
		"seccomp":         {"grep Seccomp: /proc/self/status | cut -f2", "{seccompProfile: {type: RuntimeDefault}}", "{}", "2\n"},
		"seccomp-off":     {"grep Seccomp: /proc/self/status | cut -f2", "{seccompProfile: {type: RuntimeDefault}}", "{seccompProfile: {type: Unconfined}}", "0\n"},
		"no-capabilities": {"grep CapBnd /proc/self/status | cut -f2", "{}", "{capabilities: {drop: [ALL]}}", "0000000000000000\n"},
		"one-capability":  {"grep CapBnd /proc/self/status | cut -f2", "{}", "{capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}", "0000000000000400\n"},
		"sysctl":          {"cat /proc/sys/kernel/shm_rmid_forced", "{sysctls: [{name: kernel.shm_rmid_forced, value: \"1\"}]}", "{}", "1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &space{t: t, Name: s.Name}
			s.apply(securePod(name, tc.command, tc.pod, tc.container))
			pod := s.phase(name, corev1.PodSucceeded)
			if got := logs(t, pod, "c0"); got != tc.want {
				t.Errorf("the Pod says %q, want %q", got, tc.want)
			}
		})
	}
}

func TestImageThatRunsAsRootMayNot(t *testing.T) {
	s := newSpace(t)
	s.apply(securePod("rooted", "id -u", "{runAsNonRoot: true}", "{}"))
	pod := s.podWhen("rooted", "CreateContainerConfigError", func(pod *keelsonv1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			if w := status.State.Waiting; w != nil && w.Reason == "CreateContainerConfigError" {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	want := fmt.Sprintf(`container has runAsNonRoot and image will run as root (pod: "rooted_%s(%s)", container: c0)`, s.Name, pod.UID)
	if got := pod.Status.ContainerStatuses[0].State.Waiting.Message; got != want {
		t.Errorf("it waits because %q, want %q", got, want)
	}
	s.eventually(soon, "STATUS column", func() error { return wantIn(s.run("get", "kpo", "rooted"), "CreateContainerConfigError") })
	s.eventually(soon, "event", func() error { return wantIn(s.run("get", "events"), "Error: "+want) })
}

func TestUnsafeSysctlsAreForbidden(t *testing.T) {
	s := newSpace(t)
	s.apply(securePod("tuned", "true", "{sysctls: [{name: kernel.sem, value: \"1 2 3 4\"}]}", "{}"))
	pod := s.phase("tuned", corev1.PodFailed)
	if pod.Status.Reason != "SysctlForbidden" || !strings.Contains(pod.Status.Message, `forbidden sysctl: "kernel.sem" not allowlisted`) {
		t.Errorf("reason %q, message %q", pod.Status.Reason, pod.Status.Message)
	}
}

func TestPodsMayShareTheMachinesNamespaces(t *testing.T) {
	s := newSpace(t)
	for name, tc := range map[string]struct{ share, want string }{
		"shares": {"hostPID: true\n  hostIPC: true", "sees the agent\n"},
		"alone":  {"hostPID: false", "sees itself\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &space{t: t, Name: s.Name}
			pod := securePod(name, `cat /proc/[0-9]*/comm 2>/dev/null | grep -q ^keelson-node$ && echo sees the agent || echo sees itself`, "{}", "{}")
			s.apply(strings.Replace(pod, "  restartPolicy:", "  "+tc.share+"\n  restartPolicy:", 1))
			if got := logs(t, s.phase(name, corev1.PodSucceeded), "c0"); got != tc.want {
				t.Errorf("the Pod says %q, want %q", got, tc.want)
			}
		})
	}
}

func TestVariablesComeFromElsewhere(t *testing.T) {
	s := newSpace(t)
	const objects = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, size: "4"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
`
	s.apply(fmt.Sprintf(`
apiVersion: core.keelson.dev/v1
kind: Pod
metadata: {name: vars, labels: {tier: front}}
spec:
  restartPolicy: Never
  containers:
  - name: c0
    image: %s
    command: [sh, -c, "env | grep ^V_ | sort"]
    resources: {requests: {memory: 32Mi}, limits: {cpu: 1500m}}
    envFrom:
    - {prefix: V_ALL_, configMapRef: {name: settings}}
    - {prefix: V_, secretRef: {name: none, optional: true}}
    env:
    - {name: V_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: V_TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    - {name: V_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: V_NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: V_CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: V_MEMORY, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
    - {name: V_TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    - {name: V_NONE, valueFrom: {configMapKeyRef: {name: settings, key: none, optional: true}}}
    - {name: V_BOTH, value: $(V_TOKEN)-$(V_ALL_colour)}
`, cluster.Image(busyboxImage)))
	s.podWhen("vars", "waiting for its ConfigMap", func(pod *keelsonv1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			if w := status.State.Waiting; w != nil && w.Reason == "CreateContainerConfigError" && w.Message == `configmap "settings" not found` {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
	})
	s.apply(objects)
	pod := s.phase("vars", corev1.PodSucceeded)
	want := fmt.Sprintf(`V_ALL_colour=blue
V_ALL_size=4
V_BOTH=s3cret-blue
V_CPU=2
V_IP=%s
V_MEMORY=32
V_NAME=vars
V_NODE=%s
V_TIER=front
V_TOKEN=s3cret
`, pod.Status.PodIP, pod.Spec.NodeName)
	if got := logs(t, pod, "c0"); got != want {
		t.Errorf("the Pod says\n%s\nwant\n%s", got, want)
	}
}

func TestHostNames(t *testing.T) {
	s := newSpace(t)
	for name, tc := range map[string]struct{ spec, want string }{
		"short":      {"hostname: db, subdomain: sub", "db db\n"},
		"full":       {"hostname: db, subdomain: sub, setHostnameAsFQDN: true", fmt.Sprintf("db.sub.%s.svc.cluster.local db.sub.%[1]s.svc.cluster.local\n", s.Name)},
		"overridden": {"hostnameOverride: db.example.org", "db.example.org db.example.org\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &space{t: t, Name: s.Name}
			s.apply(fmt.Sprintf(`{apiVersion: core.keelson.dev/v1, kind: Pod, metadata: {name: %s}, spec: {%s, restartPolicy: Never,
  containers: [{name: c0, image: %q, command: [sh, -c, "echo $(hostname) $HOSTNAME"]}]}}`, name, tc.spec, cluster.Image(busyboxImage)))
			if got := logs(t, s.phase(name, corev1.PodSucceeded), "c0"); got != tc.want {
				t.Errorf("the Pod says %q, want %q", got, tc.want)
			}
		})
	}
}
