package lifecycle

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/hooks"
	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/podworker"
	"github.com/keelson-dev/keelson/nodeagent/probes"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// machine is a Manager on fakes, driven by a real worker pool in fake time.
type machine struct {
	t       *testing.T
	runtime *fake.Runtime
	network *fakeNetwork
	status  *fakeStatus
	cgroups *fakeCgroups
	events  *fakeRecorder
	volumes *fakeVolumes
	objects fakeObjects
	manager *Manager
	pool    *podworker.Pool
	probes  *probes.Manager
	exec    *fakeExec
	stop    func()
}

// onMachine runs story in a bubble of fake time, on a machine in dir.
func onMachine(t *testing.T, story func(m *machine)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, runtime: fake.New(clock.RealClock{}),
			network: &fakeNetwork{attached: map[types.UID]netip.Addr{}, users: map[types.UID]userns.Range{}}, status: &fakeStatus{statuses: map[types.UID]corev1.PodStatus{}},
			cgroups: &fakeCgroups{settings: map[string]cgroups.Settings{}, memory: map[string]int64{}}, events: &fakeRecorder{}, volumes: &fakeVolumes{}, exec: &fakeExec{}}
		m.boot(dir)
		defer func() { m.stop() }()
		story(m)
	})
}

// boot starts an agent's core over what the machine holds.
func (m *machine) boot(dir string) {
	ctx, cancel := context.WithCancel(context.Background())
	m.probes = probes.New(ctx, probes.Options{Executor: m.exec, Clock: clock.RealClock{},
		Record: func(pod *keelsonv1.Pod, container, eventType, reason, message string) {
			m.events.Record(pod, Note{container, eventType, reason, message})
		},
		Changed: func(uid types.UID) {
			m.manager.ProbesChanged(uid)
			m.pool.Wake(uid)
		}})
	m.manager = New(Options{
		Probes: m.probes, Hooks: hooks.New(m.exec, clock.RealClock{}),
		Runtime: m.runtime, Network: m.network, Images: images.NewManager(m.runtime, clock.RealClock{}), Status: m.status, Cgroups: m.cgroups,
		Recorder: m.events, Services: noServices, Users: userns.NewAllocator(dir + "/pods"), Volumes: m.volumes, Objects: &m.objects, Allocatable: nodeAllocatable, Clock: clock.RealClock{}, RuntimeName: "fake",
		HostIPs: []string{"192.0.2.1"}, Hostname: "machine", Dead: DeadPolicy{PerContainer: 1, Total: -1}, Capacity: Capacity{Memory: 4 << 30, PodPIDs: 100},
		RootDir: dir, PodLogDir: dir + "/log/pods", ContainerLogDir: dir + "/log/containers",
	})
	m.pool = podworker.New(ctx, m.manager, clock.RealClock{})
	events := m.runtime.Events(ctx)
	go func() {
		for e := range events {
			if e.Type == runtime.Resync {
				m.pool.WakeAll()
			} else {
				m.pool.Wake(e.PodUID)
			}
		}
	}()
	m.stop = func() {
		cancel()
		m.pool.Wait()
		m.probes.Wait()
		synctest.Wait()
	}
}

// restart ends the agent as a crash would, and starts another that knows only what
// the runtime and the API hold.
func (m *machine) restart() {
	m.stop()
	m.status.forgetLocal()
	m.boot(m.manager.RootDir)
}

// settle waits until nothing happens without time passing.
func (m *machine) settle() { synctest.Wait() }

// after lets d pass.
func (m *machine) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// run hands in a Pod and waits until it is settled.
func (m *machine) run(pod *keelsonv1.Pod) *keelsonv1.Pod {
	m.pool.Update(pod)
	m.settle()
	return pod
}

func (m *machine) statusOf(pod *keelsonv1.Pod) corev1.PodStatus {
	s, _ := m.status.Get(pod.UID)
	return s
}

func (m *machine) container(pod *keelsonv1.Pod, name string) corev1.ContainerStatus {
	m.t.Helper()
	for _, c := range m.statusOf(pod).ContainerStatuses {
		if c.Name == name {
			return c
		}
	}
	m.t.Fatalf("no status of container %s", name)
	return corev1.ContainerStatus{}
}

