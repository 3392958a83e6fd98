// Package endpointslicemirroring tests the mirrors of hand-made Endpoints inside a running
// manager against a real API server.
package endpointslicemirroring

import (
	"fmt"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/controllers/endpointslicemirroring"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func addController(mgr ctrl.Manager) error {
	return endpointslicemirroring.Add(mgr, endpointslicemirroring.Options{})
}

func TestHandMadeEndpointsAreMirrored(t *testing.T) {
	stop := testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	manual := &keelsonv1.Endpoints{Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.168.3.180"}},
		Ports:     []corev1.EndpointPort{{Port: 3306, Protocol: corev1.ProtocolTCP}},
	}}}
	manual.Name, manual.Namespace = "mysql", ns
	testEnv.Create(t, manual)
	// Only where there is a Service, and one without a selector.
	marker := &keelsonv1.Endpoints{Subsets: manual.Subsets}
	marker.Name, marker.Namespace = "marker", ns
	testEnv.Create(t, marker)
	testEnv.Create(t, builders.MakeService("marker").Namespace(ns).Port("", 3306, 3306).Obj())
	eventuallyMirrors(t, ns, "marker", "192.168.3.180")
	eventuallyMirrors(t, ns, "mysql")
	service := builders.MakeService("mysql").Namespace(ns).Port("", 3306, 3306).Obj()
	testEnv.Create(t, service)
	eventuallyMirrors(t, ns, "mysql", "192.168.3.180")

	env.Change(t, &testEnv, manual, func(e *keelsonv1.Endpoints) {
		e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{IP: "192.168.3.181"})
	})
	eventuallyMirrors(t, ns, "mysql", "192.168.3.180,192.168.3.181")

	// A mirror that somebody damages or deletes comes back.
	mirror := mirrorsOf(t, ns, "mysql")[0]
	env.Change(t, &testEnv, &mirror, func(s *discoveryv1.EndpointSlice) { s.Endpoints, s.Status.Summary.Endpoints = s.Endpoints[:1], "" })
	eventuallyMirrors(t, ns, "mysql", "192.168.3.180,192.168.3.181")
	if err := testEnv.Client.Delete(t.Context(), &mirror); err != nil {
		t.Fatal(err)
	}
	eventuallyMirrors(t, ns, "mysql", "192.168.3.180,192.168.3.181")

	// A Service that selects Pods has slices of its own. The manager is away meanwhile.
	stop()
	env.Change(t, &testEnv, service, func(s *keelsonv1.Service) { s.Spec.Selector = map[string]string{"app": "mysql"} })
	testEnv.StartManager(t, addController)
	eventuallyMirrors(t, ns, "mysql")
	env.Change(t, &testEnv, service, func(s *keelsonv1.Service) { s.Spec.Selector = nil })
	eventuallyMirrors(t, ns, "mysql", "192.168.3.180,192.168.3.181")

	// The mirror goes at once, the garbage collector is not waited for.
	if err := testEnv.Client.Delete(t.Context(), manual); err != nil {
		t.Fatal(err)
	}
	eventuallyMirrors(t, ns, "mysql")
}

// Helpers.

func mirrorsOf(t *testing.T, ns, name string) []discoveryv1.EndpointSlice {
	t.Helper()
	var list discoveryv1.EndpointSliceList
	err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns), client.MatchingLabels{
		upstreamdiscoveryv1.LabelServiceName: name, upstreamdiscoveryv1.LabelManagedBy: endpointslicemirroring.ManagedBy,
	})
	if err != nil {
		t.Fatalf("failed to list EndpointSlices: %v", err)
	}
	return list.Items
}

func eventuallyMirrors(t *testing.T, ns, name string, want ...string) {
	t.Helper()
	env.Eventually(t, func() string {
		got := []string{}
		for _, s := range mirrorsOf(t, ns, name) {
			got = append(got, s.Status.Summary.Endpoints)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Sprintf("mirrors of %s: %v, want %v", name, got, want)
		}
		return ""
	})
}
