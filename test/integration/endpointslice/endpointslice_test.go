// Package endpointslice tests the controller of EndpointSlices inside a running manager
// against a real API server.
package endpointslice

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/controllers/endpointslice"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func addController(mgr ctrl.Manager) error {
	return endpointslice.Add(mgr, endpointslice.Options{})
}

func TestSlicesFollowThePods(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	node := makeNode(t, ns+"-n1", "zone-a")

	service := builders.MakeService("web").Namespace(ns).Selector("app", "web").Port("http", 80, 8080).Label("team", "a").ClusterIP("10.254.0.9").Obj()
	service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	testEnv.Create(t, service)
	// No Pod yet: an empty slice, and an event that says why (O-47).
	eventuallySlices(t, ns, "IPv4 <unset>: ")
	eventually(t, "an event about the selector", func() bool {
		var list corev1.EventList
		err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns))
		return err == nil && slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.Name == "web" && e.Reason == endpointslice.ReasonNoMatchingPods && strings.Contains(e.Message, "app=web")
		})
	})

	a := testEnv.RunningPod(t, builders.MakePod("a").Namespace(ns).Label("app", "web").Node(node).Hostname("a-0", "web"), "10.0.0.1", true)
	b := testEnv.RunningPod(t, builders.MakePod("b").Namespace(ns).Label("app", "web").Node(node).Finalizer(keelsonv1.PodFinalizer), "10.0.0.2", false)
	testEnv.RunningPod(t, builders.MakePod("other").Namespace(ns).Label("app", "db").Node(node), "10.0.0.3", true)
	eventuallySlices(t, ns, "IPv4 8080: 10.0.0.1 ready serving, 10.0.0.2")
	slice := slicesOf(t, ns)[0]
	if slice.Labels[upstreamdiscoveryv1.LabelServiceName] != "web" || slice.Labels["team"] != "a" ||
		slice.Labels[upstreamdiscoveryv1.LabelManagedBy] != endpointslice.ManagedBy {
		t.Errorf("labels %v", slice.Labels)
	}
	if owner := slice.OwnerReferences[0]; owner.APIVersion != keelsonv1.GroupVersion.String() || owner.UID != service.UID {
		t.Errorf("owner %+v", owner)
	}
	for _, e := range slice.Endpoints {
		if e.NodeName == nil || *e.NodeName != node || e.Zone == nil || *e.Zone != "zone-a" || e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
			t.Errorf("endpoint %+v", e)
		}
		if hostname := e.Hostname != nil && *e.Hostname == "a-0"; hostname != (e.TargetRef.Name == "a") {
			t.Errorf("endpoint %s: hostname %v", e.TargetRef.Name, e.Hostname)
		}
	}
	if slice.Annotations[corev1.EndpointsLastChangeTriggerTime] == "" {
		t.Errorf("annotations %v lack the time of the last change", slice.Annotations)
	}

	// A Pod that terminates stays to serve what is under way.
	testEnv.SetReady(t, b, true)
	eventuallySlices(t, ns, "IPv4 8080: 10.0.0.1 ready serving, 10.0.0.2 ready serving")
	remove(t, b)
	eventuallySlices(t, ns, "IPv4 8080: 10.0.0.1 ready serving, 10.0.0.2 serving terminating")
	before := b.DeepCopy()
	b.Finalizers = nil
	testEnv.Patch(t, b, before)
	eventuallySlices(t, ns, "IPv4 8080: 10.0.0.1 ready serving")

	// Somebody else's change is repaired, in the same object; a lost slice is made again.
	damaged := slicesOf(t, ns)[0]
	slice = *damaged.DeepCopy()
	slice.Endpoints = []upstreamdiscoveryv1.Endpoint{{Addresses: []string{"10.9.9.9"}}}
	testEnv.Patch(t, &slice, &damaged)
	eventuallySlices(t, ns, "IPv4 8080: 10.0.0.1 ready serving")
	remove(t, &slice)
	eventuallySlices(t, ns, "IPv4 8080: 10.0.0.1 ready serving")

	// A Pod that no longer matches leaves; a changed port moves the others.
	beforeA := a.DeepCopy()
	a.Labels["app"] = "debug"
	testEnv.Patch(t, a, beforeA)
	eventuallySlices(t, ns, "IPv4 <unset>: ")
	beforeService := service.DeepCopy()
	service.Spec.Ports[0].TargetPort.IntVal = 9090
	service.Spec.Selector["app"] = "debug"
	testEnv.Patch(t, service, beforeService)
	eventuallySlices(t, ns, "IPv4 9090: 10.0.0.1 ready serving")
}

