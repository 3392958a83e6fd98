package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// The tests of this file tell the stories with which books explain Pods, by what stock
// kubectl prints, with shorter times.

// story is a Pod with the given rest of its spec, as a Kubernetes user writes it.
func story(name, spec string) string {
	return plain(podWith(name, spec))
}

// columns waits until kubectl prints READY, STATUS and RESTARTS of a Pod like the
// regular expression.
func (s *space) columns(name, expression string) {
	s.t.Helper()
	s.eventually(eventual, name+" is shown as "+expression, func() error {
		return matches(s.run("get", "pod", name), `(?m)^`+name+` +`+expression)
	})
}

// inOrder fails unless each expression matches behind the one before.
func inOrder(text string, expressions ...string) error {
	rest := text
	for _, expression := range expressions {
		found := regexp.MustCompile("(?m)" + expression).FindStringIndex(rest)
		if found == nil {
			return fmt.Errorf("%q does not follow in:\n%s", expression, text)
		}
		rest = rest[found[1]:]
	}
	return nil
}

// TestHelloWorldIsReadAfterItsEnd runs one command to its end, reads it, and deletes it.
func TestHelloWorldIsReadAfterItsEnd(t *testing.T) {
	s := newPlainSpace(t)
	file := s.file("hello-world-pod.yaml", story("hello-world", `
  restartPolicy: OnFailure
  containers:
  - {name: hello, image: busybox, command: ["/bin/echo", "Hello World"], env: [{name: MESSAGE, value: hello}]}
`))
	s.want([]string{"create", "-f", file}, "pod/hello-world created\n")
	s.columns("hello-world", `0/1 +Completed +0 `)
	for what, tc := range map[string]struct {
		args []string
		want string
	}{
		"its log":                      {[]string{"logs", "hello-world"}, "Hello World\n"},
		"the log of its container":     {[]string{"logs", "hello-world", "hello"}, "Hello World\n"},
		"its phase, by a template":     {[]string{"get", "pod", "hello-world", "--output=go-template", "--template={{.status.phase}}"}, "Succeeded"},
		"its restarts, by a template":  {[]string{"get", "pod", "hello-world", "--template={{range .status.containerStatuses}}{{.name}}:{{.restartCount}}{{end}}"}, "hello:0"},
		"its exit code, by a template": {[]string{"get", "pod", "hello-world", "--template={{range .status.containerStatuses}}{{.state.terminated.exitCode}}{{end}}"}, "0"},
	} {
		t.Run(what, func(t *testing.T) {
			if got := s.of(t).run(tc.args...); got != tc.want {
				t.Errorf("kubectl %v: %q, want %q", tc.args, got, tc.want)
			}
		})
	}
	description := s.run("describe", "pod", "hello-world")
	if err := inOrder(description, `^Name: +hello-world$`, `^Namespace: +`+s.Name+`$`, `^Node: +\S+/198\.18\.0\.2$`, `^Start Time: +\w{3}, \d`,
		`^Labels: +app=hello-world$`, `^Status: +Succeeded$`, `^IP: +10\.244\.`, `^Containers:$`, `^  hello:$`, `^    Container ID: +containerd://[0-9a-f]{64}$`,
		`^    Image: +\S+busybox`, `^    Image ID: +\S+@sha256:[0-9a-f]{64}$`, `^    State: +Terminated$`, `^      Reason: +Completed$`, `^      Exit Code: +0$`,
		`^      Started: +\w{3}, \d`, `^      Finished: +\w{3}, \d`, `^    Ready: +False$`, `^    Restart Count: +0$`, `^    Environment:$`, `^      MESSAGE: +hello$`,
		`^Conditions:$`, `^  Ready +False`, `^Volumes:$`, `^QoS Class: +BestEffort$`, `^Events:$`); err != nil {
		t.Error(err)
	}
	s.want([]string{"replace", "--force", "-f", file}, `pod "hello-world" deleted`, "pod/hello-world replaced")
	s.columns("hello-world", `0/1 +Completed +0 `)
	s.want([]string{"delete", "pod", "hello-world"}, `pod "hello-world" deleted`)
	s.gone("pod", "hello-world")
}

