package manager_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/nodeaccess"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

// fire is how much is done, and how often the manager dies over it.
type fire struct {
	replicas, rolling, completions int32
	objects, kills                 int
	settled                        time.Duration
}

// firepower is small unless KEELSON_FIRE=full. KEELSON_FIRE_SEED repeats a run.
func firepower(t *testing.T) (fire, *rand.Rand) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("KEELSON_FIRE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("KEELSON_FIRE_SEED: %v", err)
		}
	}
	t.Logf("KEELSON_FIRE_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	if os.Getenv("KEELSON_FIRE") == "full" {
		return fire{replicas: 500, rolling: 100, completions: 200, objects: 1000, kills: 12, settled: 10 * time.Minute}, random
	}
	return fire{replicas: 40, rolling: 12, completions: 20, objects: 60, kills: 3, settled: 2 * time.Minute}, random
}

// TestManagerUnderFire kills the manager, as a process, at random moments while
// everything happens at once, and wants the exact end: nothing made or counted twice,
// nothing left over.
func TestManagerUnderFire(t *testing.T) {
	install(t)
	power, random := firepower(t)
	agent := testEnv.StartFakeAgent(t)
	bigNode(t)
	rcs, rollouts, jobs := testEnv.Namespace(t), testEnv.Namespace(t), testEnv.Namespace(t)
	// Pods are released some time after their Node, and what a node may read is taken back
	// a minute after its last Pod: either would be during another test.
	t.Cleanup(func() {
		removeWorkloads(t, rollouts)
		takeBack(t, rcs, rollouts, jobs)
	})
	doomed := full(t, power.objects)

	rc := create(t, web(rcs, power.replicas))
	deployment := create(t, builders.MakeDeployment("web", power.rolling).Namespace(rollouts).Obj())
	job := create(t, builders.MakeJob("sums").Namespace(jobs).Completions(power.completions).Parallelism(power.completions/2).Obj())
	if err := testEnv.Client.Delete(t.Context(), doomed); err != nil {
		t.Fatal(err)
	}
	last := underFire(t, power.kills, random)
	within(t, power.settled, func() string {
		return first(
			func() string { return ready(t, rc, power.replicas) },
			func() string { return rolledOut(t, deployment, power.rolling) },
			func() string { return completed(t, job, power.completions) },
			func() string { return ended(t, doomed) },
		)
	})
	for ns, want := range map[string]int32{rcs: power.replicas, rollouts: power.rolling, jobs: power.completions} {
		if got := agent.Seen(ns); got != int(want) {
			t.Errorf("there were %d Pods in %s, want %d", got, ns, want)
		}
	}
	last.Kill(t)

	modify(t, rc, `{"spec":{"replicas":0}}`)
	modify(t, deployment, `{"spec":{"template":{"metadata":{"labels":{"round":"two"}}}}}`)
	if err := testEnv.Client.Delete(t.Context(), job, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	underFire(t, power.kills, random)
	within(t, power.settled, func() string {
		return first(
			func() string { return ready(t, rc, 0) },
			func() string { return rolledOut(t, deployment, power.rolling) },
			func() string { return count(t, rcs, 0) },
			func() string { return count(t, rollouts, power.rolling) },
			func() string { return count(t, jobs, 0) },
		)
	})
	for ns, want := range map[string]int32{rcs: power.replicas, rollouts: 2 * power.rolling, jobs: power.completions} {
		if got := agent.Seen(ns); got != int(want) {
			t.Errorf("there were %d Pods in %s in all, want %d", got, ns, want)
		}
	}
	var sets appsv1.ReplicaSetList
	if err := testEnv.Client.List(t.Context(), &sets, client.InNamespace(rollouts)); err != nil {
		t.Fatal(err)
	}
	if len(sets.Items) != 2 {
		t.Errorf("%d ReplicaSets, want 2", len(sets.Items))
	}
}

// removeWorkloads removes a Deployment and its Pods as if their node had ended them.
func removeWorkloads(t *testing.T, ns string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, kind := range []client.Object{&appsv1.Deployment{}, &appsv1.ReplicaSet{}, &keelsonv1.Pod{}} {
		if err := testEnv.Client.DeleteAllOf(ctx, kind, client.InNamespace(ns)); err != nil {
			t.Error(err)
		}
	}
	release(t, ns)
}

// takeBack removes what the node may read in the namespaces.
func takeBack(t *testing.T, namespaces ...string) {
	ctx := context.WithoutCancel(t.Context())
	for _, ns := range namespaces {
		for _, kind := range []client.Object{&rbacv1.RoleBinding{}, &rbacv1.Role{}} {
			err := testEnv.Client.DeleteAllOf(ctx, kind, client.InNamespace(ns), client.MatchingLabelsSelector{Selector: nodeaccess.Selector()})
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// underFire starts managers and kills them, each after a random time, and returns the
// last, which lives.
func underFire(t *testing.T, kills int, random *rand.Rand) *replica {
	t.Helper()
	flags := []string{
		"--leader-elect-identity=under-fire", "--node-monitor-grace-period=1h", "-v=0",
		// A leader that cannot renew its Lease in time ends by itself, and nobody starts it
		// again here: a busy machine must not look like a lost Pod.
		"--leader-elect-lease-duration=10m", "--leader-elect-renew-deadline=9m",
		// The Lease is held for longer than the other tests wait, so it is one of its own.
		"--leader-elect-resource-name=under-fire",
	}
	for range kills {
		victim := startReplica(t, flags...)
		// Half of them die before or while they begin to lead.
		if random.IntN(2) == 0 {
			becomesLeader(t, victim)
		}
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond) // when it dies is what the test varies
		victim.Kill(t)
	}
	last := startReplica(t, flags...)
	becomesLeader(t, last)
	return last
}

// within is Eventually for what takes longer than usual.
func within(t *testing.T, limit time.Duration, check func() string) {
	t.Helper()
	complaint := ""
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * env.PollInterval) {
		if complaint = check(); complaint == "" {
			return
		}
	}
	t.Fatalf("still after %s: %s", limit, complaint)
}

func first(checks ...func() string) string {
	for _, check := range checks {
		if complaint := check(); complaint != "" {
			return complaint
		}
	}
	return ""
}

// bigNode has room for all of it.
func bigNode(t *testing.T) {
	t.Helper()
	node := create(t, &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "under-fire"}})
	body := `{"status":{"allocatable":{"cpu":"4000","memory":"4Ti","pods":"2000"},"conditions":[{"type":"Ready","status":"True"}]}}`
	if err := testEnv.Client.Status().Patch(t.Context(), node, merge(body)); err != nil {
		t.Fatal(err)
	}
}

