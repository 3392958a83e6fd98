package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	keelsonruntime "github.com/keelson-dev/keelson/nodeagent/runtime"
)

func testFacts() Facts {
	return Facts{IPs: []string{"192.0.2.1"}, MaxPods: 110, Version: "v1", RuntimeVersion: "containerd://1.6.20",
		Machine: Machine{CPUs: 2, MemoryBytes: 4 << 30, Hostname: "host", OS: "linux", Architecture: "amd64"}}
}

func TestResourcesOfOthersStay(t *testing.T) {
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	node.Status.Capacity = corev1.ResourceList{"example.com/gpu": resource.MustParse("4"), "gone": resource.MustParse("1"), corev1.ResourcePods: resource.MustParse("7")}
	status := computeStatus(node, testFacts(), time.Unix(0, 0))
	for _, list := range []corev1.ResourceList{status.Capacity, status.Allocatable} {
		gpus, pods := list["example.com/gpu"], list[corev1.ResourcePods]
		if _, stays := list["gone"]; stays || gpus.Value() != 4 || pods.Value() != 110 {
			t.Errorf("resources are %v", list)
		}
	}
}

func TestComputeStatus(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	foreign := corev1.NodeCondition{Type: "example.com/Disk", Status: corev1.ConditionTrue}
	node.Status.Conditions = []corev1.NodeCondition{foreign}

	first := computeStatus(node, testFacts(), at)
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		Message: "keelson-node is posting ready status", LastHeartbeatTime: metav1.NewTime(at), LastTransitionTime: metav1.NewTime(at)}
	enough := func(kind corev1.NodeConditionType, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message,
			LastHeartbeatTime: metav1.NewTime(at), LastTransitionTime: metav1.NewTime(at)}
	}
	want := []corev1.NodeCondition{
		foreign,
		enough(corev1.NodeMemoryPressure, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		enough(corev1.NodeDiskPressure, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		enough(corev1.NodePIDPressure, "KubeletHasSufficientPID", "kubelet has sufficient PID available"), ready,
	}
	if diff := cmp.Diff(want, first.Conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if first.Summary.Status != "Ready" || first.Summary.InternalIP != "192.0.2.1" || first.Capacity.Pods().Value() != 110 ||
		first.Capacity.Cpu().Value() != 2 || first.Capacity.Memory().Value() != 4<<30 {
		t.Errorf("status %+v", first)
	}

	routed := testFacts()
	routed.KeepsRoutes, routed.RouteProblem = true, "no tunnel"
	for problem, want := range map[string]corev1.NodeCondition{
		"":          {Status: corev1.ConditionFalse, Reason: "RouteCreated"},
		"no tunnel": {Status: corev1.ConditionTrue, Reason: "NoRouteCreated"},
	} {
		routed.RouteProblem = problem
		got := computeStatus(node, routed, at)
		if c := got.Conditions[5]; c.Type != corev1.NodeNetworkUnavailable || c.Status != want.Status || c.Reason != want.Reason || got.Summary.Status != "Ready" {
			t.Errorf("with route problem %q: %+v, column %s", problem, c, got.Summary.Status)
		}
	}

	node.Status = first
	later := at.Add(time.Minute)
	if again := computeStatus(node, testFacts(), later); mustPost(first, again) {
		t.Error("an unchanged status is posted")
	}
	if again := computeStatus(node, testFacts(), at.Add(5*time.Minute)); !mustPost(first, again) {
		t.Error("an old heartbeat is not renewed")
	}
	broken := testFacts()
	broken.Problems = []string{"one", "two"}
	down := computeStatus(node, broken, later)
	if c := down.Conditions[4]; c.Status != corev1.ConditionFalse || c.Reason != "KubeletNotReady" || c.Message != "one; two" ||
		!c.LastTransitionTime.Time.Equal(later) || down.Summary.Status != "NotReady" || !mustPost(first, down) {
		t.Errorf("condition %+v, column %s", c, down.Summary.Status)
	}
	short := testFacts()
	short.Short = []corev1.NodeConditionType{corev1.NodeDiskPressure}
	pressed := computeStatus(node, short, later)
	if c := pressed.Conditions[2]; c.Status != corev1.ConditionTrue || c.Reason != "KubeletHasDiskPressure" || c.Message != "kubelet has disk pressure" ||
		!c.LastTransitionTime.Time.Equal(later) || pressed.Summary.Status != "Ready" || !mustPost(first, pressed) {
		t.Errorf("condition %+v, column %s", c, pressed.Summary.Status)
	}

	// The next process does not know yet, and takes nothing back; then it does.
	node.Status = pressed
	node.Status.Images = []corev1.ContainerImage{{Names: []string{"a"}}}
	unknown := computeStatus(node, testFacts(), later.Add(time.Minute))
	if c := unknown.Conditions[2]; c.Status != corev1.ConditionTrue || len(unknown.Images) != 1 || mustPost(node.Status, unknown) {
		t.Errorf("condition %+v, images %v", c, unknown.Images)
	}
	known := testFacts()
	known.Short, known.Images = []corev1.NodeConditionType{}, []corev1.ContainerImage{}
	if again := computeStatus(node, known, later); again.Conditions[2].Status != corev1.ConditionFalse || len(again.Images) != 0 {
		t.Errorf("condition %+v, images %v", again.Conditions[2], again.Images)
	}
}

func TestDiskOfANode(t *testing.T) {
	f := testFacts()
	if _, ok := Capacity(f)[corev1.ResourceEphemeralStorage]; ok {
		t.Error("a disk that is not known has a size")
	}
	f.DiskBytes = 100 << 30
	f.HeldBack = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("10Gi"), corev1.ResourceMemory: resource.MustParse("1Gi")}
	capacity, allocatable := Capacity(f), Allocatable(f)
	if got := capacity.StorageEphemeral().String(); got != "100Gi" {
		t.Errorf("capacity %s", got)
	}
	if got := allocatable.StorageEphemeral().String() + " " + allocatable.Memory().String(); got != "90Gi 3Gi" {
		t.Errorf("allocatable %s", got)
	}
}

func TestImageList(t *testing.T) {
	var stored []keelsonruntime.StoredImage
	for i := range 60 {
		stored = append(stored, keelsonruntime.StoredImage{ID: fmt.Sprint(i), Size: int64(i), Names: []string{fmt.Sprintf("name:%d", i)}, Digests: []string{"name@sha256:1"}})
	}
	stored = append(stored, keelsonruntime.StoredImage{ID: "nameless", Size: 61})
	stored[59].Names = []string{"a", "b", "c", "d", "e", "f"}
	got := ImageList(stored)
	if len(got) != 49 || !slices.Equal(got[0].Names, []string{"name@sha256:1", "a", "b", "c", "d"}) || got[1].SizeBytes != 58 || got[1].Names[1] != "name:58" {
		t.Errorf("%d images, the first %v", len(got), got[:2])
	}
}

func newClient(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&keelsonv1.Node{}).
		WithInterceptorFuncs(funcs).Build()
}

