// Package loadbalancer tests the controller of load balancers' addresses, beside that of
// Services, inside a running manager against a real API server.
package loadbalancer

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/loadbalancer"
	"github.com/keelson-dev/keelson/controllers/service"
	"github.com/keelson-dev/keelson/internal/addrpool"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func start(t *testing.T, entries ...string) (stop func()) {
	t.Helper()
	pool, err := addrpool.Parse(entries)
	if err != nil {
		t.Fatal(err)
	}
	return testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		if err := service.Add(mgr, service.Options{}); err != nil {
			return err
		}
		return loadbalancer.Add(mgr, loadbalancer.Options{Pool: pool})
	})
}

func balancer(t *testing.T, ns, name string) *keelsonv1.Service {
	t.Helper()
	s := builders.MakeService(name).Namespace(ns).Type(corev1.ServiceTypeLoadBalancer).Selector("app", "web").Port("", 80, 8080).Obj()
	if err := testEnv.Client.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, s *keelsonv1.Service, check func() string) {
	t.Helper()
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
			return err.Error()
		}
		return check()
	})
}

// has says that the Service has an address, in its status and its column.
func has(s *keelsonv1.Service, want string) func() string {
	return func() string {
		in := s.Status.LoadBalancer.Ingress
		if len(in) != 1 || in[0].IP != want || s.Status.Summary.ExternalIP != want || !slices.Contains(s.Finalizers, loadbalancer.Finalizer) {
			return fmt.Sprintf("%s: ingress %v, column %s, finalizers %v; want %s", s.Name, in, s.Status.Summary.ExternalIP, s.Finalizers, want)
		}
		return ""
	}
}

func change(t *testing.T, s *keelsonv1.Service, mutate func()) {
	t.Helper()
	eventually(t, s, func() string {
		before := s.DeepCopy()
		mutate()
		if err := testEnv.Client.Patch(t.Context(), s, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return err.Error()
		}
		return ""
	})
}

func remove(t *testing.T, s *keelsonv1.Service) {
	t.Helper()
	if err := testEnv.Client.Delete(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func gone(t *testing.T, s *keelsonv1.Service) {
	t.Helper()
	env.Eventually(t, func() string {
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("%s is there with finalizers %v (%v)", s.Name, s.Finalizers, err)
		}
		return ""
	})
}

func eventuallyEvent(t *testing.T, s *keelsonv1.Service, reason string) {
	t.Helper()
	env.Eventually(t, func() string {
		var list eventsv1.EventList
		if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(s.Namespace)); err != nil {
			return err.Error()
		}
		for _, e := range list.Items {
			if e.Regarding.Name == s.Name && e.Reason == reason {
				return ""
			}
		}
		return fmt.Sprintf("no event %s on %s", reason, s.Name)
	})
}

func TestAddressesComeAndGo(t *testing.T) {
	stop := start(t, "192.0.2.10-192.0.2.11")
	ns := testEnv.Namespace(t)
	first, second, third := balancer(t, ns, "first"), (*keelsonv1.Service)(nil), (*keelsonv1.Service)(nil)
	eventually(t, first, has(first, "192.0.2.10"))
	eventuallyEvent(t, first, "EnsuredLoadBalancer")
	second = balancer(t, ns, "second")
	eventually(t, second, has(second, "192.0.2.11"))

	third = balancer(t, ns, "third")
	eventuallyEvent(t, third, loadbalancer.ReasonFailed)
	eventually(t, third, func() string {
		c := meta.FindStatusCondition(third.Status.Conditions, loadbalancer.ConditionType)
		if c == nil || c.Reason != loadbalancer.ReasonPoolExhausted || third.Status.Summary.ExternalIP != "<pending>" {
			return fmt.Sprintf("condition %v, column %s", c, third.Status.Summary.ExternalIP)
		}
		return ""
	})

	// Another manager finds everything as it is.
	stop()
	start(t, "192.0.2.10-192.0.2.11")
	remove(t, first)
	gone(t, first)
	eventually(t, third, has(third, "192.0.2.10"))
	eventually(t, second, has(second, "192.0.2.11"))

	// No load balancer any more: nothing of one stays.
	change(t, second, func() { second.Spec.Type = corev1.ServiceTypeClusterIP; second.Spec.Ports[0].NodePort = 0 })
	eventually(t, second, func() string {
		if len(second.Finalizers) > 0 || len(second.Status.LoadBalancer.Ingress) > 0 || len(second.Status.Conditions) > 0 {
			return fmt.Sprintf("finalizers %v, status %+v", second.Finalizers, second.Status)
		}
		return ""
	})
	remove(t, third)
	gone(t, third)
}

func TestAServiceStaysUntilItsAddressIsReleased(t *testing.T) {
	start(t, "192.0.2.20/32")
	ns := testEnv.Namespace(t)
	s := balancer(t, ns, "held")
	eventually(t, s, has(s, "192.0.2.20"))
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: keelsonv1.NodeLeaseNamespace}}
	if err := testEnv.Client.Create(t.Context(), namespace); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "load-balancer.192.0.2.20"}}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new("node-1"), new(int32(3600))
	lease.Spec.RenewTime = new(metav1.NowMicro())
	if err := testEnv.Client.Create(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	remove(t, s)
	// Looked at again every second; the next may have the address only afterwards.
	next := balancer(t, ns, "next")
	eventuallyEvent(t, next, loadbalancer.ReasonFailed)
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
		t.Fatalf("the Service is gone while a node announces its address: %v", err)
	}
	before := lease.DeepCopy()
	lease.Spec.HolderIdentity = new("")
	if err := testEnv.Client.Patch(t.Context(), lease, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	gone(t, s)
	eventually(t, next, has(next, "192.0.2.20"))
	remove(t, next)
	gone(t, next)
}

func TestWithoutAPool(t *testing.T) {
	stop := start(t, "192.0.2.30/32")
	ns := testEnv.Namespace(t)
	had := balancer(t, ns, "had")
	eventually(t, had, has(had, "192.0.2.30"))
	stop()

	start(t)
	eventually(t, had, func() string {
		if len(had.Finalizers) > 0 || len(had.Status.LoadBalancer.Ingress) > 0 {
			return fmt.Sprintf("finalizers %v, ingress %v", had.Finalizers, had.Status.LoadBalancer.Ingress)
		}
		return ""
	})
	waits := balancer(t, ns, "waits")
	eventuallyEvent(t, waits, loadbalancer.ReasonOff)
	// What another implementation writes stays.
	before := waits.DeepCopy()
	eventually(t, waits, func() string {
		before = waits.DeepCopy()
		waits.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
		if err := testEnv.Client.Status().Patch(t.Context(), waits, client.MergeFrom(before)); err != nil {
			return err.Error()
		}
		return ""
	})
	change(t, waits, func() { waits.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	settled := time.Now().Add(time.Second)
	eventually(t, waits, func() string {
		if in := waits.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != "203.0.113.1" {
			t.Fatalf("ingress %v", in)
		}
		if time.Now().Before(settled) {
			return "it may still change"
		}
		return ""
	})
}
