package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// How long a condition may take: generous, since no figure here is a measurement.
const (
	soon     = 30 * time.Second
	eventual = 2 * time.Minute
)

// pollInterval is how often a condition is looked at again.
const pollInterval = 100 * time.Millisecond

// space is a namespace of one test's own and a kubectl that works in it, in the plain
// Kubernetes view.
type space struct {
	t    *testing.T
	name string
}

// newSpace makes a namespace that ends with the test.
func newSpace(t *testing.T) *space {
	t.Helper()
	s := &space{t: t, name: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))}
	if out, err := kubectl(t.Context(), "", "create", "namespace", s.name); err != nil {
		t.Fatalf("create namespace: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), eventual)
		defer cancel()
		if t.Failed() {
			for _, args := range [][]string{{"get", "nodes"}, {"get", "all", "-A", "-o", "wide"}, {"get", "events", "-n", s.name}} {
				out, err := kubectl(ctx, "", args...)
				t.Logf("kubectl %s (%v):\n%s", strings.Join(args, " "), err, out)
			}
		}
		if out, err := kubectl(ctx, "", "delete", "namespace", s.name); err != nil {
			t.Errorf("delete namespace: %v\n%s", err, out)
		}
	})
	return s
}

// kubectl runs stock kubectl as the administrator of the plain Kubernetes API.
func kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, cluster.KubectlPath, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.PlainKubeconfig())
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// try runs kubectl in the namespace and returns what it printed, error or not.
func (s *space) try(args ...string) (string, error) {
	return kubectl(s.t.Context(), "", append([]string{"-n", s.name}, args...)...)
}

// command is kubectl in the namespace, not started.
func (s *space) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), cluster.KubectlPath, append([]string{"-n", s.name}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.PlainKubeconfig())
	return cmd
}

// run runs kubectl in the namespace; a failure ends the test.
func (s *space) run(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// apply applies manifests in which IMAGE is the test server's; a failure ends the test.
func (s *space) apply(manifest string) {
	s.t.Helper()
	manifest = strings.ReplaceAll(manifest, "IMAGE", cluster.Image(testserverImage))
	if out, err := kubectl(s.t.Context(), manifest, "-n", s.name, "apply", "-f", "-"); err != nil {
		s.t.Fatalf("kubectl apply: %v\n%s\n%s", err, out, manifest)
	}
}

// pods lists those with a label app.
func (s *space) pods(app string) ([]corev1.Pod, error) {
	out, err := s.try("get", "pods", "-l", "app="+app, "-o", "json")
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var list corev1.PodList
	return list.Items, json.Unmarshal([]byte(out), &list)
}

// readyPods waits until there are that many ready Pods with a label app, and no others.
func (s *space) readyPods(app string, count int) []corev1.Pod {
	s.t.Helper()
	var pods []corev1.Pod
	eventually(s.t, eventual, fmt.Sprintf("%d Pods of %s are ready", count, app), func() (err error) {
		if pods, err = s.pods(app); err != nil {
			return err
		}
		ready := 0
		for i := range pods {
			if isReady(&pods[i]) && pods[i].DeletionTimestamp == nil {
				ready++
			}
		}
		if ready != count || len(pods) != count {
			return fmt.Errorf("%d of %d are ready", ready, len(pods))
		}
		return nil
	})
	return pods
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// eventually repeats check until it returns nil; at the end of the time its last error
// ends the test.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(pollInterval)
	}
}

// keelson runs `keelson node …` on the cluster.
func keelson(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cluster.Keelson(append([]string{"node"}, args...)...)
	if err != nil {
		t.Fatalf("keelson node %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func listNodes() ([]string, error) {
	out, err := kubectl(context.Background(), "", "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return nil, fmt.Errorf("list Nodes: %w\n%s", err, out)
	}
	return strings.Fields(out), nil
}

// nodeReady returns the status of a Node's Ready condition.
func nodeReady(t *testing.T, name string) corev1.ConditionStatus {
	t.Helper()
	out, err := kubectl(t.Context(), "", "get", "node", name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	if err != nil {
		t.Fatalf("get Node %s: %v\n%s", name, err, out)
	}
	return corev1.ConditionStatus(out)
}

func awaitNode(t *testing.T, name string, want corev1.ConditionStatus) {
	t.Helper()
	eventually(t, eventual, fmt.Sprintf("Ready of Node %s is %s", name, want), func() error {
		if got := nodeReady(t, name); got != want {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}
