// Package endpoints tests the Endpoints controller inside a running manager against
// a real API server.
package endpoints

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/endpoints"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func addController(mgr ctrl.Manager) error { return endpoints.Add(mgr, endpoints.Options{}) }

func TestEndpointsFollowThePods(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)

	// A Service without Pods has an empty object of its name (EP-01, EP-09).
	service := builders.MakeService("web").Namespace(ns).Selector("app", "web").Port("", 80, 8080).Label("team", "a").Obj()
	testEnv.Create(t, service)
	eventuallySummary(t, ns, "web", "<none>")

	a := testEnv.RunningPod(t, builders.MakePod("a").Namespace(ns).Label("app", "web"), "10.0.0.1", true)
	b := testEnv.RunningPod(t, builders.MakePod("b").Namespace(ns).Label("app", "web"), "10.0.0.2", false)
	testEnv.RunningPod(t, builders.MakePod("other").Namespace(ns).Label("app", "db"), "10.0.0.3", true)
	eventuallySummary(t, ns, "web", "10.0.0.1:8080")
	env.Eventually(t, func() string {
		ep := endpointsOf(t, ns, "web")
		if len(ep.Subsets) != 1 || len(ep.Subsets[0].NotReadyAddresses) != 1 || ep.Subsets[0].NotReadyAddresses[0].IP != "10.0.0.2" {
			return fmt.Sprintf("subsets %+v", ep.Subsets)
		}
		if ep.Labels["team"] != "a" {
			return fmt.Sprintf("labels %v", ep.Labels)
		}
		return ""
	})

	testEnv.SetReady(t, b, true)
	eventuallySummary(t, ns, "web", "10.0.0.1:8080,10.0.0.2:8080")

	// A Pod that no longer matches leaves.
	before := a.DeepCopy()
	a.Labels["app"] = "debug"
	testEnv.Patch(t, a, before)
	eventuallySummary(t, ns, "web", "10.0.0.2:8080")

	// So does a deleted one, and one that terminates behind its finalizer.
	c := testEnv.RunningPod(t, builders.MakePod("c").Namespace(ns).Label("app", "web").Finalizer(keelsonv1.PodFinalizer), "10.0.0.4", true)
	eventuallySummary(t, ns, "web", "10.0.0.2:8080,10.0.0.4:8080")
	testEnv.Delete(t, c)
	eventuallySummary(t, ns, "web", "10.0.0.2:8080")
	testEnv.Delete(t, b)
	eventuallySummary(t, ns, "web", "<none>")

	// A new port and a lost object are repaired; a deleted Service takes it along.
	before2 := service.DeepCopy()
	service.Spec.Ports[0].TargetPort.IntVal = 9090
	service.Spec.Selector["app"] = "debug"
	testEnv.Patch(t, service, before2)
	eventuallySummary(t, ns, "web", "10.0.0.1:9090")
	testEnv.Delete(t, endpointsOf(t, ns, "web"))
	eventuallySummary(t, ns, "web", "10.0.0.1:9090")
	testEnv.Delete(t, service)
	eventuallyGone(t, ns, "web")
}

func TestHandMadeEndpointsStay(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	// Made before its Service, and for a Service without a selector (EP-05, EP-06).
	manual := &keelsonv1.Endpoints{Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.168.3.180"}},
		Ports:     []corev1.EndpointPort{{Port: 3036, Protocol: corev1.ProtocolTCP}},
	}}}
	manual.Name, manual.Namespace = "mysql", ns
	testEnv.Create(t, manual)
	service := builders.MakeService("mysql").Namespace(ns).Port("", 3036, 3036).Obj()
	testEnv.Create(t, service)
	// Proof that the controller is past these: a Service made later has its object.
	testEnv.Create(t, builders.MakeService("marker").Namespace(ns).Selector("app", "x").Port("", 1, 1).Obj())
	eventuallySummary(t, ns, "marker", "<none>")
	if got := endpointsOf(t, ns, "mysql"); got.ResourceVersion != manual.ResourceVersion {
		t.Errorf("the hand-made Endpoints were changed: %+v", got)
	}
	testEnv.Delete(t, service)
	eventuallyGone(t, ns, "mysql")
}

