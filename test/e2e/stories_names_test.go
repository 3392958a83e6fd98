package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// runtimeContainer is what containerd's own client shows of a container.
type runtimeContainer struct {
	ID        string
	Image     string
	CreatedAt time.Time
	Labels    map[string]string
	Spec      struct {
		Process  struct{ Args []string }
		Hostname string
	}
}

// ctr runs containerd's own client in the namespace of Keelson.
func ctr(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--address", "/run/keelson/containerd/containerd.sock", "--namespace", "keelson"}, args...)
	out, err := exec.CommandContext(t.Context(), "ctr", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestRuntimeShowsContainers: who looks at the machine finds the containers of a Pod, and
// what holds the Pod together, by its names; nothing runs to hold it.
func TestRuntimeShowsContainers(t *testing.T) {
	s := newPlainSpace(t)
	s.runningPod("two", "exec sleep 3601", "exec sleep 3602")
	started := s.field("pod/two", ".status.startTime")
	uid := s.field("pod/two", ".metadata.uid")
	states := columns(ctr(t, "tasks", "ls"))
	ids := strings.Fields(ctr(t, "containers", "ls", "--quiet", `labels."keelson.dev/pod-uid"==`+uid))
	var found []string
	for _, id := range ids {
		var c runtimeContainer
		if err := json.Unmarshal([]byte(ctr(t, "containers", "info", id)), &c); err != nil {
			t.Fatal(err)
		}
		if c.Labels["keelson.dev/pod-name"] != "two" || c.Labels["keelson.dev/pod-namespace"] != s.Name {
			t.Errorf("labels of %s are %v", id, c.Labels)
		}
		if begun, err := time.Parse(time.RFC3339, started); err != nil || c.CreatedAt.Before(begun.Add(-time.Second)) || c.CreatedAt.After(time.Now()) {
			t.Errorf("%s is from %s, the Pod from %s (%v)", id, c.CreatedAt, started, err)
		}
		kind := c.Labels["keelson.dev/kind"]
		if runs := matches(states, `(?m)^`+id+` \d+ RUNNING$`) == nil; runs != (kind == "container") {
			t.Errorf("%s %s has a process: %v", kind, id, runs)
		}
		found = append(found, fmt.Sprintf("%s %s %s: %s", kind, c.Labels["keelson.dev/container"], c.Image, strings.Join(c.Spec.Process.Args, " ")))
	}
	slices.Sort(found)
	busybox := cluster.Image(busyboxImage)
	if len(found) != 3 || !strings.HasSuffix(found[0], busybox+": sh -c exec sleep 3601") || !strings.HasPrefix(found[0], "container c0 ") ||
		!strings.HasSuffix(found[1], busybox+": sh -c exec sleep 3602") || !strings.HasPrefix(found[1], "container c1 ") ||
		!strings.HasPrefix(found[2], "sandbox ") {
		t.Errorf("the runtime shows\n%s", strings.Join(found, "\n"))
	}
}

// TestPodsAreNamedAfterTheirController, and so are their hosts.
func TestPodsAreNamedAfterTheirController(t *testing.T) {
	s := newPlainSpace(t)
	const of = `
metadata: {name: %[1]s}
spec:
  replicas: 2
  %[2]s
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: %[3]s, command: [sleep, '3600']}]}
`
	busybox := cluster.Image(busyboxImage)
	for kind, tc := range map[string]struct{ manifest, name string }{
		"Deployment":  {fmt.Sprintf(of, "web", "", busybox), `^web-[a-z0-9]{1,10}-[a-z0-9]{5}$`},
		"ReplicaSet":  {fmt.Sprintf(of, "set", "", busybox), `^set-[a-z0-9]{5}$`},
		"StatefulSet": {fmt.Sprintf(of, "db", "serviceName: db", busybox), `^db-[01]$`},
	} {
		t.Run(kind, func(t *testing.T) {
			s := s.of(t)
			s.apply("apiVersion: apps/v1\nkind: " + kind + tc.manifest)
			name := strings.ToLower(kind) + "/" + s.run("get", kind, "-o", "jsonpath={.items[0].metadata.name}")
			s.run("wait", "--for=jsonpath={.status.readyReplicas}=2", name, "--timeout=120s")
			app := s.field(name, ".spec.selector.matchLabels.app")
			for _, pod := range strings.Fields(s.run("get", "pods", "-l", "app="+app, "-o", "jsonpath={.items[*].metadata.name}")) {
				if err := matches(pod, tc.name); err != nil {
					t.Error(err)
				}
				if host := strings.TrimSpace(s.run("exec", pod, "--", "hostname")); host != pod {
					t.Errorf("the host of %s calls itself %s", pod, host)
				}
			}
		})
	}
}
