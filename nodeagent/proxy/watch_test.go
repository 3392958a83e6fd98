package proxy

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables/fake"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

const watchPatience = 30 * time.Second

// watched is one kind of an API in memory behind a real informer.
type watched struct {
	*fcache.FakeControllerSource
	informer toolscache.SharedIndexInformer
	// gate is closed when the first list may be answered.
	gate chan struct{}
}

func newWatched(example runtime.Object) *watched {
	w := &watched{FakeControllerSource: fcache.NewFakeControllerSource(), gate: make(chan struct{})}
	w.informer = toolscache.NewSharedIndexInformer(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			select {
			case <-w.gate:
				return w.List(o)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if o.SendInitialEvents != nil {
				return nil, errors.New("this API knows no streaming lists")
			}
			return w.Watch(o)
		},
	}, example, 0, nil)
	return w
}

// fakeCache is the part of a cache that the proxy uses.
type fakeCache struct {
	cache.Cache
	services, slices, nodes *watched
	err                     error
}

func (c *fakeCache) GetInformer(_ context.Context, object client.Object, _ ...cache.InformerGetOption) (cache.Informer, error) {
	if c.err != nil {
		return nil, c.err
	}
	switch object.(type) {
	case *keelsonv1.Service:
		return c.services.informer, nil
	case *keelsonv1.Node:
		return c.nodes.informer, nil
	}
	return c.slices.informer, nil
}

// recordedIPTables notes what every write left.
type recordedIPTables struct {
	*fake.IPTables
	mu     sync.Mutex
	writes []string
}

func (r *recordedIPTables) Restore(ctx context.Context, input []byte) error {
	err := r.IPTables.Restore(ctx, input)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = append(r.writes, r.Dump())
	return err
}

func (r *recordedIPTables) firstWrite() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.writes) == 0 {
		return ""
	}
	return r.writes[0]
}

// running is a Proxy on a fake API and a fake iptables.
type running struct {
	*Proxy
	t     *testing.T
	cache *fakeCache
	rules *recordedIPTables
	ended chan error
	stop  context.CancelFunc
}