func TestLeftoversAreFoundAtStart(t *testing.T) {
	ns := testEnv.Namespace(t)
	stop := testEnv.StartManager(t, addController)
	service := builders.MakeService("web").Namespace(ns).Selector("app", "web").Port("", 80, 8080).Obj()
	testEnv.Create(t, service)
	eventuallySummary(t, ns, "web", "<none>")
	stop()
	testEnv.Delete(t, service)
	testEnv.StartManager(t, addController)
	eventuallyGone(t, ns, "web")
}

// A hundred Pods that become ready together must not mean a hundred writes of a list
// of a hundred addresses.
func TestABurstOfPodsIsWrittenFewTimes(t *testing.T) {
	const count = 100
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	testEnv.Create(t, builders.MakeService("web").Namespace(ns).Selector("app", "web").Port("", 80, 8080).Obj())
	var pods []*keelsonv1.Pod
	for i := range count {
		pods = append(pods, testEnv.RunningPod(t, builders.MakePod("p"+strconv.Itoa(i)).Namespace(ns).Label("app", "web"), fmt.Sprintf("10.1.0.%d", i+1), false))
	}
	eventuallyReady(t, ns, 0, count)

	watcher, err := client.NewWithWatch(testEnv.Config, client.Options{Scheme: testEnv.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	w, err := watcher.Watch(t.Context(), &keelsonv1.EndpointsList{}, client.InNamespace(ns))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	start := time.Now()
	for _, pod := range pods {
		testEnv.SetReady(t, pod, true)
	}
	wrote := time.Since(start)
	eventuallyReady(t, ns, count, 0)
	final := endpointsOf(t, ns, "web").ResourceVersion
	writes, seen := 0, ""
	for seen != final {
		e, open := <-w.ResultChan()
		ep, ok := e.Object.(*keelsonv1.Endpoints)
		if !open || !ok {
			t.Fatalf("the watch ended after %d writes: %v", writes, e)
		}
		writes, seen = writes+1, ep.ResourceVersion
	}
	t.Logf("%d Pods became ready within %s: %d writes of Endpoints", count, wrote, writes)
	// One write per batch period is the design; twice that leaves room for a slow machine.
	if limit := 3 + 2*int(wrote/endpoints.DefaultBatchPeriod); writes > min(limit, count/2) {
		t.Errorf("%d writes, want at most %d", writes, min(limit, count/2))
	}
}

// Helpers.

func endpointsOf(t *testing.T, ns, name string) *keelsonv1.Endpoints {
	t.Helper()
	ep := &keelsonv1.Endpoints{}
	err := testEnv.Client.Get(t.Context(), types.NamespacedName{Namespace: ns, Name: name}, ep)
	if client.IgnoreNotFound(err) != nil {
		t.Fatalf("failed to get Endpoints: %v", err)
	}
	return ep
}

func eventuallySummary(t *testing.T, ns, name, want string) {
	t.Helper()
	env.Eventually(t, func() string {
		if got := endpointsOf(t, ns, name).Status.Summary.Endpoints; got != want {
			return fmt.Sprintf("Endpoints %q, want %q", got, want)
		}
		return ""
	})
}

func eventuallyReady(t *testing.T, ns string, ready, notReady int) {
	t.Helper()
	env.Eventually(t, func() string {
		a, n := 0, 0
		for _, s := range endpointsOf(t, ns, "web").Subsets {
			a, n = a+len(s.Addresses), n+len(s.NotReadyAddresses)
		}
		if a != ready || n != notReady {
			return fmt.Sprintf("%d ready and %d not ready, want %d and %d", a, n, ready, notReady)
		}
		return ""
	})
}

func eventuallyGone(t *testing.T, ns, name string) {
	t.Helper()
	env.Eventually(t, func() string {
		err := testEnv.Client.Get(t.Context(), types.NamespacedName{Namespace: ns, Name: name}, &keelsonv1.Endpoints{})
		if !apierrors.IsNotFound(err) {
			return fmt.Sprintf("Endpoints %s still there (%v)", name, err)
		}
		return ""
	})
}
