package agent

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	coordinationv1 "k8s.io/api/coordination/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/network"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
	"github.com/keelson-dev/keelson/nodeagent/node"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
	"github.com/keelson-dev/keelson/nodeagent/userns"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

const patience = 30 * time.Second

// machine is an agent on a fake runtime against a real API server.
type machine struct {
	t       *testing.T
	name    string
	runtime *fake.Runtime
	network *fakeNetwork
	cgroups *fakeCgroups
	proxy   *fakeProxy
	options *Options
	client  client.Client
	stop    func()
	// serviceAddressWait replaces the agent's unless it is zero.
	serviceAddressWait time.Duration
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	m := &machine{t: t, name: name, runtime: fake.New(clock.RealClock{}), client: testEnv.Client,
		network: &fakeNetwork{ips: map[types.UID]netip.Addr{}}, cgroups: &fakeCgroups{}, proxy: &fakeProxy{}}
	m.options = NewOptions()
	m.options.NodeName, m.options.RootDir, m.options.LogDir = name, t.TempDir(), t.TempDir()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: keelsonv1.NodeLeaseNamespace}}
	if err := m.client.Create(t.Context(), ns); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return m
}

// boot starts the agent; it ends with the test unless stop is called before.
func (m *machine) boot() *agent {
	m.t.Helper()
	return m.bootAt(testEnv.Config)
}

// bootAt starts the agent for the API server at config.
func (m *machine) bootAt(config *rest.Config) *agent {
	m.t.Helper()
	api, err := newAPI(config, m.name)
	if err != nil {
		m.t.Fatal(err)
	}
	s := settings{
		name: m.name, version: "v0.0.0-test", ip: netip.MustParseAddr("192.0.2.1"), ips: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		machine: node.Machine{CPUs: 4, MemoryBytes: 8 << 30, Hostname: m.name, OS: "linux", Architecture: "amd64"},
		pods:    ranges.MustParse("10.244.0.0/16"), services: ranges.MustParse("10.254.0.0/16"),
	}
	a := newAgent(m.options, s, dependencies{
		api: api, runtime: m.runtime, runtimeName: "fake", network: m.network, cgroups: m.cgroups, proxy: m.proxy,
		images: images.NewManager(m.runtime, clock.RealClock{}), storage: m.runtime, clock: clock.RealClock{},
		users: userns.NewAllocator(filepath.Join(m.options.RootDir, lifecycle.PodsFolder)),
	})
	a.serviceAddressWait = cmp.Or(m.serviceAddressWait, a.serviceAddressWait)
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Background()))
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := api.cache.Start(ctx); err != nil {
			m.t.Errorf("cache: %v", err)
		}
	})
	parts.Go(func() {
		if err := a.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			m.t.Errorf("agent: %v", err)
		}
	})
	m.stop = sync.OnceFunc(func() {
		cancel()
		parts.Wait()
	})
	m.t.Cleanup(m.stop)
	return a
}

// join boots, gives the Node a Pod range and waits until it is Ready.
func (m *machine) join() *agent {
	m.t.Helper()
	a := m.boot()
	m.eventually("the Node is registered", func(ctx context.Context) bool {
		var n keelsonv1.Node
		if m.client.Get(ctx, client.ObjectKey{Name: m.name}, &n) != nil {
			return false
		}
		if n.Spec.PodCIDR == "" {
			patch := client.MergeFrom(n.DeepCopy())
			n.Spec.PodCIDR = "10.244.0.0/24"
			return m.client.Patch(ctx, &n, patch) == nil
		}
		return true
	})
	m.eventually("the Node is Ready", func(ctx context.Context) bool { return m.nodeStatus(ctx) == "Ready" })
	return a
}

func (m *machine) nodeStatus(ctx context.Context) string {
	var n keelsonv1.Node
	if err := m.client.Get(ctx, client.ObjectKey{Name: m.name}, &n); err != nil {
		return err.Error()
	}
	return n.Status.Summary.Status
}

func (m *machine) eventually(what string, done func(context.Context) bool) {
	m.t.Helper()
	err := wait.PollUntilContextTimeout(m.t.Context(), 20*time.Millisecond, patience, true,
		func(ctx context.Context) (bool, error) { return done(ctx), nil })
	if err != nil {
		m.t.Fatalf("not within %v: %s", patience, what)
	}
}