func TestBothFamiliesHaveTheirSlices(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	node := makeNode(t, ns+"-n1", "")
	service := builders.MakeService("web").Namespace(ns).Selector("app", "web").Port("", 80, 8080).Headless().Obj()
	service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	testEnv.Create(t, service)
	pod := testEnv.RunningPod(t, builders.MakePod("a").Namespace(ns).Label("app", "web").Node(node), "10.0.0.1", true)
	before := pod.DeepCopy()
	pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: "fd00::1"})
	if err := testEnv.Client.Status().Patch(t.Context(), pod, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	eventuallySlices(t, ns, "IPv4 8080: 10.0.0.1 ready serving", "IPv6 8080: fd00::1 ready serving")
	for _, slice := range slicesOf(t, ns) {
		if _, ok := slice.Labels[corev1.IsHeadlessService]; !ok {
			t.Errorf("slice %s of a headless Service lacks its label: %v", slice.Name, slice.Labels)
		}
	}
	// A family that the Service gives up takes its slice along.
	beforeService := service.DeepCopy()
	service.Spec.IPFamilies = service.Spec.IPFamilies[:1]
	testEnv.Patch(t, service, beforeService)
	eventuallySlices(t, ns, "IPv4 8080: 10.0.0.1 ready serving")
}

// The reason for slices: with 250 endpoints the change of one Pod is one write of one
// slice.
func TestTheChangeOfOnePodIsOneWrite(t *testing.T) {
	const count = 250
	stop := testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	node := makeNode(t, ns+"-n1", "")
	service := builders.MakeService("web").Namespace(ns).Selector("app", "web").Port("", 80, 8080).ClusterIP("10.254.0.9").Obj()
	service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	testEnv.Create(t, service)
	var last *keelsonv1.Pod
	for i := range count {
		last = testEnv.RunningPod(t, builders.MakePod("p"+strconv.Itoa(i)).Namespace(ns).Label("app", "web").Node(node), fmt.Sprintf("10.1.%d.%d", i/200, i%200+1), true)
	}
	eventually(t, "all endpoints", func() bool { return len(addresses(slicesOf(t, ns))) == count })
	if all := slicesOf(t, ns); len(all) > 5 || slices.ContainsFunc(all, func(s discoveryv1.EndpointSlice) bool { return len(s.Endpoints) > 100 }) {
		t.Errorf("%d slices: %v", len(all), all)
	}

	w := watchSlices(t, ns)
	testEnv.SetReady(t, last, false)
	eventually(t, "the change", func() bool {
		all := slicesOf(t, ns)
		return slices.ContainsFunc(all, func(s discoveryv1.EndpointSlice) bool {
			return slices.ContainsFunc(s.Endpoints, func(e upstreamdiscoveryv1.Endpoint) bool { return !*e.Conditions.Ready })
		})
	})
	// A manager that starts again finds nothing to do. What it does with a marker, made
	// later, proves that it has looked.
	stop()
	testEnv.StartManager(t, addController)
	marker := builders.MakeService("marker").Namespace(ns).Selector("app", "none").Port("", 1, 1).ClusterIP("10.254.0.10").Obj()
	marker.Spec.IPFamilies = service.Spec.IPFamilies
	testEnv.Create(t, marker)
	writes := 0
	for e := range w.ResultChan() {
		slice, ok := e.Object.(*discoveryv1.EndpointSlice)
		if !ok {
			t.Fatalf("the watch ended: %v", e)
		}
		if slice.Labels[upstreamdiscoveryv1.LabelServiceName] == "marker" {
			break
		}
		writes++
	}
	if writes != 1 {
		t.Errorf("%d writes of slices for one Pod, want 1", writes)
	}
}

