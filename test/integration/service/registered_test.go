package service

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/controllers/service"
	"github.com/keelson-dev/keelson/test/builders"
)

// What API servers say of themselves is a slice of the built-in kind, which the test
// writes in their place. The one of the test registers itself, too, with an address of this
// machine, which is none of these.
func TestTheKubernetesServiceFollowsTheAPIServers(t *testing.T) {
	start(t, service.Options{KubernetesServiceEndpoints: []string{"203.0.113.1:6444", "203.0.113.2:6444", "203.0.113.3:6444"}, RegisteredAPIServers: true})
	kubernetes := builders.MakeService("kubernetes").Obj()
	slice := &discoveryv1.EndpointSlice{}
	slice.Namespace, slice.Name = kubernetes.Namespace, kubernetes.Name
	t.Cleanup(func() { removeIfThere(t, slice) })
	leadsTo := func(when, want string) {
		t.Helper()
		eventually(t, slice, func(s *discoveryv1.EndpointSlice) string {
			if diff := cmp.Diff(discoveryv1.EndpointSliceSummary{Ports: "6444", Endpoints: want}, s.Status.Summary); diff != "" {
				return when + ": " + diff
			}
			return ""
		})
	}
	leadsTo("none has registered", "203.0.113.1,203.0.113.2,203.0.113.3")

	registered := &upstreamdiscoveryv1.EndpointSlice{AddressType: upstreamdiscoveryv1.AddressTypeIPv4}
	registered.Namespace, registered.Name = kubernetes.Namespace, "registered"
	registered.Labels = map[string]string{upstreamdiscoveryv1.LabelServiceName: kubernetes.Name}
	registered.Endpoints = []upstreamdiscoveryv1.Endpoint{{Addresses: []string{"203.0.113.1"}}, {Addresses: []string{"203.0.113.3"}}}
	if err := testEnv.Client.Create(t.Context(), registered); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeIfThere(t, registered) })
	leadsTo("two have", "203.0.113.1,203.0.113.3")

	before := registered.DeepCopy()
	registered.Endpoints = registered.Endpoints[1:]
	if err := testEnv.Client.Patch(t.Context(), registered, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	leadsTo("one is lost", "203.0.113.3")
	remove(t, registered)
	leadsTo("none is there", "203.0.113.1,203.0.113.2,203.0.113.3")
}