func TestReporterRegistersAgain(t *testing.T) {
	c := newClient(t, interceptor.Funcs{})
	r := NewReporter(c, clock.RealClock{}, "n", testFacts, func(Note) {})
	get := func() *keelsonv1.Node {
		node := &keelsonv1.Node{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: "n"}, node); err != nil {
			t.Fatal(err)
		}
		return node
	}
	if err := r.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if node := get(); node.Labels[corev1.LabelHostname] != "n" || node.Status.Summary.Status != "Ready" {
		t.Errorf("node %+v", node)
	}
	if err := c.Delete(t.Context(), get()); err != nil {
		t.Fatal(err)
	}
	r.Observe(nil)
	if err := r.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if get().Status.Summary.Status != "Ready" {
		t.Error("the new Node has no status")
	}
}

func TestReporterAfterAnotherWriter(t *testing.T) {
	c := newClient(t, interceptor.Funcs{})
	problems := []string{}
	facts := func() Facts {
		f := testFacts()
		f.Problems = problems
		return f
	}
	r := NewReporter(c, clock.RealClock{}, "n", facts, func(Note) {})
	if err := r.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	node := &keelsonv1.Node{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "n"}, node); err != nil {
		t.Fatal(err)
	}
	node.Spec.PodCIDR = "10.244.0.0/24"
	if err := c.Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	problems = []string{"down"}
	if err := r.sync(t.Context()); !apierrors.IsConflict(err) {
		t.Fatalf("got %v, want a conflict", err)
	}
	if err := r.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "n"}, node); err != nil {
		t.Fatal(err)
	}
	if node.Spec.PodCIDR != "10.244.0.0/24" || node.Status.Summary.Status != "NotReady" {
		t.Errorf("podCIDR %q, status %s", node.Spec.PodCIDR, node.Status.Summary.Status)
	}
}