func TestDescriptionOfARunningPodAndItsEnd(t *testing.T) {
	s := newPlainSpace(t)
	for _, name := range []string{"first", "second"} {
		s.apply(story(name, "  containers: [{name: main, image: busybox, command: [sleep, '3600']}]\n"))
	}
	for _, name := range []string{"first", "second"} {
		s.columns(name, `1/1 +Running +0 `)
	}
	if err := inOrder(s.run("describe", "pod", "first"), `^Status: +Running$`, `^    State: +Running$`, `^      Started: +\w{3}, \d`, `^    Ready: +True$`,
		`^    Restart Count: +0$`, `^    Environment: +<none>$`, `^Conditions:$`, `^  Ready +True`, `^Events:$`, `Scheduled`, `Pulled`, `Created`, `Started`); err != nil {
		t.Error(err)
	}
	s.want([]string{"delete", "pod", "--all"}, `pod "first" deleted`, `pod "second" deleted`)
	s.want([]string{"get", "pods"}, "No resources found in "+s.Name+" namespace.")
}

// TestDownwardVariables asks a Pod for its own name, namespace and address.
func TestDownwardVariables(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(story("downwardapi-env", `
  containers:
  - name: container
    image: busybox
    command: [sleep, "3600"]
    env:
    - {name: MY_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: MY_POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: MY_POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    volumeMounts: [{name: about, mountPath: /about}]
  volumes: [{name: about, downwardAPI: {items: [{path: annotations, fieldRef: {fieldPath: metadata.annotations}}]}}]
`))
	s.columns("downwardapi-env", `1/1 +Running +0 `)
	ip := s.run("get", "pod", "downwardapi-env", "--template={{.status.podIP}}")
	if err := matches(ip, `^10\.244\.\d+\.\d+$`); err != nil {
		t.Error(err)
	}
	out := s.run("exec", "downwardapi-env", "--", "sh", "-c", "env | grep MY_POD | sort")
	if want := "MY_POD_IP=" + ip + "\nMY_POD_NAME=downwardapi-env\nMY_POD_NAMESPACE=" + s.Name + "\n"; out != want {
		t.Errorf("the Pod says %q, want %q", out, want)
	}
	if err := inOrder(s.run("exec", "downwardapi-env", "--", "cat", "/about/annotations"), `^kubectl.kubernetes.io/last-applied-configuration="\{`,
		`^kubernetes.io/config.seen="20\d\d-\d\d-\d\dT\S+"$`, `^kubernetes.io/config.source="api"$`); err != nil {
		t.Error(err)
	}
	s.want([]string{"exec", "downwardapi-env", "--", "date"}, " 20")
	term := openTerminal(t, s.command("exec", "-ti", "downwardapi-env", "--", "/bin/sh"))
	term.until("hostname; echo $((6*7))\n", "downwardapi-env\r\n42")
	term.send("exit\n")
	if code := term.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestContainersShareAFolderOfTheMachine tells that a volume outlives containers, and
// what they write elsewhere does not.
func TestContainersShareAFolderOfTheMachine(t *testing.T) {
	s := newPlainSpace(t)
	folder := t.TempDir()
	s.apply(story("hello-world", fmt.Sprintf(`
  restartPolicy: OnFailure
  containers:
  - name: write
    image: busybox
    command: [sh, -c, "echo 'Hello World' >> /data/hello"]
    volumeMounts: [{name: data, mountPath: /data}]
  - name: hello
    image: busybox
    command: [sh, -c, "until test -s /data/hello; do sleep 0.1; done; cat /data/hello"]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, hostPath: {path: %q}}]
`, folder)))
	s.columns("hello-world", `0/2 +Completed +0 `)
	if got := s.run("logs", "hello-world", "hello"); got != "Hello World\n" {
		t.Errorf("hello says %q", got)
	}

	s.apply(story("again", `
  restartPolicy: OnFailure
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "echo run >> /kept/runs; echo run >> /lost; echo kept $(wc -l < /kept/runs), lost $(wc -l < /lost); test $(wc -l < /kept/runs) = 2"]
    volumeMounts: [{name: kept, mountPath: /kept}]
  volumes: [{name: kept, emptyDir: {}}]
`))
	s.columns("again", `0/1 +Completed +1 `)
	if got := s.run("logs", "again"); got != "kept 2, lost 1\n" {
		t.Errorf("the second container says %q", got)
	}
}

// TestLogPod has one container that ends well and one that does not.
func TestLogPod(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(story("log-pod", `
  restartPolicy: OnFailure
  containers:
  - {name: container1, image: busybox, command: [sh, -c, "echo container1: all is well"]}
  - {name: container2, image: busybox, command: [sh, -c, "echo container2: it failed; exit 1"]}
`))
	s.apply(story("waiting", "  containers: [{name: main, image: not-here.example/none:v1, imagePullPolicy: Never}]\n"))
	// As long as container2 waits, container1 has the word, as upstream.
	s.columns("log-pod", `0/2 +(Error|Completed) +[1-9]\d* `)
	const counts = "--template={{range .status.containerStatuses}}{{.name}}:{{.restartCount}} {{end}}"
	if err := matches(s.run("get", "pod", "log-pod", counts), `^container1:0 container2:[1-9]\d* $`); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"logs", "log-pod", "container1"}, {"logs", "log-pod", "-c", "container1"}} {
		if got := s.run(args...); got != "container1: all is well\n" {
			t.Errorf("kubectl %v: %q", args, got)
		}
	}
	// Between two restarts upstream shows the container that has ended.
	for _, args := range [][]string{{"logs", "log-pod", "container2"}, {"logs", "log-pod", "container2", "--previous"}} {
		s.eventually(soon, strings.Join(args, " "), func() error {
			out, err := s.try(args...)
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return matches(out, `^container2: it failed\n$`)
		})
	}
	s.columns("waiting", `0/1 +ErrImageNeverPull +0 `)
	s.refused([]string{"logs", "waiting"}, `container "main" in pod "waiting" is waiting to start: ErrImageNeverPull`)
}