func (m *machine) exit(pod *keelsonv1.Pod, name string, code int32) {
	m.t.Helper()
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	if err := m.runtime.Exit(pod.UID, name, code, reason); err != nil {
		m.t.Fatal(err)
	}
	m.settle()
}

func deleted(pod *keelsonv1.Pod) *keelsonv1.Pod {
	pod = pod.DeepCopy()
	pod.DeletionTimestamp = new(metav1.Now())
	return pod
}

// makePod returns a Pod with one container for each name.
func makePod(name string, containers ...string) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: "default", UID: types.UID("uid-" + name), Generation: 1,
		Finalizers: []string{keelsonv1.PodFinalizer},
	}}
	pod.Spec.NodeName, pod.Spec.RestartPolicy = "node", corev1.RestartPolicyAlways
	for _, c := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c, Image: "image-" + c})
	}
	return pod
}

func withPolicy(pod *keelsonv1.Pod, policy corev1.RestartPolicy) *keelsonv1.Pod {
	pod.Spec.RestartPolicy = policy
	return pod
}

func noServices(context.Context, *keelsonv1.Pod) ([]keelsonv1.Service, error) { return nil, nil }

func nodeAllocatable() corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")}
}

// fakeObjects are the ConfigMaps and Secrets of all namespaces, by name.
type fakeObjects struct {
	mu         sync.Mutex
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	failure    error
}

func (o *fakeObjects) set(change func(*fakeObjects)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

func (o *fakeObjects) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if found := o.configMaps[name]; found != nil || o.failure != nil {
		return found, o.failure
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmap"), name)
}

func (o *fakeObjects) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if found := o.secrets[name]; found != nil || o.failure != nil {
		return found, o.failure
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secret"), name)
}

type fakeNetwork struct {
	mu       sync.Mutex
	attached map[types.UID]netip.Addr
	users    map[types.UID]userns.Range
	failures []error
}

func (n *fakeNetwork) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failures = append(n.failures, err)
}

func (n *fakeNetwork) takeFailureLocked() error {
	if len(n.failures) == 0 {
		return nil
	}
	err := n.failures[0]
	n.failures = n.failures[1:]
	return err
}

func (n *fakeNetwork) Attach(_ context.Context, id runtime.PodIdentity, users *userns.Range) (Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.takeFailureLocked(); err != nil {
		return Attachment{}, err
	}
	if users != nil {
		n.users[id.UID] = *users
	}
	ip, ok := n.attached[id.UID]
	if !ok {
		ip = netip.AddrFrom4([4]byte{10, 244, 0, byte(2 + len(n.attached))})
		n.attached[id.UID] = ip
	}
	return Attachment{NetNSPath: "/netns/" + string(id.UID), IP: ip}, nil
}

func (n *fakeNetwork) Detach(_ context.Context, uid types.UID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.takeFailureLocked(); err != nil {
		return err
	}
	delete(n.attached, uid)
	return nil
}

type fakeStatus struct {
	mu       sync.Mutex
	statuses map[types.UID]corev1.PodStatus
	released []types.UID
	flushed  map[types.UID]corev1.PodStatus
	failures []error
}

func (s *fakeStatus) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, err)
}

func (s *fakeStatus) takeFailureLocked() error {
	if len(s.failures) == 0 {
		return nil
	}
	err := s.failures[0]
	s.failures = s.failures[1:]
	return err
}

// forgetLocal keeps only what a Pod object handed in again carries.
func (s *fakeStatus) forgetLocal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses = map[types.UID]corev1.PodStatus{}
}

func (s *fakeStatus) Get(uid types.UID) (corev1.PodStatus, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status, ok := s.statuses[uid]
	return status, ok
}

func (s *fakeStatus) Set(pod *keelsonv1.Pod, status corev1.PodStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[pod.UID] = status
}