func TestLeaseSurvivesAnOutage(t *testing.T) {
	var failing atomic.Int32
	c := newClient(t, interceptor.Funcs{Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
		if failing.Add(-1) >= 0 {
			return errors.New("connection refused")
		}
		return c.Update(ctx, o, opts...)
	}})
	synctest.Test(t, func(t *testing.T) {
		owner := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "uid"}}
		k := NewLeaseKeeper(c, clock.RealClock{}, "n", func() *keelsonv1.Node { return owner })
		ctx, cancel := context.WithCancel(t.Context())
		go k.Run(ctx)
		defer synctest.Wait()
		defer cancel()
		renewed := func() time.Time {
			synctest.Wait()
			lease := &coordinationv1.Lease{}
			if err := c.Get(t.Context(), client.ObjectKey{Namespace: keelsonv1.NodeLeaseNamespace, Name: "n"}, lease); err != nil {
				t.Fatal(err)
			}
			if *lease.Spec.HolderIdentity != "n" || *lease.Spec.LeaseDurationSeconds != 40 || lease.OwnerReferences[0].UID != "uid" {
				t.Fatalf("lease %+v", lease)
			}
			return lease.Spec.RenewTime.Time
		}
		first := renewed()
		time.Sleep(10 * time.Second)
		if got := renewed().Sub(first); got != 10*time.Second {
			t.Errorf("renewed after %v", got)
		}
		failing.Store(3)
		time.Sleep(30 * time.Second)
		if got := renewed().Sub(first); got != 10*time.Second {
			t.Errorf("renewed during the outage, after %v", got)
		}
		time.Sleep(10 * time.Second)
		if got := renewed().Sub(first); got != 50*time.Second {
			t.Errorf("after the outage renewed at %v", got)
		}
	})
}

func TestTwoAgentsOfOneNameAreNoticed(t *testing.T) {
	c := newClient(t, interceptor.Funcs{})
	keeper := func() *LeaseKeeper {
		return NewLeaseKeeper(c, clock.RealClock{}, "n", func() *keelsonv1.Node { return nil })
	}
	one, other := keeper(), keeper()
	for _, k := range []*LeaseKeeper{one, other} {
		if err := k.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	err := one.renew(t.Context())
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "does another machine run keelson-node with --node-name=n?") {
		t.Errorf("got %v", err)
	}
	if err := one.renew(t.Context()); err != nil {
		t.Errorf("the one that goes on alone: %v", err)
	}
}

func TestParsers(t *testing.T) {
	if got, err := parseMemTotal("MemFree: 5 kB\nMemTotal:       2048 kB\n"); got != 2<<20 || err != nil {
		t.Errorf("memory %d, %v", got, err)
	}
	if _, err := parseMemTotal("nothing"); err == nil {
		t.Error("missing MemTotal is accepted")
	}
	if got := parseOSImage("NAME=\"x\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"); got != "Debian GNU/Linux 12 (bookworm)" {
		t.Errorf("image %q", got)
	}
	const routes = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
docker0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
wlan0	00000000	0101A8C0	0003	0	0	600	00000000	0	0	0
eth0	00000000	010200C0	0003	0	0	100	00000000	0	0	0
`
	if got := parseDefaultInterface(routes); got != "eth0" {
		t.Errorf("interface %q", got)
	}
	if got := parseDefaultInterface("Iface\tDestination\n"); got != "" {
		t.Errorf("interface %q of no route", got)
	}
}

func TestReadMachine(t *testing.T) {
	m, err := ReadMachine()
	if err != nil {
		t.Fatal(err)
	}
	hostname, _ := os.Hostname()
	if m.CPUs < 1 || m.MemoryBytes < 64<<20 || m.Hostname != hostname || m.KernelVersion == "" || m.BootID == "" {
		t.Errorf("machine %+v", m)
	}
}