// TestLastWords reads why containers died, from each its own words.
func TestLastWords(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(story("w-message", `
  containers:
  - {name: main, image: busybox, command: [sh, -c, "echo $(date -u +%Y) I was going to die >> /dev/termination-log"]}
`))
	s.columns("w-message", `[01]/1 +(Completed|CrashLoopBackOff|Running) +[2-9] `)
	const words = "--template={{range .status.containerStatuses}}{{.lastState.terminated.message}}{{end}}"
	if err := matches(s.run("get", "pod", "w-message", words), `^20\d\d I was going to die\n$`); err != nil {
		t.Error(err)
	}
	s.want([]string{"describe", "pod", "w-message"}, "Last State:", "Message:", "I was going to die")
}

func TestLivenessStory(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(story("liveness-exec-pod", `
  containers:
  - name: liveness
    image: busybox
    command: [sh, -c, "touch /tmp/health; sleep 8; rm -f /tmp/health; sleep 600 & wait"]
    livenessProbe: {exec: {command: [cat, /tmp/health]}, initialDelaySeconds: 1, timeoutSeconds: 2, periodSeconds: 1, terminationGracePeriodSeconds: 1}
`))
	s.columns("liveness-exec-pod", `1/1 +Running +0 `)
	s.columns("liveness-exec-pod", `1/1 +Running +1 `)
	s.eventually(soon, "the event", func() error {
		return matches(s.run("describe", "pod", "liveness-exec-pod"),
			`(?m)^  Warning +Unhealthy +.*kubelet +spec\.containers\{liveness\}: Liveness probe failed: cat: can't open '/tmp/health': No such file or directory$`)
	})
}

func TestReadinessStory(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(story("readiness-exec-pod", `
  containers:
  - name: readiness
    image: busybox
    command: [sh, -c, "touch /tmp/ready; sleep 8; rm -f /tmp/ready; sleep 600"]
    readinessProbe: {exec: {command: [cat, /tmp/ready]}, initialDelaySeconds: 1, timeoutSeconds: 2, periodSeconds: 1}
`))
	s.columns("readiness-exec-pod", `1/1 +Running +0 `)
	s.columns("readiness-exec-pod", `0/1 +Running +0 `)
	s.eventually(soon, "the event", func() error {
		return matches(s.run("describe", "pod", "readiness-exec-pod"),
			`(?m)^  Warning +Unhealthy +.*kubelet +spec\.containers\{readiness\}: Readiness probe failed: cat: can't open '/tmp/ready': No such file or directory$`)
	})
	s.columns("readiness-exec-pod", `0/1 +Running +0 `)
	s.want([]string{"get", "events", "--field-selector", "involvedObject.name=readiness-exec-pod,source=kubelet"}, "Unhealthy", "Started")
}