// full is a namespace with many objects.
func full(t *testing.T, objects int) *corev1.Namespace {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: testEnv.Namespace(t)}}
	for i := range objects {
		o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: fmt.Sprintf("object-%d", i)}}
		if err := testEnv.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return ns
}

func modify(t *testing.T, o client.Object, patch string) {
	t.Helper()
	if err := testEnv.Client.Patch(t.Context(), o, merge(patch)); err != nil {
		t.Fatal(err)
	}
}

func refresh(t *testing.T, o client.Object) {
	t.Helper()
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
}

func ready(t *testing.T, rc *keelsonv1.ReplicationController, want int32) string {
	refresh(t, rc)
	if s := rc.Status; s.ObservedGeneration != rc.Generation || s.Replicas != want || s.ReadyReplicas != want {
		return fmt.Sprintf("ReplicationController has %d Pods, %d of them ready, want %d", s.Replicas, s.ReadyReplicas, want)
	}
	return ""
}

func rolledOut(t *testing.T, d *appsv1.Deployment, want int32) string {
	refresh(t, d)
	s := d.Status.DeploymentStatus
	if s.ObservedGeneration != d.Generation || s.Replicas != want || s.UpdatedReplicas != want || s.AvailableReplicas != want {
		return fmt.Sprintf("Deployment has %d Pods, %d up to date, %d available, want %d", s.Replicas, s.UpdatedReplicas, s.AvailableReplicas, want)
	}
	return ""
}

func completed(t *testing.T, job *batchv1.Job, want int32) string {
	refresh(t, job)
	if s := job.Status; s.Succeeded != want || s.CompletionTime == nil || s.Failed != 0 {
		return fmt.Sprintf("Job has %d completions and %d failures, want %d", s.Succeeded, s.Failed, want)
	}
	return ""
}

func ended(t *testing.T, ns *corev1.Namespace) string {
	err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(ns), ns)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err == nil {
		return fmt.Sprintf("namespace %s is %s: %v", ns.Name, ns.Status.Phase, ns.Status.Conditions)
	}
	return ""
}

func count(t *testing.T, ns string, want int32) string {
	pods := &keelsonv1.PodList{}
	if err := testEnv.Client.List(t.Context(), pods, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != int(want) {
		return fmt.Sprintf("%d Pods in %s, want %d", len(pods.Items), ns, want)
	}
	return ""
}
