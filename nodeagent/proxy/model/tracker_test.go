package model

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

var compareAddresses = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func webName() types.NamespacedName { return types.NamespacedName{Namespace: "default", Name: "web"} }

func apiService(changes ...func(*keelsonv1.Service)) *keelsonv1.Service {
	svc := &keelsonv1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.254.0.10", SessionAffinity: corev1.ServiceAffinityClientIP,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}},
		},
	}
	for _, change := range changes {
		change(svc)
	}
	return svc
}

// apiSlice makes a slice of the Service web with ready endpoints.
func apiSlice(name string, ips ...string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{upstreamdiscoveryv1.LabelServiceName: "web"}},
		AddressType: upstreamdiscoveryv1.AddressTypeIPv4,
		Ports: []upstreamdiscoveryv1.EndpointPort{
			{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)},
			{Name: new("other"), Port: new(int32(1))}, {Name: new("all ports")},
		},
	}
	for _, ip := range ips {
		slice.Endpoints = append(slice.Endpoints, upstreamdiscoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return slice
}

func ready(address string) Endpoint {
	return Endpoint{Address: netip.MustParseAddrPort(address), Ready: true, Serving: true}
}

// httpEndpoints returns what is behind the first port of the only Service that changed.
func httpEndpoints(t *testing.T, tr *Tracker) []Endpoint {
	t.Helper()
	changed := tr.TakeChanged().Services
	if len(changed) != 1 || len(changed[0].Ports) == 0 {
		t.Fatalf("changed: %+v, want one Service with ports", changed)
	}
	return changed[0].Ports[0].Endpoints
}

func TestTrackerMergesServiceAndSlices(t *testing.T) {
	tr := NewTracker("node-1", time.Time{})
	if tr.SetSlice(apiSlice("web-1", "10.244.1.3", "10.244.1.2", "10.244.1.2", "fd00::1", "nonsense")) {
		t.Error("a slice without a Service matters")
	}
	tr.SetSlice(apiSlice("web-2", "10.244.1.1", "10.244.1.3"))
	tr.SetService(apiService())
	ip := netip.MustParseAddr("10.254.0.10")
	want := []Service{{Name: webName(), Ports: []ServicePort{
		{Name: PortName{webName(), "http"}, Protocol: TCP, ClusterIP: ip, Port: 80, NodePort: 30080, AffinitySeconds: 10800,
			Endpoints: []Endpoint{ready("10.244.1.1:8080"), ready("10.244.1.2:8080"), ready("10.244.1.3:8080")}},
		{Name: PortName{webName(), "dns"}, Protocol: UDP, ClusterIP: ip, Port: 53, AffinitySeconds: 10800},
	}}}
	if diff := cmp.Diff(want, tr.TakeChanged().Services, compareAddresses); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
}

func TestTrackerFollowsSlices(t *testing.T) {
	tr := NewTracker("node-1", time.Time{})
	tr.SetService(apiService())
	tr.SetSlice(apiSlice("web-1", "10.244.1.1"))
	tr.SetSlice(apiSlice("web-2", "10.244.1.2"))
	steps := []struct {
		name string
		do   func() bool
		want string
	}{
		{"an address moves to the other slice, which comes first", func() bool { return tr.SetSlice(apiSlice("web-2", "10.244.1.1", "10.244.1.2")) }, "10.244.1.1 10.244.1.2"},
		{"then it leaves the one where it was", func() bool { return tr.SetSlice(apiSlice("web-1")) }, "10.244.1.1 10.244.1.2"},
		{"a slice goes to another Service", func() bool {
			slice := apiSlice("web-2", "10.244.1.1")
			slice.Labels[upstreamdiscoveryv1.LabelServiceName] = "other"
			return tr.SetSlice(slice)
		}, ""},
		{"and comes back", func() bool { return tr.SetSlice(apiSlice("web-2", "10.244.1.7")) }, "10.244.1.7"},
		{"it is given to another proxy", func() bool {
			slice := apiSlice("web-2", "10.244.1.7")
			slice.Labels["service.kubernetes.io/service-proxy-name"] = "other"
			return tr.SetSlice(slice)
		}, ""},
		{"a slice with two addresses of one endpoint has the first", func() bool {
			slice := apiSlice("web-3", "10.244.1.4")
			slice.Endpoints[0].Addresses = append(slice.Endpoints[0].Addresses, "10.244.1.5")
			return tr.SetSlice(slice)
		}, "10.244.1.4"},
		{"it is deleted", func() bool { return tr.DeleteSlice(types.NamespacedName{Namespace: "default", Name: "web-3"}) }, ""},
	}
	tr.TakeChanged()
	for _, step := range steps {
		if !step.do() {
			t.Fatalf("%s: it does not matter", step.name)
		}
		if got := addresses(httpEndpoints(t, tr)); got != step.want {
			t.Errorf("%s: endpoints %q, want %q", step.name, got, step.want)
		}
	}
}

func TestTrackerReadsConditionsAndHints(t *testing.T) {
	tr := NewTracker("node-1", time.Time{})
	tr.SetService(apiService())
	slice := apiSlice("web-1", "10.244.1.1", "10.244.1.2", "10.244.1.3", "10.244.1.4")
	e := slice.Endpoints
	e[0].NodeName, e[0].Conditions.Ready = new("node-1"), new(false)
	e[1].NodeName, e[1].Conditions = new("node-2"), upstreamdiscoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	e[2].Hints = &upstreamdiscoveryv1.EndpointHints{ForZones: []upstreamdiscoveryv1.ForZone{{Name: "a"}}, ForNodes: []upstreamdiscoveryv1.ForNode{{Name: "node-1"}}}
	tr.SetSlice(slice)
	// A Pod has the address of one that terminates.
	again := apiSlice("web-2", "10.244.1.2")
	tr.SetSlice(again)
	at := func(address string) netip.AddrPort { return netip.MustParseAddrPort(address) }
	want := []Endpoint{
		{Address: at("10.244.1.1:8080"), Serving: true, Local: true},
		ready("10.244.1.2:8080"),
		{Address: at("10.244.1.3:8080"), Ready: true, Serving: true, Hints: &Hints{Zones: []string{"a"}, Nodes: []string{"node-1"}}},
		ready("10.244.1.4:8080"),
	}
	if diff := cmp.Diff(want, httpEndpoints(t, tr), compareAddresses); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
}

func TestTrackerMarksOnlyWhatMatters(t *testing.T) {
	tr := NewTracker("node-1", time.Time{})
	tr.SetService(apiService())
	tr.SetSlice(apiSlice("web-1", "10.244.1.2"))
	tr.TakeChanged()
	relabel := func(s *keelsonv1.Service) { s.Labels, s.ResourceVersion = map[string]string{"a": "b"}, "77" }
	same := apiSlice("web-1", "10.244.1.2")
	same.ResourceVersion, same.Endpoints[0].Conditions.Ready = "78", new(true)
	if tr.SetService(apiService(relabel)) || tr.SetSlice(same) {
		t.Error("an event that changes nothing matters")
	}
	if tr.DeleteSlice(types.NamespacedName{Namespace: "default", Name: "never-seen"}) {
		t.Error("a slice that nobody knew matters")
	}
	if got := tr.TakeChanged().Services; len(got) != 0 {
		t.Errorf("changed: %v", got)
	}
	counts, _ := tr.Counts()
	if diff := cmp.Diff(Counts{Services: 1, Slices: 1}, counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestServicesThatAreNotForTheProxy(t *testing.T) {
	for name, change := range map[string]func(*keelsonv1.Service){
		"headless":      func(s *keelsonv1.Service) { s.Spec.ClusterIP = "None" },
		"not allocated": func(s *keelsonv1.Service) { s.Spec.ClusterIP = "" },
		"ExternalName":  func(s *keelsonv1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
		"another proxy's": func(s *keelsonv1.Service) {
			s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": ""}
		},
		"labelled as headless": func(s *keelsonv1.Service) { s.Labels = map[string]string{corev1.IsHeadlessService: ""} },
	} {
		tr := NewTracker("node-1", time.Time{})
		tr.SetService(apiService())
		tr.TakeChanged()
		tr.SetService(apiService(change))
		if got := tr.TakeChanged().Services; len(got) != 1 || len(got[0].Ports) != 0 {
			t.Errorf("a Service that became %s: %v, want it without ports", name, got)
		}
	}
}

func TestServiceAddresses(t *testing.T) {
	tr := NewTracker("node-1", time.Time{})
	tr.SetService(apiService(func(s *keelsonv1.Service) {
		s.Spec.Type, s.Spec.SessionAffinity = corev1.ServiceTypeLoadBalancer, corev1.ServiceAffinityNone
		s.Spec.ClusterIPs = []string{"10.254.0.10", "fd00:10:254::a"}
		s.Spec.Ports = s.Spec.Ports[:1]
		s.Spec.ExternalIPs = []string{"203.0.113.1", "2001:db8::1"}
		s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 31000
		s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		s.Spec.LoadBalancerSourceRanges = []string{" 198.51.100.7/24", "2001:db8::/32", "::/0"}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{
			{IP: "203.0.113.2"}, {IP: "2001:db8::2", IPMode: new(corev1.LoadBalancerIPModeVIP)},
			{IP: "203.0.113.3", IPMode: new(corev1.LoadBalancerIPModeProxy)}, {Hostname: "lb.example"},
		}
	}))
	slice := apiSlice("web-6", "fd00::1", "10.244.1.1")
	slice.AddressType = upstreamdiscoveryv1.AddressTypeIPv6
	tr.SetSlice(slice)
	addr := netip.MustParseAddr
	common := ServicePort{
		Name: PortName{webName(), "http"}, Protocol: TCP, Port: 80, NodePort: 30080, ExternalLocal: true, InternalLocal: true,
	}
	four, six := common, common
	four.ClusterIP, four.ExternalIPs, four.LoadBalancerIPs = addr("10.254.0.10"), []netip.Addr{addr("203.0.113.1")}, []netip.Addr{addr("203.0.113.2")}
	four.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	six.ClusterIP, six.ExternalIPs, six.LoadBalancerIPs = addr("fd00:10:254::a"), []netip.Addr{addr("2001:db8::1")}, []netip.Addr{addr("2001:db8::2")}
	six.Endpoints = []Endpoint{ready("[fd00::1]:8080")}
	got := tr.TakeChanged().Services
	want := []Service{{Name: webName(), HealthCheckPort: 31000, Ports: []ServicePort{four, six}}}
	if diff := cmp.Diff(want, got, compareAddresses); diff != "" {
		t.Fatalf("changed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Service{Name: webName(), HealthCheckPort: 31000, Ports: []ServicePort{six}}, got[0].Of(IPv6), compareAddresses); diff != "" {
		t.Errorf("its IPv6 half (-want +got):\n%s", diff)
	}
}

func TestTrackerTellsWhenChangesHappened(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tr := NewTracker("node-1", start)
	tr.SetService(apiService())
	for name, at := range map[string]string{"old": start.Add(-time.Second).Format(time.RFC3339Nano), "new": start.Add(time.Second).Format(time.RFC3339Nano), "bad": "yesterday"} {
		slice := apiSlice(name, "10.244.1.1")
		slice.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at}
		tr.SetSlice(slice)
	}
	if diff := cmp.Diff([]time.Time{start.Add(time.Second)}, tr.TakeChanged().Triggers); diff != "" {
		t.Errorf("triggers (-want +got):\n%s", diff)
	}
	if again := tr.TakeChanged(); len(again.Triggers)+len(again.Services) != 0 {
		t.Errorf("taken twice: %+v", again)
	}
}

func TestFactsSayWhatIsWrong(t *testing.T) {
	good := NodeFacts{ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.254.0.0/16")}
	for want, change := range map[string]func(*NodeFacts){
		"":                           func(*NodeFacts) {},
		"ClusterCIDR is required":    func(f *NodeFacts) { f.ClusterCIDR = netip.Prefix{} },
		"ServiceCIDR is required":    func(f *NodeFacts) { f.ServiceCIDR = netip.Prefix{} },
		"is not an IPv4 range":       func(f *NodeFacts) { f.ClusterCIDR = netip.MustParsePrefix("fd00::/48") },
		"bits set beyond its prefix": func(f *NodeFacts) { f.ServiceCIDR = netip.MustParsePrefix("10.254.1.1/16") },
		"overlaps ClusterCIDR":       func(f *NodeFacts) { f.ServiceCIDR = netip.MustParsePrefix("10.244.8.0/24") },
		"is not part of ClusterCIDR": func(f *NodeFacts) { f.PodCIDR = netip.MustParsePrefix("10.9.0.0/24") },
		"ClusterCIDR6 is required":   func(f *NodeFacts) { f.ServiceCIDR6 = netip.MustParsePrefix("fd00::/112") },
		"is not an IPv6 range":       func(f *NodeFacts) { f.ClusterCIDR6 = netip.MustParsePrefix("10.1.0.0/16") },
		"is not part of ClusterCIDR6": func(f *NodeFacts) {
			f.ClusterCIDR6, f.PodCIDR6 = netip.MustParsePrefix("fd00::/48"), netip.MustParsePrefix("fd01::/64")
		},
		"ServiceCIDR6 fd00::/112 overl": func(f *NodeFacts) {
			f.ClusterCIDR6, f.ServiceCIDR6 = netip.MustParsePrefix("fd00::/48"), netip.MustParsePrefix("fd00::/112")
		},
	} {
		f := good
		change(&f)
		err := f.Validate()
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}
