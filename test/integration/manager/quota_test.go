package manager_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

const (
	quotaRoom   = 50
	quotaWanted = 200
	// quotaReturned is within what a place comes back that a killed manager had reserved
	// for an object that was never stored: a minute, and a count of what there is.
	quotaReturned = 3 * time.Minute
)

// TestAQuotaHoldsWhileAManagerDies: 200 Pods at once against a quota of 50, asked of two
// managers, of which the leader is killed in the middle. Whoever is answered by nobody
// asks again, as controllers do.
func TestAQuotaHoldsWhileAManagerDies(t *testing.T) {
	install(t)
	ports := []int{env.FreePort(t), env.FreePort(t)}
	addresses := map[int]string{}
	for _, port := range ports {
		addresses[port] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	balancer := env.NewBalancer(t, addresses[ports[0]], addresses[ports[1]])
	managers := map[*replica]string{}
	var all []*replica
	for _, port := range ports {
		r := startReplica(t, "--webhook-port="+strconv.Itoa(port), "--webhook-url="+balancer.URL(), "--leader-elect-resource-name=quota")
		managers[r] = addresses[port]
		all = append(all, r)
	}
	for _, r := range all {
		r.becomesReady(t)
	}
	leader := becomesLeader(t, all...)
	testEnv.Register(t, balancer.URL())
	for r := range managers {
		balancer.Only(managers[r])
		testEnv.EventuallyAdmits(t)
	}
	balancer.Only("")
	ns := testEnv.Namespace(t)
	t.Cleanup(func() { removePods(t, ns) })
	quotaOf(t, ns)

	var answers atomic.Int32
	var killed sync.Once
	var wg sync.WaitGroup
	for range quotaWanted {
		wg.Go(func() {
			eventuallyAnswered(t, ns)
			if answers.Add(1) < quotaRoom/2 {
				return
			}
			killed.Do(func() {
				leader.Kill(t)
				for r, address := range managers {
					if r != leader {
						balancer.Only(address)
					}
				}
			})
		})
	}
	wg.Wait()
	if got := len(testEnv.Pods(t, ns)); got > quotaRoom {
		t.Fatalf("%d Pods, more than the quota of %d", got, quotaRoom)
	}
	within(t, quotaReturned, func() string {
		if err := createPod(t, ns); err != nil && !apierrors.IsForbidden(err) {
			return err.Error()
		}
		if got := len(testEnv.Pods(t, ns)); got != quotaRoom {
			return fmt.Sprintf("%d Pods, want %d", got, quotaRoom)
		}
		return ""
	})
	for range 5 {
		if err := createPod(t, ns); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "exceeded quota: q") {
			t.Errorf("one more than the quota: %v", err)
		}
	}
	if got := len(testEnv.Pods(t, ns)); got != quotaRoom {
		t.Errorf("%d Pods in the end, want %d", got, quotaRoom)
	}
}

// quotaOf makes a quota of Pods, and waits until the API server asks about it.
func quotaOf(t *testing.T, ns string) {
	t.Helper()
	hard := corev1.ResourceList{corev1.ResourcePods: resource.MustParse(strconv.Itoa(quotaRoom)), "requests.cpu": resource.MustParse("1k")}
	testEnv.Create(t, &keelsonv1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}})
	env.Eventually(t, func() string {
		greedy := quotaPod(ns)
		greedy.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1M")}
		if err := testEnv.Client.Create(t.Context(), greedy, client.DryRunAll); !apierrors.IsForbidden(err) {
			return fmt.Sprintf("nobody asks about the quota: %v", err)
		}
		return ""
	})
}

func quotaPod(ns string) *keelsonv1.Pod {
	pod := builders.MakePod("").Namespace(ns).Obj()
	pod.GenerateName = "p-"
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m")}
	return pod
}

func createPod(t *testing.T, ns string) error {
	return testEnv.Client.Create(t.Context(), quotaPod(ns))
}

// eventuallyAnswered creates a Pod until somebody admits or refuses it.
func eventuallyAnswered(t *testing.T, ns string) {
	deadline := time.Now().Add(env.Settled)
	for {
		err := createPod(t, ns)
		switch {
		case err == nil || apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: q"):
			return
		case time.Now().After(deadline):
			t.Errorf("neither admitted nor over the quota: %v", err)
			return
		}
		time.Sleep(env.PollInterval)
	}
}

// removePods deletes the Pods, which no node has: another test's node would take them.
func removePods(t *testing.T, ns string) {
	t.Helper()
	if err := testEnv.Client.DeleteAllOf(context.WithoutCancel(t.Context()), &keelsonv1.Pod{}, client.InNamespace(ns)); err != nil {
		t.Error(err)
	}
	release(t, ns)
}