func (m *machine) create(pod *keelsonv1.Pod) *keelsonv1.Pod {
	m.t.Helper()
	if err := m.client.Create(m.t.Context(), pod); err != nil {
		m.t.Fatal(err)
	}
	return pod
}

func (m *machine) get(pod *keelsonv1.Pod) *keelsonv1.Pod {
	m.t.Helper()
	got := &keelsonv1.Pod{}
	if err := m.client.Get(m.t.Context(), client.ObjectKeyFromObject(pod), got); err != nil {
		m.t.Fatal(err)
	}
	return got
}

func (m *machine) eventuallyShows(pod *keelsonv1.Pod, want string) *keelsonv1.Pod {
	m.t.Helper()
	m.eventually("Pod "+pod.Name+" shows "+want, func(context.Context) bool { return m.get(pod).Status.Summary.Status == want })
	return m.get(pod)
}

func (m *machine) eventuallyGone(pod *keelsonv1.Pod) {
	m.t.Helper()
	m.eventually("Pod "+pod.Name+" is gone", func(ctx context.Context) bool {
		return apierrors.IsNotFound(m.client.Get(ctx, client.ObjectKeyFromObject(pod), &keelsonv1.Pod{}))
	})
}

// nothingLeft checks that the machine holds nothing of any Pod.
func (m *machine) nothingLeft() {
	m.t.Helper()
	m.eventually("the runtime, network and cgroups are empty", func(ctx context.Context) bool {
		pods, err := m.runtime.List(ctx)
		return err == nil && len(pods) == 0 && m.network.count() == 0 && len(m.cgroups.list()) == 0
	})
}

func (m *machine) makePod(name string) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Finalizers: []string{keelsonv1.PodFinalizer}}}
	pod.Spec.NodeName, pod.Spec.RestartPolicy = m.name, corev1.RestartPolicyAlways
	pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "registry.test/main:1"}}
	return pod
}

func TestPodLivesAndLeaves(t *testing.T) {
	m := newMachine(t, "lives")
	m.join()

	pod := m.eventuallyShows(m.create(m.makePod("web")), "Running")
	if s := pod.Status; s.Summary.Ready != "1/1" || s.PodIP == "" || s.HostIP != "192.0.2.1" || s.StartTime.IsZero() ||
		s.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("status is %+v", s)
	}
	if err := m.runtime.Exit(pod.UID, "main", 1, "Error"); err != nil {
		t.Fatal(err)
	}
	m.eventually("the container was restarted", func(context.Context) bool { return m.get(pod).Status.Summary.Restarts == 1 })

	if err := m.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	m.eventuallyGone(pod)
	m.nothingLeft()
}

func TestNodeWithoutRuntimeRecovers(t *testing.T) {
	m := newMachine(t, "no-runtime")
	for range 3 {
		m.runtime.FailNext(fake.CallInfo, errors.New("cannot reach containerd"))
	}
	m.boot()

	m.eventually("the Node says what is missing", func(ctx context.Context) bool {
		var n keelsonv1.Node
		return m.client.Get(ctx, client.ObjectKey{Name: m.name}, &n) == nil &&
			slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionFalse &&
					c.Message == "container runtime is down: cannot reach containerd; "+
						"container runtime network not ready: the Node has no Pod range (spec.podCIDR) yet"
			})
	})
	m.stop()
	m.join()
}

func TestDeletedNodeComesBack(t *testing.T) {
	m := newMachine(t, "deleted-node")
	m.join()

	if err := m.client.Delete(t.Context(), &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name}}); err != nil {
		t.Fatal(err)
	}
	m.eventually("the Node is registered again", func(ctx context.Context) bool {
		var n keelsonv1.Node
		return m.client.Get(ctx, client.ObjectKey{Name: m.name}, &n) == nil && n.DeletionTimestamp.IsZero() &&
			n.Labels[corev1.LabelHostname] == m.name
	})
	var lease coordinationv1.Lease
	key := client.ObjectKey{Namespace: keelsonv1.NodeLeaseNamespace, Name: m.name}
	if err := m.client.Get(t.Context(), key, &lease); err != nil || *lease.Spec.HolderIdentity != m.name {
		t.Errorf("Lease: %+v, %v", lease.Spec, err)
	}
}

