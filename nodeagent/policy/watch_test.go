package policy

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	upstreamnetworkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllertest"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
)

// apiServer hands out caches that show what is told to them.
type apiServer struct {
	t  *testing.T
	mu sync.Mutex
	// caches are those that run, in the order of their start.
	caches []*runningCache
}

type runningCache struct {
	*informertest.FakeInformers
	server *apiServer
}

func (a *apiServer) newCache() (cache.Cache, error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(keelsonv1.AddToScheme(scheme))
	utilruntime.Must(networkingv1.AddToScheme(scheme))
	utilruntime.Must(corev1.AddToScheme(scheme))
	return &runningCache{FakeInformers: &informertest.FakeInformers{Scheme: scheme}, server: a}, nil
}

// Start runs until ctx ends, as a real cache does.
func (c *runningCache) Start(ctx context.Context) error {
	c.server.mu.Lock()
	c.server.caches = append(c.server.caches, c)
	c.server.mu.Unlock()
	<-ctx.Done()
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	for i, running := range c.server.caches {
		if running == c {
			c.server.caches = append(c.server.caches[:i], c.server.caches[i+1:]...)
			break
		}
	}
	return nil
}

func (a *apiServer) running() int {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.caches)
}

// informer is that of the newest cache, or of the first one.
func (a *apiServer) informer(newest bool, object client.Object) *controllertest.FakeInformer {
	a.t.Helper()
	count := a.running()
	if count == 0 {
		a.t.Fatal("nothing is watched")
	}
	a.mu.Lock()
	c := a.caches[0]
	if newest {
		c = a.caches[count-1]
	}
	a.mu.Unlock()
	informer, err := c.FakeInformerFor(a.t.Context(), object)
	if err != nil {
		a.t.Fatal(err)
	}
	return informer
}

// runEnforcer starts one with watches of an API server until the test ends.
func runEnforcer(t *testing.T, k *kernel) (*Enforcer, *apiServer) {
	t.Helper()
	server := &apiServer{t: t}
	e := New(Options{NodeName: "here", NewCache: server.newCache, Driver: k, Clock: clock.RealClock{}})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = e.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return e, server
}

func denyAll() *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "deny"},
		Spec:       upstreamnetworkingv1.NetworkPolicySpec{PolicyTypes: []upstreamnetworkingv1.PolicyType{"Ingress"}},
	}
}

func apiPod(name, node, ip string) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: name, UID: types.UID("uid-of-" + name)}}
	pod.Spec.NodeName, pod.Status.PodIPs = node, []corev1.PodIP{{IP: ip}}
	return pod
}

func TestPodsAreWatchedWhileThereIsAPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		e, server := runEnforcer(t, k)
		check := func(what string, watches int) {
			t.Helper()
			if got := server.running(); got != watches {
				t.Errorf("%s: %d caches run, want %d", what, got, watches)
			}
		}
		check("without a policy", 1)
		if err := e.Attach(t.Context(), somePod("mine", "1", "10.0.0.1")); err != nil {
			t.Fatal(err)
		}

		policies := server.informer(false, &networkingv1.NetworkPolicy{})
		policies.Add(denyAll())
		check("with a policy", 2)
		server.informer(true, &keelsonv1.Pod{}).Add(apiPod("far", "elsewhere", "10.0.1.1"))
		server.informer(true, &corev1.Namespace{}).Add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
		time.Sleep(time.Second)
		k.shows(t, "10.0.0.1")

		// One that is replaced soon does not list the cluster again.
		policies.Delete(denyAll())
		time.Sleep(peersIdle / 2)
		check("soon after the last policy", 2)
		policies.Add(denyAll())
		time.Sleep(2 * peersIdle)
		check("with another policy", 2)

		policies.Delete(denyAll())
		time.Sleep(peersIdle + time.Second)
		check("long after the last policy", 1)
		k.shows(t)
		if e.mu.Lock(); len(e.pods) != 0 || e.peersKnown {
			t.Errorf("remembers the Pods %v", e.pods)
		}
		e.mu.Unlock()

		// The next one finds a Pod that has been here all the time.
		policies.Add(denyAll())
		check("with the next policy", 2)
		time.Sleep(time.Second)
		k.shows(t, "10.0.0.1")
	})
}

func TestAPodWaitsForTheWatchesOfANewPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		e, server := runEnforcer(t, k)
		policies := server.informer(false, &networkingv1.NetworkPolicy{})
		policies.Add(denyAll())
		server.running()
		policies.Delete(denyAll())
		time.Sleep(2 * peersIdle)
		policies.Add(denyAll())
		if err := e.Attach(t.Context(), somePod("mine", "1", "10.0.0.1")); err != nil {
			t.Fatal(err)
		}
		k.shows(t, "10.0.0.1") // before Attach has returned
	})
}

// TestAbandonedPeersAreNotTaken looks at the moment between the decision to close the
// watches and their end.
func TestAbandonedPeersAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, &kernel{}, 0)
		if !e.abandonPeers() {
			t.Fatal("peers without a policy are kept")
		}
		e.change(func() bool {
			if err := e.tracker.SetPolicy(somePod("a", "", "10.0.0.1").Name, &denyAll().Spec); err != nil {
				t.Error(err)
			}
			return true
		})
		if err := e.Attach(t.Context(), somePod("a", "1", "10.0.0.1")); err == nil {
			t.Error("a Pod started by what nobody keeps up any more")
		}
	})
}

func TestAddressesThatNobodyShowsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, &kernel{}, 1)
		kept, lost := somePod("kept", "1", "10.0.0.1"), somePod("lost", "2", "10.0.0.2")
		e.change(func() bool {
			e.local[kept.UID], e.local[lost.UID] = localPod{pod: kept, gone: true}, localPod{pod: lost, gone: true}
			e.pods[kept.Name] = kept
			return e.peersListed()
		})
		var got []string
		for uid := range e.local {
			got = append(got, string(uid))
		}
		if diff := cmp.Diff([]string{"1"}, got); diff != "" {
			t.Errorf("remembered (-want +got):\n%s", diff)
		}
		if e.local[kept.UID].pod.IPs[0] != netip.MustParseAddr("10.0.0.1") {
			t.Error("another address")
		}
	})
}
