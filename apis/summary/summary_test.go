package summary

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestNode(t *testing.T) {
	none := func(status, roles string) keelsonv1.NodeSummary {
		return keelsonv1.NodeSummary{Status: status, Roles: roles, InternalIP: None, ExternalIP: None}
	}
	ready := func(s corev1.ConditionStatus) []corev1.NodeCondition {
		return []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue}, {Type: corev1.NodeReady, Status: s}}
	}
	for name, tc := range map[string]struct {
		labels        map[string]string
		conditions    []corev1.NodeCondition
		addresses     []corev1.NodeAddress
		unschedulable bool
		want          keelsonv1.NodeSummary
	}{
		"no condition at all is Unknown":      {want: none("Unknown", None)},
		"ready":                               {conditions: ready(corev1.ConditionTrue), want: none("Ready", None)},
		"not ready":                           {conditions: ready(corev1.ConditionFalse), want: none("NotReady", None)},
		"unknown readiness is NotReady":       {conditions: ready(corev1.ConditionUnknown), want: none("NotReady", None)},
		"cordoned":                            {conditions: ready(corev1.ConditionTrue), unschedulable: true, want: none("Ready,SchedulingDisabled", None)},
		"cordoned before it ever reported":    {unschedulable: true, want: none("Unknown,SchedulingDisabled", None)},
		"roles of both label forms, no twins": {labels: map[string]string{"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": "x", "kubernetes.io/role": "edge", "node-role.kubernetes.io/": ""}, want: none("Unknown", "edge,worker")},
		"an empty role label is no role":      {labels: map[string]string{"kubernetes.io/role": ""}, want: none("Unknown", None)},
		"the first address of each type": {
			addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "h"}, {Type: corev1.NodeExternalIP, Address: "1.1.1.1"},
				{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeInternalIP, Address: "10.0.0.2"}},
			want: keelsonv1.NodeSummary{Status: "Unknown", Roles: None, InternalIP: "10.0.0.1", ExternalIP: "1.1.1.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Labels: tc.labels}, Spec: corev1.NodeSpec{Unschedulable: tc.unschedulable}}
			node.Status.Conditions, node.Status.Addresses = tc.conditions, tc.addresses
			if diff := cmp.Diff(tc.want, Node(node)); diff != "" {
				t.Errorf("Node() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReplicationController(t *testing.T) {
	full := &keelsonv1.ReplicationController{Spec: corev1.ReplicationControllerSpec{
		Selector: map[string]string{"b": "2", "a": "1"},
		Template: &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "foo1", Image: "someimage"}, {Name: "foo2", Image: "otherimage"}}}},
	}}
	full.Status.ReadyReplicas = 3
	for name, tc := range map[string]struct {
		rc   *keelsonv1.ReplicationController
		want keelsonv1.WorkloadSummary
	}{
		"two containers": {full, keelsonv1.WorkloadSummary{Ready: 3, Containers: "foo1,foo2", Images: "someimage,otherimage", Selector: "a=1,b=2"}},
		"no template and no selector leave the strings empty": {&keelsonv1.ReplicationController{}, keelsonv1.WorkloadSummary{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ReplicationController(tc.rc)); diff != "" {
				t.Errorf("ReplicationController() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestService(t *testing.T) {
	ingress := []corev1.LoadBalancerIngress{{IP: "2.2.2.2"}, {Hostname: "lb.example"}, {IP: "1.1.1.1"}, {IP: "2.2.2.2"}}
	for name, tc := range map[string]struct {
		spec    corev1.ServiceSpec
		ingress []corev1.LoadBalancerIngress
		want    keelsonv1.ServiceSummary
	}{
		"a ClusterIP Service": {
			spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{"10.254.0.7", "fd00::7"}, Selector: map[string]string{"b": "2", "a": "1"},
				Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}, {Port: 53, Protocol: corev1.ProtocolUDP}}},
			want: keelsonv1.ServiceSummary{ClusterIP: "10.254.0.7", ExternalIP: None, Ports: "80/TCP,53/UDP", Selector: "a=1,b=2"}},
		"a NodePort Service": {
			spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIPs: []string{"10.254.0.7"}, ExternalIPs: []string{"9.9.9.9", "8.8.8.8"},
				Ports: []corev1.ServicePort{{Port: 80, NodePort: 30001, Protocol: corev1.ProtocolTCP}}},
			want: keelsonv1.ServiceSummary{ClusterIP: "10.254.0.7", ExternalIP: "9.9.9.9,8.8.8.8", Ports: "80:30001/TCP", Selector: None}},
		"a headless Service without ports": {
			spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{"None"}},
			want: keelsonv1.ServiceSummary{ClusterIP: "None", ExternalIP: None, Ports: None, Selector: None}},
		"an address that is not allocated yet": {
			spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP},
			want: keelsonv1.ServiceSummary{ClusterIP: None, ExternalIP: None, Ports: None, Selector: None}},
		"an alias shows its name": {
			spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example"},
			want: keelsonv1.ServiceSummary{ClusterIP: None, ExternalIP: "db.example", Ports: None, Selector: None}},
		"a load balancer without an address": {
			spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
			want: keelsonv1.ServiceSummary{ClusterIP: None, ExternalIP: "<pending>", Ports: None, Selector: None}},
		"a load balancer with addresses of both kinds": {
			spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalIPs: []string{"9.9.9.9"}}, ingress: ingress,
			want: keelsonv1.ServiceSummary{ClusterIP: None, ExternalIP: "1.1.1.1,2.2.2.2,lb.example,9.9.9.9", Ports: None, Selector: None}},
		"a type that nobody knows": {
			spec: corev1.ServiceSpec{Type: "Other"},
			want: keelsonv1.ServiceSummary{ClusterIP: None, ExternalIP: "<unknown>", Ports: None, Selector: None}},
	} {
		t.Run(name, func(t *testing.T) {
			service := &keelsonv1.Service{Spec: tc.spec}
			service.Status.LoadBalancer.Ingress = tc.ingress
			if diff := cmp.Diff(tc.want, Service(service)); diff != "" {
				t.Errorf("Service() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	addresses := func(ips ...string) (all []corev1.EndpointAddress) {
		for _, ip := range ips {
			all = append(all, corev1.EndpointAddress{IP: ip})
		}
		return all
	}
	ports := func(numbers ...int32) (all []corev1.EndpointPort) {
		for _, n := range numbers {
			all = append(all, corev1.EndpointPort{Port: n})
		}
		return all
	}
	for name, tc := range map[string]struct {
		subsets []corev1.EndpointSubset
		want    string
	}{
		"no subset":                         {nil, None},
		"only addresses that are not ready": {[]corev1.EndpointSubset{{NotReadyAddresses: addresses("1.1.1.1"), Ports: ports(80)}}, ""},
		"two ports, two addresses": {
			[]corev1.EndpointSubset{{Addresses: addresses("1.1.1.1"), Ports: ports(80, 443)}, {Addresses: addresses("fd00::1"), Ports: ports(81)}},
			"1.1.1.1:80,1.1.1.1:443,[fd00::1]:81"},
		"addresses without a port": {[]corev1.EndpointSubset{{Addresses: addresses("1.1.1.1", "2.2.2.2")}}, "1.1.1.1,2.2.2.2"},
		"more than three over two subsets": {
			[]corev1.EndpointSubset{{Addresses: addresses("1.1.1.1", "2.2.2.2"), Ports: ports(80)}, {Addresses: addresses("3.3.3.3", "4.4.4.4", "5.5.5.5"), Ports: ports(80)}},
			"1.1.1.1:80,2.2.2.2:80,3.3.3.3:80 + 2 more..."},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Endpoints(tc.subsets).Endpoints); diff != "" {
				t.Errorf("Endpoints() (-want +got):\n%s", diff)
			}
		})
	}
}