func TestRestartAdoptsAndSweeps(t *testing.T) {
	m := newMachine(t, "restarts")
	m.join()
	kept := m.eventuallyShows(m.create(m.makePod("kept")), "Running")
	deleted := m.eventuallyShows(m.create(m.makePod("deleted")), "Running")
	forced := m.eventuallyShows(m.create(m.makePod("forced")), "Running")
	m.stop()

	// While no agent runs, one Pod is deleted and another torn out of the API.
	for _, pod := range []*keelsonv1.Pod{deleted, forced} {
		if err := m.client.Delete(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	forced = m.get(forced)
	forced.Finalizers = nil
	if err := m.client.Update(t.Context(), forced); err != nil {
		t.Fatal(err)
	}
	m.boot()

	m.eventuallyGone(deleted)
	m.eventually("only the kept Pod is left", func(ctx context.Context) bool {
		pods, err := m.runtime.List(ctx)
		return err == nil && len(pods) == 1 && pods[0].UID == kept.UID && m.network.count() == 1
	})
	got := m.get(kept)
	if got.Status.Summary.Restarts != 0 || got.Status.ContainerStatuses[0].ContainerID != kept.Status.ContainerStatuses[0].ContainerID {
		t.Errorf("the kept Pod was restarted: %+v", got.Status.ContainerStatuses)
	}
}

func TestFinalizerTornOff(t *testing.T) {
	m := newMachine(t, "torn-off")
	m.join()
	pod := m.eventuallyShows(m.create(m.makePod("torn")), "Running")

	pod.Finalizers = nil
	if err := m.client.Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if err := m.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	m.nothingLeft()
}

// brokenCache can watch nothing.
type brokenCache struct{ cache.Cache }

func (brokenCache) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return nil, errors.New("no such kind")
}

func TestAgentThatCannotWatchEnds(t *testing.T) {
	m := newMachine(t, "cannot-watch")
	api, err := newAPI(testEnv.Config, m.name)
	if err != nil {
		t.Fatal(err)
	}
	api.cache = brokenCache{}
	a := newAgent(m.options, settings{name: m.name}, dependencies{
		api: api, runtime: m.runtime, storage: m.runtime, network: m.network, cgroups: m.cgroups, clock: clock.RealClock{},
	})
	ended := make(chan error, 1)
	go func() { ended <- a.run(t.Context()) }()
	select {
	case err := <-ended:
		if err == nil || err.Error() != "watching the Node: no such kind" {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the agent hangs")
	}
}

func TestRefusedPod(t *testing.T) {
	m := newMachine(t, "refuses")
	m.join()
	pod := m.makePod("greedy")
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5")}

	got := m.eventuallyShows(m.create(pod), "OutOfcpu")
	want := "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000"
	if got.Status.Phase != corev1.PodFailed || got.Status.Message != want {
		t.Errorf("phase %s, message %q", got.Status.Phase, got.Status.Message)
	}
	if err := m.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	m.eventuallyGone(pod)
}

func TestUnsupportedPodNeverRuns(t *testing.T) {
	m := newMachine(t, "unsupported")
	m.join()
	pod := m.makePod("cloned")
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Repository: "r"}}}}

	got := m.eventuallyShows(m.create(pod), "PodFeatureUnsupported")
	want := "Pod was rejected: spec.volumes[0].gitRepo: Forbidden: not supported by Keelson yet: upstream has switched it off for good; clone in an init container into an emptyDir"
	if got.Status.Phase != corev1.PodFailed || got.Status.Message != want {
		t.Errorf("phase %s, message %q", got.Status.Phase, got.Status.Message)
	}
	if pods, err := m.runtime.List(t.Context()); err != nil || len(pods) > 0 {
		t.Errorf("the runtime holds %v, %v", pods, err)
	}
}