func startProxy(t *testing.T, edit func(*Options)) *running {
	t.Helper()
	r := &running{t: t, rules: &recordedIPTables{IPTables: fake.New()}, ended: make(chan error, 1),
		cache: &fakeCache{services: newWatched(&keelsonv1.Service{}), slices: newWatched(&discoveryv1.EndpointSlice{}), nodes: newWatched(&keelsonv1.Node{})}}
	close(r.cache.nodes.gate)
	o := Options{Cache: r.cache, NodeName: thisNode, Facts: testFacts(), IPTables: r.rules, IP6Tables: fake.New(), MinSyncInterval: time.Millisecond}
	if edit != nil {
		edit(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	// The machine's own connections are none of this test's business.
	for _, s := range p.syncers {
		s.clean = func(model.Family, *conntrack.Wanted) (int, error) { return 0, nil }
	}
	r.Proxy = p
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	var parts sync.WaitGroup
	for _, kind := range []*watched{r.cache.services, r.cache.slices, r.cache.nodes} {
		parts.Go(func() { kind.informer.RunWithContext(ctx) })
	}
	parts.Go(func() { r.ended <- p.Run(ctx) })
	t.Cleanup(func() {
		stop()
		parts.Wait()
	})
	return r
}

func (r *running) eventually(what string, done func(rules string) bool) {
	r.t.Helper()
	err := wait.PollUntilContextTimeout(r.t.Context(), 5*time.Millisecond, watchPatience, true,
		func(context.Context) (bool, error) { return done(r.rules.Dump()), nil })
	if err != nil {
		r.t.Fatalf("not within %v: %s; rules:\n%s", watchPatience, what, r.rules.Dump())
	}
}

func apiService(name, ip string) *keelsonv1.Service {
	s := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.ClusterIP = ip
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	return s
}

// apiSlice has ready endpoints of a Service.
func apiSlice(service string, ips ...string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: service + "-abcde", Labels: map[string]string{upstreamdiscoveryv1.LabelServiceName: service}},
		AddressType: upstreamdiscoveryv1.AddressTypeIPv4,
		Ports:       []upstreamdiscoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, ip := range ips {
		slice.Endpoints = append(slice.Endpoints, upstreamdiscoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return slice
}

func has(rules, text string) bool { return strings.Contains(rules, text) }

func TestNothingIsWrittenBeforeEverythingIsKnown(t *testing.T) {
	r := startProxy(t, func(o *Options) { o.AwaitHostPorts = true })
	r.cache.services.Add(apiService("web", "10.254.0.10"))
	r.cache.slices.Add(apiSlice("web", podA))

	// Each part comes when the ones before it have been taken in.
	close(r.cache.services.gate)
	r.eventually("Services are read", func(string) bool { return r.cache.services.informer.HasSynced() })
	close(r.cache.slices.gate)
	r.eventually("slices are read", func(string) bool { return r.cache.slices.informer.HasSynced() })
	r.SetHostPorts([]model.HostPort{{Pod: "default/a", Protocol: model.TCP, HostPort: 8000, Target: netip.MustParseAddrPort(podA + ":9000")}})

	r.eventually("rules are written", func(string) bool { return r.rules.firstWrite() != "" })
	for _, want := range []string{"10.254.0.10/32", podA + ":8080", podA + ":9000"} {
		if !has(r.rules.firstWrite(), want) {
			t.Errorf("the first write has no %s:\n%s", want, r.rules.firstWrite())
		}
	}
}

func TestProxyFollowsTheAPI(t *testing.T) {
	r := startProxy(t, nil)
	web, other := apiService("web", "10.254.0.10"), apiService("other", "10.254.0.11")
	r.cache.services.Add(web)
	close(r.cache.services.gate)
	close(r.cache.slices.gate)
	r.eventually("a Service without endpoints is rejected", func(rules string) bool { return has(rules, "10.254.0.10/32") })

	r.cache.slices.Add(apiSlice("web", podA))
	r.eventually("an endpoint comes", func(rules string) bool { return has(rules, podA+":8080") })
	r.cache.slices.Modify(apiSlice("web", podB))
	r.eventually("an endpoint is replaced", func(rules string) bool { return has(rules, podB+":8080") && !has(rules, podA+":8080") })
	r.cache.services.Add(other)
	r.eventually("a Service comes", func(rules string) bool { return has(rules, "10.254.0.11/32") })
	moved := apiService("other", "10.254.0.12")
	r.cache.services.Modify(moved)
	r.eventually("a Service moves", func(rules string) bool { return has(rules, "10.254.0.12/32") && !has(rules, "10.254.0.11/32") })
	r.cache.services.Delete(moved)
	r.eventually("a Service goes", func(rules string) bool { return !has(rules, "10.254.0.12/32") })

	facts := testFacts()
	facts.PodCIDR = netip.MustParsePrefix("10.244.7.0/24")
	if err := r.SetNodeFacts(facts); err != nil {
		t.Fatal(err)
	}
	r.eventually("the node's range is used", func(rules string) bool { return has(rules, "-s 10.244.7.0/24") && !has(rules, "10.244.1.0/24") })
	bad := facts
	bad.ServiceCIDR = netip.Prefix{}
	if err := r.SetNodeFacts(bad); err == nil {
		t.Error("facts without a Service range were accepted")
	}

	r.cache.slices.Delete(apiSlice("web", podB))
	r.eventually("the slice goes", func(rules string) bool { return !has(rules, podB+":8080") && has(rules, "10.254.0.10/32") })
}

// A deletion that happens while the watch is broken arrives without its last state.
func TestDeletionDuringABrokenWatch(t *testing.T) {
	r := startProxy(t, nil)
	web := apiService("web", "10.254.0.10")
	r.cache.services.Add(web)
	r.cache.slices.Add(apiSlice("web", podA))
	close(r.cache.services.gate)
	close(r.cache.slices.gate)
	r.eventually("the Service works", func(rules string) bool { return has(rules, podA+":8080") })

	r.cache.services.DeleteDropWatch(web)
	r.cache.slices.DeleteDropWatch(apiSlice("web", podA))
	r.cache.services.ResetWatch()
	r.cache.slices.ResetWatch()
	r.eventually("nothing of it is left", func(rules string) bool { return !has(rules, "10.254.0.10/32") && !has(rules, podA+":8080") })
}

func TestRunEnds(t *testing.T) {
	wait := func(t *testing.T, r *running) error {
		t.Helper()
		select {
		case err := <-r.ended:
			return err
		case <-time.After(watchPatience):
			t.Fatal("Run goes on")
			return nil
		}
	}
	t.Run("with an error when the cache cannot watch", func(t *testing.T) {
		r := startProxy(t, func(o *Options) { o.Cache = &fakeCache{err: errors.New("no such kind")} })
		if err := wait(t, r); err == nil || err.Error() != "watching *v1.Service: no such kind" {
			t.Errorf("error is %v", err)
		}
	})
	for name, open := range map[string]bool{"while it waits for Services": false, "while it waits for host ports": true} {
		t.Run(name, func(t *testing.T) {
			r := startProxy(t, func(o *Options) { o.AwaitHostPorts = true })
			if open {
				close(r.cache.services.gate)
				close(r.cache.slices.gate)
			}
			r.stop()
			if err := wait(t, r); err != nil {
				t.Errorf("error is %v", err)
			}
			if first := r.rules.firstWrite(); first != "" {
				t.Errorf("rules were written:\n%s", first)
			}
		})
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	registry := prometheus.NewRegistry()
	if _, err := New(Options{Cache: &fakeCache{}, Facts: testFacts(), Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	noRange := testFacts()
	noRange.ServiceCIDR = netip.Prefix{}
	for want, o := range map[string]Options{
		"Cache is required":   {Facts: testFacts()},
		"ServiceCIDR":         {Cache: &fakeCache{}, Facts: noRange},
		"registering metrics": {Cache: &fakeCache{}, Facts: testFacts(), Registerer: registry},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one about %s", err, want)
		}
	}
}