// TestSecretsAreShownBySizeOnly: what a Secret says is not in its description.
func TestSecretsAreShownBySizeOnly(t *testing.T) {
	s := newPlainSpace(t)
	s.want([]string{"create", "-f", s.file("secret.yaml", `
apiVersion: v1
kind: Secret
metadata: {name: mysecret}
data: {username: dmFsdWUtMQ0K, password: dmFsdWUtMg0KDQo=}
`)}, "secret/mysecret created")
	description := s.want([]string{"describe", "secret", "mysecret"}, "Name:         mysecret", "Labels:       <none>", "Annotations:  <none>", "Type:  Opaque",
		"Data\n====\n", "password:  11 bytes", "username:  9 bytes")
	if strings.Contains(description, "value-") || strings.Contains(description, "dmFsdW") {
		t.Errorf("the description tells what nobody should read:\n%s", description)
	}
	s.refused([]string{"create", "-f", s.file("bad.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\ndata: {a: '%%'}\n")}, "illegal base64 data")
	s.refused([]string{"create", "-f", s.file("dockercfg.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\ntype: kubernetes.io/dockercfg\n")},
		`data[.dockercfg]: Required value`)
	const token = "apiVersion: v1\nkind: Secret\nmetadata: {name: robot%s}\ntype: kubernetes.io/service-account-token\n"
	s.refused([]string{"create", "-f", s.file("nobody.yaml", fmt.Sprintf(token, ""))}, "metadata.annotations[kubernetes.io/service-account.name]: Required value")
	s.run("create", "serviceaccount", "robot")
	s.apply(fmt.Sprintf(token, ", annotations: {kubernetes.io/service-account.name: robot}"))
	s.want([]string{"get", "secret", "robot"}, "kubernetes.io/service-account-token")
}

// TestServerByItsAddress gives kubectl the server's address, and nothing else.
func TestServerByItsAddress(t *testing.T) {
	s := newPlainSpace(t)
	lines := follow(t, s.command("proxy", "--port=0"))
	address := "http://" + lines.expect(`Starting to serve on (127\.0\.0\.1:\d+)`)
	for _, kind := range []string{"node", "nodes"} {
		cmd := command(t.Context(), "/dev/null", "-s", address, "get", kind)
		out, err := output(cmd, "")
		if err != nil || !strings.Contains(out, " Ready ") {
			t.Errorf("kubectl -s %s get %s: %v\n%s", address, kind, err, out)
		}
	}
}

// TestStatisticsOfContainers asks the node through the API what a Pod uses.
func TestStatisticsOfContainers(t *testing.T) {
	s := newPlainSpace(t)
	s.apply(story("measured", "  containers: [{name: main, image: busybox, command: [sh, -c, 'dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; sleep 3600'], resources: {limits: {memory: 64Mi}}}]\n"))
	s.columns("measured", `1/1 +Running +0 `)
	node := "/api/v1/nodes/" + nodeName(t) + "/proxy"
	s.eventually(eventual, "the Pod in the summary", func() error {
		var summary struct {
			Node struct{ NodeName string }
			Pods []struct {
				PodRef     struct{ Name, Namespace string }
				Containers []struct {
					Name   string
					Memory struct{ WorkingSetBytes, AvailableBytes uint64 }
					CPU    struct{ UsageCoreNanoSeconds uint64 }
				}
				Network struct{ RxBytes uint64 }
			}
		}
		out, err := s.try("get", "--raw", node+"/stats/summary")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		must(t, json.Unmarshal([]byte(out), &summary))
		if summary.Node.NodeName != nodeName(t) {
			return fmt.Errorf("node %q", summary.Node.NodeName)
		}
		for _, pod := range summary.Pods {
			if pod.PodRef.Name != "measured" || pod.PodRef.Namespace != s.Name || len(pod.Containers) != 1 {
				continue
			}
			c := pod.Containers[0]
			if c.Name == "main" && c.Memory.WorkingSetBytes > 8<<20 && c.Memory.AvailableBytes > 0 && c.Memory.AvailableBytes < 56<<20 && c.CPU.UsageCoreNanoSeconds > 0 {
				return nil
			}
			return fmt.Errorf("the Pod uses %+v", pod)
		}
		return fmt.Errorf("no such Pod in\n%s", out)
	})
	if err := matches(s.run("get", "--raw", node+"/metrics/cadvisor"),
		`(?m)^container_memory_working_set_bytes\{container="main",.*namespace="`+s.Name+`",pod="measured"\} [1-9]`); err != nil {
		t.Error("/metrics/cadvisor has no memory of the container")
	}
}