// A Pod may name a node before the Node exists.
func TestPodBeforeItsNode(t *testing.T) {
	m := newMachine(t, "before-node")
	a := newAgent(m.options, settings{name: m.name, machine: node.Machine{CPUs: 2, OS: "linux", Architecture: "amd64"}},
		dependencies{api: &api{client: m.client}, clock: clock.RealClock{}})
	if r, _ := admitPod(podAsking("p", "3", ""), nil, a.nodeAnyway()); r == nil || r.Reason != "OutOfcpu" {
		t.Errorf("admitted more than the machine has: %v", r)
	}
	if r, _ := admitPod(withSelector(podAsking("p", "1", ""), corev1.LabelOSStable, "linux"), nil, a.nodeAnyway()); r != nil {
		t.Errorf("refused: %v", r)
	}
}

func TestHostPortsReachTheProxy(t *testing.T) {
	m := newMachine(t, "ports")
	m.join()
	pod := m.makePod("port")
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080, Protocol: corev1.ProtocolTCP}}
	pod = m.eventuallyShows(m.create(pod), "Running")

	want := []model.HostPort{{Pod: "default/port", Protocol: model.TCP, HostPort: 8080,
		Target: netip.AddrPortFrom(netip.MustParseAddr(pod.Status.PodIP), 80)}}
	m.eventually("the proxy has the port", func(context.Context) bool { return slices.Equal(m.proxy.hostPorts(), want) })
	if err := m.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	m.eventuallyGone(pod)
	m.eventually("the proxy has forgotten it", func(context.Context) bool { return len(m.proxy.hostPorts()) == 0 })
}

type fakeNetwork struct {
	mu         sync.Mutex
	configured bool
	next       byte
	ips        map[types.UID]netip.Addr
}

func (n *fakeNetwork) Configure(context.Context, ranges.List) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.configured = true
	return nil
}

func (n *fakeNetwork) SetPeers(context.Context, []overlay.Node, bool) ([]overlay.Problem, error) {
	return nil, nil
}

func (n *fakeNetwork) Setup(_ context.Context, ref network.PodRef) (network.PodNetwork, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.configured {
		return network.PodNetwork{}, network.ErrNotConfigured
	}
	if _, ok := n.ips[ref.UID]; !ok {
		n.next++
		n.ips[ref.UID] = netip.AddrFrom4([4]byte{10, 244, 0, n.next + 1})
	}
	return network.PodNetwork{NetNSPath: "/netns/" + string(ref.UID), IP: n.ips[ref.UID]}, nil
}

func (n *fakeNetwork) DialPod(ctx context.Context, _ types.UID, port int32) (net.Conn, error) {
	return network.DialLoopback(ctx, port)
}

func (n *fakeNetwork) Teardown(_ context.Context, uid types.UID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.ips, uid)
	return nil
}

func (n *fakeNetwork) Sweep(_ context.Context, keep func(types.UID) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for uid := range n.ips {
		if !keep(uid) {
			delete(n.ips, uid)
		}
	}
	return nil
}

func (n *fakeNetwork) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ips)
}

type fakeCgroups struct {
	mu    sync.Mutex
	paths []string
	// burstable are the weights set, in order.
	burstable []uint64
}

func (c *fakeCgroups) Pod(class corev1.PodQOSClass, uid types.UID) string {
	return cgroups.Layout{Root: cgroups.DefaultRoot}.Pod(class, uid)
}

func (c *fakeCgroups) Owns(string) bool { return true }

func (c *fakeCgroups) Memory(string) (int64, error) { return 0, nil }

func (c *fakeCgroups) Current(string) (cgroups.Settings, error) { return cgroups.Settings{}, nil }

func (c *fakeCgroups) SetBurstable(shares uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.burstable = append(c.burstable, shares)
	return nil
}

func (c *fakeCgroups) Ensure(path string, _ cgroups.Settings) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.paths, path) {
		c.paths = append(c.paths, path)
	}
	return nil
}

func (c *fakeCgroups) Remove(uid types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths = slices.DeleteFunc(c.paths, func(p string) bool { return strings.HasSuffix(p, "/pod"+string(uid)) })
	return nil
}

func (c *fakeCgroups) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.paths)
}

type fakeProxy struct {
	mu    sync.Mutex
	ports []model.HostPort
}

func (p *fakeProxy) SetNodeFacts(model.NodeFacts) error { return nil }

func (p *fakeProxy) SetHostPorts(ports []model.HostPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ports = slices.Clone(ports)
}

func (p *fakeProxy) hostPorts() []model.HostPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ports)
}
