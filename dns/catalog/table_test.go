package catalog

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	testclock "k8s.io/utils/clock/testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	keelsondiscoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

func slice(name, service string, addresses ...string) *keelsondiscoveryv1.EndpointSlice {
	s := &keelsondiscoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service},
	}}
	for _, address := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	return s
}

func slicesAt(c *Catalog, address string) (names []string) {
	for _, s := range c.SlicesAt(address) {
		names = append(names, s.Name)
	}
	return names
}

func slicesOf(c *Catalog, service string) (names []string) {
	for _, s := range c.Slices(Key{"ns", service}) {
		names = append(names, s.Name)
	}
	return names
}

// A name follows every kind of change that a watch tells of.
func TestIndexesFollowChanges(t *testing.T) {
	clock := testclock.NewFakePassiveClock(time.Unix(100, 0))
	c := New(Options{}, clock)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, at map[string][]string, of map[string][]string) {
		t.Helper()
		for address, want := range at {
			if got := slicesAt(c, address); !slices.Equal(got, want) {
				t.Errorf("%s, %s is in %q, want %q", when, address, got, want)
			}
		}
		for service, want := range of {
			if got := slicesOf(c, service); !slices.Equal(got, want) {
				t.Errorf("%s, %s has %q, want %q", when, service, got, want)
			}
		}
	}
	must(c.slices.Replace([]any{slice("a", "web", "10.0.0.1"), slice("b", "web", "10.0.0.2")}, ""))
	check("listed", map[string][]string{"10.0.0.1": {"a"}, "10.0.0.2": {"b"}}, map[string][]string{"web": {"a", "b"}})
	must(c.slices.Add(slice("c", "db", "10.0.0.1")))
	check("added", map[string][]string{"10.0.0.1": {"a", "c"}}, map[string][]string{"db": {"c"}})
	must(c.slices.Update(slice("a", "db", "10.0.0.3")))
	check("moved to another Service", map[string][]string{"10.0.0.1": {"c"}, "10.0.0.3": {"a"}}, map[string][]string{"web": {"b"}, "db": {"a", "c"}})
	must(c.slices.Update(slice("b", "web")))
	check("without endpoints", map[string][]string{"10.0.0.2": nil}, map[string][]string{"web": nil})
	must(c.slices.Delete(cache.DeletedFinalStateUnknown{Obj: slice("c", "db")}))
	check("deleted", map[string][]string{"10.0.0.1": nil}, map[string][]string{"db": {"a"}})
	must(c.slices.Replace([]any{slice("z", "web", "10.0.0.9")}, ""))
	check("listed anew", map[string][]string{"10.0.0.3": nil, "10.0.0.9": {"z"}}, map[string][]string{"db": nil, "web": {"z"}})
}

// The serial of the zone changes when an answer does, and not with every heartbeat.
func TestModifiedIsWhenAnAnswerChanged(t *testing.T) {
	clock := testclock.NewFakePassiveClock(time.Unix(100, 0))
	c := New(Options{}, clock)
	if err := c.Load(slice("a", "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	at := func(second int64, object any) time.Time {
		clock.SetTime(time.Unix(second, 0))
		if err := c.slices.Update(object); err != nil {
			t.Fatal(err)
		}
		return c.Modified()
	}
	same := slice("a", "web", "10.0.0.1")
	same.Annotations = map[string]string{"touched": "yes"}
	if got := at(200, same); got.Unix() != 100 {
		t.Errorf("a change of an annotation counts: %v", got)
	}
	if got := at(300, slice("a", "web", "10.0.0.2")); got.Unix() != 300 {
		t.Errorf("a change of an address does not count: %v", got)
	}
}

func TestSyncedWhenEveryKindWasListed(t *testing.T) {
	c := New(Options{WithoutEndpoints: true}, testclock.NewFakePassiveClock(time.Unix(0, 0)))
	for _, step := range []func([]any, string) error{c.namespaces.Replace, c.services.Replace} {
		if c.Synced() {
			t.Error("synced too early")
		}
		if err := step(nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	if !c.Synced() {
		t.Error("not synced: it waits for kinds that nobody asked for")
	}
}

func TestServicesAsAnswersNeedThem(t *testing.T) {
	service := func(change func(*corev1.ServiceSpec)) *keelsonv1.Service {
		s := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}}
		change(&s.Spec)
		return s
	}
	web, noPort := Key{"ns", "web"}, []Port{{Number: -1}}
	for name, tt := range map[string]struct {
		in   *keelsonv1.Service
		want *Service
	}{
		"an address of before there were two": {service(func(s *corev1.ServiceSpec) { s.ClusterIP = "10.0.0.1" }), &Service{Key: web, Addresses: []string{"10.0.0.1"}, Ports: noPort}},
		"headless":                            {service(func(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone }), &Service{Key: web, Headless: true, Ports: noPort}},
		"another name":                        {service(func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "example.org" }), &Service{Key: web, ExternalName: "example.org"}},
		"a port without a protocol is of TCP": {service(func(s *corev1.ServiceSpec) { s.ClusterIP, s.Ports = "10.0.0.1", []corev1.ServicePort{{Port: 80}} }),
			&Service{Key: web, Addresses: []string{"10.0.0.1"}, Ports: []Port{{Protocol: "TCP", Number: 80}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := serviceOf(tt.in)
			if diff := cmp.Diff(tt.want, got); !ok || diff != "" {
				t.Errorf("kept %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}
