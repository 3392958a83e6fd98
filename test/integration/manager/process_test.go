package manager_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

// replica is one manager process.
type replica struct {
	*env.Process
	health, metrics string
}

func startReplica(t *testing.T, flags ...string) *replica {
	t.Helper()
	r := &replica{
		health:  net.JoinHostPort("127.0.0.1", strconv.Itoa(env.FreePort(t))),
		metrics: net.JoinHostPort("127.0.0.1", strconv.Itoa(env.FreePort(t))),
	}
	r.Process = env.StartProcess(t, binary, append([]string{
		"--kubeconfig", testEnv.ManagerKubeconfig(t),
		"--health-bind-address", r.health,
		"--metrics-bind-address", r.metrics,
		"--webhook-bind-address", "127.0.0.1",
		"--webhook-port", strconv.Itoa(env.FreePort(t)),
		"--leader-elect-lease-duration=4s", "--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=500ms",
		"-v=2",
	}, flags...)...)
	return r
}

// residentMemory is what the kernel says; a figure to read, not to judge by.
func (r *replica) residentMemory(t *testing.T) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func get(url string) (int, string) {
	response, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

func (r *replica) becomesReady(t *testing.T) {
	t.Helper()
	env.Eventually(t, func() string {
		if r.HasEnded() {
			t.Fatal("the manager ended")
		}
		if code, body := get("http://" + r.health + "/readyz"); code != http.StatusOK {
			return fmt.Sprintf("/readyz says %d %s", code, body)
		}
		return ""
	})
}

var leading = regexp.MustCompile(`(?m)^leader_election_master_status\{[^}]*\} 1$`)

func (r *replica) leads() bool {
	code, body := get("http://" + r.metrics + "/metrics")
	return code == http.StatusOK && leading.MatchString(body)
}

func becomesLeader(t *testing.T, replicas ...*replica) *replica {
	t.Helper()
	var leader *replica
	env.Eventually(t, func() string {
		for _, r := range replicas {
			if r.leads() {
				leader = r
				return ""
			}
		}
		return "nobody leads"
	})
	return leader
}

func web(ns string, replicas int32) *keelsonv1.ReplicationController {
	labels := map[string]string{"app": "web"}
	return &keelsonv1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec: corev1.ReplicationControllerSpec{
			Replicas: &replicas, Selector: labels,
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: builders.MakePod("x").Obj().Spec},
		},
	}
}

// readyNode is a Node whose agent has just been heard.
func readyNode(t *testing.T, name string) {
	t.Helper()
	node := create(t, &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	body := `{"status":{"allocatable":{"cpu":"4","memory":"4Gi","pods":"110"},"conditions":[{"type":"Ready","status":"True"}]}}`
	if err := testEnv.Client.Status().Patch(t.Context(), node, merge(body)); err != nil {
		t.Fatal(err)
	}
}

func becomesPlaced(t *testing.T, ns string, want int) {
	t.Helper()
	env.Eventually(t, func() string {
		pods := &keelsonv1.PodList{}
		if err := testEnv.Client.List(t.Context(), pods, client.InNamespace(ns)); err != nil {
			return err.Error()
		}
		placed := 0
		for _, pod := range pods.Items {
			if pod.Spec.NodeName != "" && pod.DeletionTimestamp == nil {
				placed++
			}
		}
		if placed != want || len(pods.Items) != want {
			return fmt.Sprintf("%d Pods, %d of them placed, want %d", len(pods.Items), placed, want)
		}
		return ""
	})
}

// release plays the agent that ends every Pod at once.
func release(t *testing.T, ns string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	pods := &keelsonv1.PodList{}
	if err := testEnv.Client.List(ctx, pods, client.InNamespace(ns)); err != nil {
		t.Error(err)
	}
	for i := range pods.Items {
		if err := testEnv.Client.Patch(ctx, &pods.Items[i], merge(`{"metadata":{"finalizers":null}}`)); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	}
}

func TestAnotherReplicaTakesOverFromAKilledLeader(t *testing.T) {
	install(t)
	one, two := startReplica(t), startReplica(t)
	one.becomesReady(t)
	two.becomesReady(t)
	leader := becomesLeader(t, one, two)
	other := one
	if leader == one {
		other = two
	}
	if other.leads() {
		t.Fatal("both lead")
	}

	ns := testEnv.Namespace(t)
	t.Cleanup(func() { release(t, ns) })
	readyNode(t, "takeover")
	rc := create(t, web(ns, 2))
	becomesPlaced(t, ns, 2)

	leader.Kill(t)
	if err := testEnv.Client.Patch(t.Context(), rc, merge(`{"spec":{"replicas":4}}`)); err != nil {
		t.Fatal(err)
	}

	if becomesLeader(t, other) != other {
		t.Fatal("the other replica does not lead")
	}
	becomesPlaced(t, ns, 4)
	t.Logf("resident memory of the leader: %s", other.residentMemory(t))
	for _, r := range []*replica{leader, other} {
		if log := r.Log.String(); strings.Contains(log, "forbidden") {
			t.Errorf("the manager lacks a right:\n%s", log)
		}
	}
}

// TestKilledLeaderLeadsAgainAtOnce: without its own name it would have to wait for the
// end of its own Lease, ten minutes here.
func TestKilledLeaderLeadsAgainAtOnce(t *testing.T) {
	install(t)
	flags := []string{"--leader-elect-identity=the-one", "--leader-elect-lease-duration=10m", "--leader-elect-renew-deadline=9m", "--leader-elect-resource-name=named"}
	first := startReplica(t, flags...)
	first.becomesReady(t)
	becomesLeader(t, first)
	first.Kill(t)

	second := startReplica(t, flags...)
	second.becomesReady(t)
	becomesLeader(t, second)
}

func TestManagerWithoutAPIServerWaitsAndSaysFor(t *testing.T) {
	r := startReplica(t, "--kubeconfig", unreachable(t))
	env.Eventually(t, func() string {
		if log := r.Log.String(); !strings.Contains(log, "Waiting for the API server") {
			return "log is " + log
		}
		return ""
	})
	if r.HasEnded() {
		t.Error("the manager gave up")
	}
}

// unreachable is a kubeconfig of a loopback port where nobody listens.
func unreachable(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	content := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:%d"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: x
`, env.FreePort(t))
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBadFlagsAreAllNamedAtOnce(t *testing.T) {
	out, err := exec.Command(binary, "--mode=both", "--service-cidr=10.244.0.0/16", "--node-port-range=nine", "--controllers=*,-nonsense").CombinedOutput()
	if err == nil {
		t.Fatal("the manager accepted them")
	}
	for _, want := range []string{"--mode", "--service-cidr", "overlaps", "--node-port-range", `no controller "nonsense"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output does not mention %q:\n%s", want, out)
		}
	}
}
