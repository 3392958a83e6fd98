package model

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func apiService(change func(*keelsonv1.Service)) *keelsonv1.Service {
	svc := &keelsonv1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.254.0.10", SessionAffinity: corev1.ServiceAffinityClientIP,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}},
		},
	}
	if change != nil {
		change(svc)
	}
	return svc
}

func apiEndpoints(ips ...string) *keelsonv1.Endpoints {
	var addresses []corev1.EndpointAddress
	for _, ip := range ips {
		addresses = append(addresses, corev1.EndpointAddress{IP: ip})
	}
	return &keelsonv1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Subsets: []corev1.EndpointSubset{{
			Addresses: addresses, NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.244.1.99"}},
			Ports: []corev1.EndpointPort{{Name: "http", Port: 8080, Protocol: corev1.ProtocolTCP}, {Name: "other", Port: 1}},
		}},
	}
}

func ready(address string) Endpoint {
	return Endpoint{Address: netip.MustParseAddrPort(address), Ready: true, Serving: true}
}

func TestTrackerMergesServiceAndEndpoints(t *testing.T) {
	tr := NewTracker("node-1", time.Time{})
	if tr.SetEndpoints(apiEndpoints("10.244.1.3", "10.244.1.2", "10.244.1.2", "fd00::1", "nonsense")) {
		t.Error("Endpoints without a Service matter")
	}
	tr.SetService(apiService(nil))
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	ip := netip.MustParseAddr("10.254.0.10")
	want := []Service{{Name: name, Ports: []ServicePort{
		{Name: PortName{name, "http"}, Protocol: TCP, ClusterIP: ip, Port: 80, NodePort: 30080, AffinitySeconds: 10800,
			Endpoints: []Endpoint{ready("10.244.1.2:8080"), ready("10.244.1.3:8080")}},
		{Name: PortName{name, "dns"}, Protocol: UDP, ClusterIP: ip, Port: 53, AffinitySeconds: 10800},
	}}}
	if diff := cmp.Diff(want, tr.TakeChanged().Services, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
}

func TestTrackerMarksOnlyWhatMatters(t *testing.T) {
	tr := NewTracker("node-1", time.Time{})
	tr.SetService(apiService(nil))
	tr.SetEndpoints(apiEndpoints("10.244.1.2"))
	tr.TakeChanged()
	relabel := func(s *keelsonv1.Service) { s.Labels, s.ResourceVersion = map[string]string{"a": "b"}, "77" }
	if tr.SetService(apiService(relabel)) || tr.SetEndpoints(apiEndpoints("10.244.1.2")) {
		t.Error("an event that changes nothing matters")
	}
	if got := tr.TakeChanged().Services; len(got) != 0 {
		t.Errorf("changed: %v", got)
	}
	for name, headless := range map[string]func(*keelsonv1.Service){
		"headless":      func(s *keelsonv1.Service) { s.Spec.ClusterIP = "None" },
		"not allocated": func(s *keelsonv1.Service) { s.Spec.ClusterIP = "" },
		"ExternalName":  func(s *keelsonv1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
	} {
		tr.SetService(apiService(nil))
		tr.TakeChanged()
		tr.SetService(apiService(headless))
		if got := tr.TakeChanged().Services; len(got) != 1 || len(got[0].Ports) != 0 {
			t.Errorf("a Service that became %s: %v, want it without ports", name, got)
		}
	}
}