func (s *fakeStatus) Flush(_ context.Context, pod *keelsonv1.Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeFailureLocked(); err != nil {
		return err
	}
	if s.flushed == nil {
		s.flushed = map[types.UID]corev1.PodStatus{}
	}
	s.flushed[pod.UID] = s.statuses[pod.UID]
	return nil
}

func (s *fakeStatus) Release(_ context.Context, pod *keelsonv1.Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeFailureLocked(); err != nil {
		return err
	}
	s.released = append(s.released, pod.UID)
	return nil
}

func (s *fakeStatus) Forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.statuses, uid)
}

// last is the status that went to the API before the Pod left.
func (s *fakeStatus) last(uid types.UID) corev1.PodStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushed[uid]
}

func (s *fakeStatus) hasReleased(uid types.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.released, uid)
}

type fakeCgroups struct {
	meanwhile func() // what happens while a cgroup is made; nil is nothing
	mu        sync.Mutex
	settings  map[string]cgroups.Settings
	memory    map[string]int64
	// check refuses settings as the kernel would; nil takes all.
	check    func(cgroups.Settings) error
	failures []error
}

func (c *fakeCgroups) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, err)
}

func (c *fakeCgroups) takeFailureLocked() error {
	if len(c.failures) == 0 {
		return nil
	}
	err := c.failures[0]
	c.failures = c.failures[1:]
	return err
}

func (c *fakeCgroups) Pod(class corev1.PodQOSClass, uid types.UID) string {
	return cgroups.Layout{Root: cgroups.DefaultRoot}.Pod(class, uid)
}

func (c *fakeCgroups) Owns(string) bool { return true }

func (c *fakeCgroups) Current(path string) (cgroups.Settings, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.settings[path]
	s.CPUShares = nil
	return s, nil
}

func (c *fakeCgroups) Memory(path string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.memory[path], nil
}

func (c *fakeCgroups) Ensure(path string, s cgroups.Settings) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.takeFailureLocked(); err != nil {
		return err
	}
	if c.check != nil {
		if err := c.check(s); err != nil {
			return err
		}
	}
	c.settings[path] = s
	if c.meanwhile != nil {
		c.meanwhile()
	}
	return nil
}

func (c *fakeCgroups) Remove(uid types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.takeFailureLocked(); err != nil {
		return err
	}
	maps.DeleteFunc(c.settings, func(path string, _ cgroups.Settings) bool { return strings.HasSuffix(path, "/pod"+string(uid)) })
	return nil
}

type fakeRecorder struct {
	mu    sync.Mutex
	notes []string
}

func (r *fakeRecorder) Record(_ *keelsonv1.Pod, n Note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf("%s %s %s: %s", n.Type, n.Container, n.Reason, n.Message))
}

func (r *fakeRecorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.notes)
}

func (r *fakeRecorder) count(note string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := 0
	for _, n := range r.notes {
		if n == note {
			count++
		}
	}
	return count
}

// fakeExec stands for the commands of probes and hooks.
type fakeExec struct {
	mu sync.Mutex
	// run answers for each command, by its first word; nil succeeds at once.
	run   map[string]func(ctx context.Context, streams runtime.Streams) error
	calls []string
}

// on lets the command that begins with word do as run says.
func (e *fakeExec) on(word string, run func(ctx context.Context, streams runtime.Streams) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.run == nil {
		e.run = map[string]func(context.Context, runtime.Streams) error{}
	}
	e.run[word] = run
}

// exit lets the command end with code from now on.
func (e *fakeExec) exit(word string, code int) {
	e.on(word, func(context.Context, runtime.Streams) error {
		if code == 0 {
			return nil
		}
		return &runtime.ExitError{Code: code}
	})
}

func (e *fakeExec) Exec(ctx context.Context, containerID string, command []string, streams runtime.Streams) error {
	e.mu.Lock()
	run := e.run[command[0]]
	e.calls = append(e.calls, strings.Join(command, " "))
	e.mu.Unlock()
	if run == nil {
		return nil
	}
	return run(ctx, streams)
}

func (e *fakeExec) count(command string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	count := 0
	for _, c := range e.calls {
		if c == command {
			count++
		}
	}
	return count
}
