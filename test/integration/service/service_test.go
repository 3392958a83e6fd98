// Package service tests the Service controller inside a running manager against a
// real API server.
package service

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/controllers/service"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

// start runs the controller with a range of its own: tests of one process share the
// API server, and Services are taken from all namespaces.
func start(t *testing.T, o service.Options) (stop func()) {
	t.Helper()
	t.Cleanup(func() { removeAllServices(t) })
	return testEnv.StartManager(t, func(mgr ctrl.Manager) error { return service.Add(mgr, o) })
}

func TestServicesGetAddressesAndPorts(t *testing.T) {
	start(t, service.Options{})
	ns := testEnv.Namespace(t)
	plain := builders.MakeService("plain").Namespace(ns).Selector("app", "web").Port("", 80, 8080).Obj()
	headless := builders.MakeService("headless").Namespace(ns).Headless().Port("", 80, 8080).Obj()
	fixed := builders.MakeService("fixed").Namespace(ns).ClusterIP("10.254.0.10").Port("", 53, 53).Obj()
	create(t, plain, headless, fixed)
	eventually(t, plain, func(s *keelsonv1.Service) string {
		if !strings.HasPrefix(s.Spec.ClusterIP, "10.254.") || len(s.Spec.ClusterIPs) != 1 || s.Spec.ClusterIPs[0] != s.Spec.ClusterIP {
			return fmt.Sprintf("addresses %q %v", s.Spec.ClusterIP, s.Spec.ClusterIPs)
		}
		want := keelsonv1.ServiceSummary{ClusterIP: s.Spec.ClusterIP, ExternalIP: "<none>", Ports: "80/TCP", Selector: "app=web"}
		return cmp.Diff(want, s.Status.Summary)
	})
	eventually(t, headless, func(s *keelsonv1.Service) string {
		if s.Spec.ClusterIP != "None" || s.Status.Summary.ClusterIP != "None" {
			return fmt.Sprintf("headless: %q, column %q", s.Spec.ClusterIP, s.Status.Summary.ClusterIP)
		}
		return ""
	})
	eventually(t, fixed, func(s *keelsonv1.Service) string {
		if s.Status.Summary.ClusterIP != "10.254.0.10" {
			return fmt.Sprintf("column %q", s.Status.Summary.ClusterIP)
		}
		return ""
	})

	// To NodePort and back: the port comes and goes, the address stays.
	address := plain.Spec.ClusterIP
	change(t, plain, func(s *keelsonv1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	eventually(t, plain, func(s *keelsonv1.Service) string {
		port := s.Spec.Ports[0].NodePort
		if port < 30000 || port > 32767 || s.Spec.ClusterIP != address || s.Status.Summary.Ports != fmt.Sprintf("80:%d/TCP", port) {
			return fmt.Sprintf("node port %d, address %s, column %q", port, s.Spec.ClusterIP, s.Status.Summary.Ports)
		}
		return ""
	})
	change(t, plain, func(s *keelsonv1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	eventually(t, plain, func(s *keelsonv1.Service) string {
		if s.Spec.Ports[0].NodePort != 0 || s.Spec.ClusterIP != address {
			return fmt.Sprintf("node port %d, address %s", s.Spec.Ports[0].NodePort, s.Spec.ClusterIP)
		}
		return ""
	})
}

func TestAFullRangeWaitsForAFreeAddress(t *testing.T) {
	start(t, service.Options{ServiceCIDR: "10.99.0.0/28"})
	ns := testEnv.Namespace(t)
	// 14 addresses, less the first and the tenth.
	var all []client.Object
	for i := range 12 {
		all = append(all, builders.MakeService(fmt.Sprint("s", i)).Namespace(ns).Port("", 80, 80).Obj())
	}
	create(t, all...)
	taken := map[string]string{}
	for _, obj := range all {
		s := obj.(*keelsonv1.Service)
		eventually(t, s, hasAddress)
		if other, twice := taken[s.Spec.ClusterIP]; twice {
			t.Fatalf("%s and %s both have %s", other, s.Name, s.Spec.ClusterIP)
		}
		taken[s.Spec.ClusterIP] = s.Name
	}
	late := builders.MakeService("late").Namespace(ns).Port("", 80, 80).Obj()
	create(t, late)
	eventuallyEvent(t, ns, "late", service.ReasonServiceCIDRFull)
	remove(t, all[0])
	eventually(t, late, hasAddress)
}

func TestDuplicatesFoundAtStartAreSettled(t *testing.T) {
	ns := testEnv.Namespace(t)
	first := builders.MakeService("first").Namespace(ns).Type(corev1.ServiceTypeNodePort).ClusterIP("10.254.7.7").Port("", 80, 80).NodePort(30777).Obj()
	create(t, first)
	// creationTimestamp has seconds: the second Service must be younger.
	time.Sleep(time.Until(first.CreationTimestamp.Add(1100 * time.Millisecond)))
	second := builders.MakeService("second").Namespace(ns).Type(corev1.ServiceTypeNodePort).ClusterIP("10.254.7.7").Port("", 80, 80).NodePort(30777).Obj()
	create(t, second)
	start(t, service.Options{})
	eventually(t, second, func(s *keelsonv1.Service) string {
		if s.Spec.ClusterIP == "10.254.7.7" || s.Spec.Ports[0].NodePort == 30777 || s.Spec.Ports[0].NodePort == 0 {
			return fmt.Sprintf("the younger has %s and %d", s.Spec.ClusterIP, s.Spec.Ports[0].NodePort)
		}
		return ""
	})
	eventuallyEvent(t, ns, "second", service.ReasonClusterIPAlreadyAllocated)
	eventuallyEvent(t, ns, "second", service.ReasonPortAlreadyAllocated)
	eventually(t, first, func(s *keelsonv1.Service) string {
		if s.Spec.ClusterIP != "10.254.7.7" || s.Spec.Ports[0].NodePort != 30777 {
			return fmt.Sprintf("the older has %s and %d", s.Spec.ClusterIP, s.Spec.Ports[0].NodePort)
		}
		return ""
	})
}

// The status of a load balancer is its implementation's to write, with conditions as
// upstream takes them; a Service that is no load balancer any more loses its addresses.
func TestTheStatusOfALoadBalancer(t *testing.T) {
	start(t, service.Options{ServiceCIDR: "10.253.0.0/24,fd00:253::/112"})
	ns := testEnv.Namespace(t)
	balancer := builders.MakeService("balancer").Namespace(ns).Type(corev1.ServiceTypeLoadBalancer).Port("", 80, 8080).Obj()
	balancer.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	balancer.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	balancer.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	create(t, balancer)
	eventually(t, balancer, func(s *keelsonv1.Service) string {
		if len(s.Spec.ClusterIPs) != 2 || !strings.HasPrefix(s.Spec.ClusterIPs[0], "10.253.0.") || !strings.HasPrefix(s.Spec.ClusterIPs[1], "fd00:253::") {
			return fmt.Sprintf("addresses %v", s.Spec.ClusterIPs)
		}
		if s.Spec.HealthCheckNodePort == 0 || s.Spec.Ports[0].NodePort == 0 || s.Status.Summary.ExternalIP != "<pending>" {
			return fmt.Sprintf("ports %d and %d, column %q", s.Spec.HealthCheckNodePort, s.Spec.Ports[0].NodePort, s.Status.Summary.ExternalIP)
		}
		return ""
	})
	before := balancer.DeepCopy()
	balancer.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}}
	balancer.Status.Conditions = []metav1.Condition{{Type: "Announced", Status: metav1.ConditionTrue, Reason: "ByTest", Message: "m"}} // without a time
	if err := testEnv.Client.Status().Patch(t.Context(), balancer, client.MergeFrom(before)); err != nil {
		t.Fatalf("failed to write the status: %v", err)
	}
	eventually(t, balancer, func(s *keelsonv1.Service) string {
		return cmp.Diff("192.0.2.7", s.Status.Summary.ExternalIP)
	})
	change(t, balancer, func(s *keelsonv1.Service) {
		s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeClusterIP, ""
	})
	eventually(t, balancer, func(s *keelsonv1.Service) string {
		if len(s.Status.LoadBalancer.Ingress) > 0 || s.Spec.HealthCheckNodePort != 0 || s.Spec.Ports[0].NodePort != 0 {
			return fmt.Sprintf("still has %v, ports %d and %d", s.Status.LoadBalancer.Ingress, s.Spec.HealthCheckNodePort, s.Spec.Ports[0].NodePort)
		}
		return ""
	})
}

func TestTheKubernetesServiceIsKept(t *testing.T) {
	thief := builders.MakeService("thief").Namespace(testEnv.Namespace(t)).ClusterIP("10.254.0.1").Port("", 80, 80).Obj()
	create(t, thief)
	start(t, service.Options{KubernetesServiceEndpoints: []string{"192.0.2.2:6443", "192.0.2.1:6443"}})
	kubernetes := builders.MakeService("kubernetes").Obj()
	endpoints := &keelsonv1.Endpoints{}
	endpoints.Name, endpoints.Namespace = "kubernetes", "default"
	slice := &discoveryv1.EndpointSlice{}
	slice.Name, slice.Namespace = "kubernetes", "default"
	t.Cleanup(func() { removeIfThere(t, endpoints) })
	t.Cleanup(func() { removeIfThere(t, slice) })
	kept := func() {
		t.Helper()
		eventually(t, kubernetes, func(s *keelsonv1.Service) string {
			if s.Spec.ClusterIP != "10.254.0.1" || s.Status.Summary.Ports != "443/TCP" {
				return fmt.Sprintf("address %s, column %q", s.Spec.ClusterIP, s.Status.Summary.Ports)
			}
			return ""
		})
		eventually(t, endpoints, func(e *keelsonv1.Endpoints) string {
			if got, want := e.Status.Summary.Endpoints, "192.0.2.1:6443,192.0.2.2:6443"; got != want {
				return fmt.Sprintf("Endpoints %q, want %q", got, want)
			}
			return ""
		})
		eventually(t, slice, func(s *discoveryv1.EndpointSlice) string {
			want := discoveryv1.EndpointSliceSummary{Ports: "6443", Endpoints: "192.0.2.1,192.0.2.2"}
			return cmp.Diff(want, s.Status.Summary)
		})
	}
	kept()
	eventually(t, thief, func(s *keelsonv1.Service) string {
		if s.Spec.ClusterIP == "10.254.0.1" || s.Spec.ClusterIP == "" {
			return fmt.Sprintf("the thief has %q", s.Spec.ClusterIP)
		}
		return ""
	})

	// Deleted or damaged, both come back.
	remove(t, kubernetes)
	kept()
	remove(t, endpoints)
	kept()
	remove(t, slice)
	kept()
	change(t, slice, func(s *discoveryv1.EndpointSlice) { s.Endpoints, s.Status.Summary.Endpoints = s.Endpoints[:1], "" })
	kept()
	change(t, kubernetes, func(s *keelsonv1.Service) { s.Spec.Selector = map[string]string{"app": "evil"} })
	eventually(t, kubernetes, func(s *keelsonv1.Service) string {
		if len(s.Spec.Selector) != 0 {
			return fmt.Sprintf("selector %v", s.Spec.Selector)
		}
		return ""
	})
}

func TestBadOptionsNameTheFlag(t *testing.T) {
	tests := map[string]service.Options{
		"--service-cidr":                 {ServiceCIDR: "10.254.0.0"},
		"--node-port-range":              {NodePortRange: "high"},
		"--kubernetes-service-endpoints": {KubernetesServiceEndpoints: []string{"example.org:6443"}},
	}
	for flag, options := range tests {
		t.Run(flag, func(t *testing.T) {
			if _, err := service.NewReconciler(testEnv.Client, nil, options); err == nil || !strings.HasPrefix(err.Error(), flag+": ") {
				t.Errorf("error = %v, want one that begins with %s", err, flag)
			}
		})
	}
}

// Helpers.

func hasAddress(s *keelsonv1.Service) string {
	if s.Spec.ClusterIP == "" {
		return s.Name + " has no address"
	}
	return ""
}

func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, obj := range objects {
		if err := testEnv.Client.Create(t.Context(), obj); err != nil {
			t.Fatalf("failed to create %s: %v", obj.GetName(), err)
		}
	}
}

func remove(t *testing.T, obj client.Object) {
	t.Helper()
	if err := testEnv.Client.Delete(t.Context(), obj); err != nil {
		t.Fatalf("failed to delete %s: %v", obj.GetName(), err)
	}
}

func removeIfThere(t *testing.T, obj client.Object) {
	t.Helper()
	if err := testEnv.Client.Delete(cleanupContext(t), obj); client.IgnoreNotFound(err) != nil {
		t.Errorf("failed to delete %s: %v", obj.GetName(), err)
	}
}

// change patches until no other writer was in between.
func change[T client.Object](t *testing.T, s T, mutate func(T)) {
	t.Helper()
	env.Eventually(t, func() string {
		get(t, s)
		before, _ := s.DeepCopyObject().(client.Object)
		mutate(s)
		err := testEnv.Client.Patch(t.Context(), s, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		if err != nil && !apierrors.IsConflict(err) {
			t.Fatalf("failed to patch %s: %v", s.GetName(), err)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
}

func get(t *testing.T, obj client.Object) {
	t.Helper()
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatalf("failed to get %s: %v", obj.GetName(), err)
	}
}

// eventually waits until check has no complaint about the fresh object, which may not
// exist yet; obj holds it afterwards.
func eventually[T client.Object](t *testing.T, obj T, check func(T) string) {
	t.Helper()
	key := client.ObjectKeyFromObject(obj)
	env.Eventually(t, func() string {
		err := testEnv.Client.Get(t.Context(), key, obj)
		if apierrors.IsNotFound(err) {
			return fmt.Sprintf("%s does not exist", key)
		}
		if err != nil {
			t.Fatalf("failed to get %s: %v", key, err)
		}
		return check(obj)
	})
}

func eventuallyEvent(t *testing.T, ns, name, reason string) {
	t.Helper()
	env.Eventually(t, func() string {
		var list eventsv1.EventList
		if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			t.Fatalf("failed to list events: %v", err)
		}
		for _, e := range list.Items {
			if e.Regarding.Name == name && e.Reason == reason && e.Type == corev1.EventTypeWarning {
				return ""
			}
		}
		return fmt.Sprintf("no event %s on %s", reason, name)
	})
}

func cleanupContext(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

func removeAllServices(t *testing.T) {
	t.Helper()
	var all keelsonv1.ServiceList
	if err := testEnv.Client.List(cleanupContext(t), &all); err != nil {
		t.Fatalf("failed to list Services: %v", err)
	}
	for i := range all.Items {
		removeIfThere(t, &all.Items[i])
	}
}