func TestServicesThatAreNotOursToFill(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	testEnv.Create(t, builders.MakeService("no-selector").Namespace(ns).Port("", 80, 80).ClusterIP("10.254.0.9").Obj())
	alias := builders.MakeService("alias").Namespace(ns).Selector("a", "b").Type(corev1.ServiceTypeExternalName).Obj()
	alias.Spec.ExternalName = "a.example"
	testEnv.Create(t, alias)
	// Its address is still to come: what it is, nobody knows.
	testEnv.Create(t, builders.MakeService("new").Namespace(ns).Selector("a", "b").Port("", 80, 80).Obj())
	marker := builders.MakeService("marker").Namespace(ns).Selector("app", "none").Port("", 1, 1).ClusterIP("10.254.0.10").Obj()
	marker.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	testEnv.Create(t, marker)
	eventuallySlices(t, ns, "IPv4 <unset>: ")
}

// Helpers.

func makeNode(t *testing.T, name, zone string) string {
	t.Helper()
	node := &keelsonv1.Node{}
	node.Name = name
	if zone != "" {
		node.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	testEnv.Create(t, node)
	return name
}

func remove(t *testing.T, obj client.Object) {
	t.Helper()
	if err := testEnv.Client.Delete(t.Context(), obj); err != nil && !apierrors.IsNotFound(err) {
		t.Fatalf("failed to delete %T: %v", obj, err)
	}
}

func slicesOf(t *testing.T, ns string) []discoveryv1.EndpointSlice {
	t.Helper()
	var list discoveryv1.EndpointSliceList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatalf("failed to list EndpointSlices: %v", err)
	}
	return list.Items
}

func watchSlices(t *testing.T, ns string) watch.Interface {
	t.Helper()
	c, err := client.NewWithWatch(testEnv.Config, client.Options{Scheme: testEnv.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	var list discoveryv1.EndpointSliceList
	if err := c.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	w, err := c.Watch(t.Context(), &discoveryv1.EndpointSliceList{},
		&client.ListOptions{Namespace: ns, Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

func addresses(all []discoveryv1.EndpointSlice) []string {
	var found []string
	for i := range all {
		for _, e := range all[i].Endpoints {
			found = append(found, e.Addresses...)
		}
	}
	return found
}

// show writes a slice in one line: "IPv4 8080: 10.0.0.1 ready serving, 10.0.0.2".
func show(slice *discoveryv1.EndpointSlice) string {
	var endpoints []string
	for _, e := range slice.Endpoints {
		text := strings.Join(e.Addresses, "+")
		for _, condition := range []struct {
			name  string
			value *bool
		}{{"ready", e.Conditions.Ready}, {"serving", e.Conditions.Serving}, {"terminating", e.Conditions.Terminating}} {
			if condition.value != nil && *condition.value {
				text += " " + condition.name
			}
		}
		endpoints = append(endpoints, text)
	}
	slices.Sort(endpoints)
	return fmt.Sprintf("%s %s: %s", slice.AddressType, slice.Status.Summary.Ports, strings.Join(endpoints, ", "))
}

func eventuallySlices(t *testing.T, ns string, want ...string) {
	t.Helper()
	env.Eventually(t, func() string {
		var got []string
		all := slicesOf(t, ns)
		for i := range all {
			got = append(got, show(&all[i]))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Sprintf("slices %q, want %q", got, want)
		}
		return ""
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	env.Eventually(t, func() string {
		if !is() {
			return "no " + what
		}
		return ""
	})
}
