package endpoints

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

func pod(name, ip string) *builders.PodBuilder {
	return builders.MakePod(name).UID("uid-"+name).Label("app", "web").Node("n1").IP(ip)
}

func service() *builders.ServiceBuilder {
	return builders.MakeService("web").Selector("app", "web").ClusterIP("10.254.0.9")
}

// show writes subsets in one line each: "80/TCP,443/TCP(https): 10.0.0.1 | 10.0.0.2".
func show(subsets []corev1.EndpointSubset) []string {
	var lines []string
	for _, s := range subsets {
		line := ""
		for i, p := range s.Ports {
			if i > 0 {
				line += ","
			}
			line += fmt.Sprintf("%d/%s", p.Port, p.Protocol)
			if p.Name != "" {
				line += "(" + p.Name + ")"
			}
		}
		line += ":"
		for _, a := range s.Addresses {
			line += " " + a.IP
		}
		if len(s.NotReadyAddresses) > 0 {
			line += " |"
		}
		for _, a := range s.NotReadyAddresses {
			line += " " + a.IP
		}
		lines = append(lines, line)
	}
	return lines
}

func TestComputeSubsets(t *testing.T) {
	later := time.Unix(100, 0)
	tests := map[string]struct {
		service *keelsonv1.Service
		pods    []*keelsonv1.Pod
		want    []string
	}{
		"no Pod, no subset": {service: service().Port("", 80, 8080).Obj()},
		"every matching Pod is an address, sorted": {
			service: service().Port("", 80, 8080).Obj(),
			pods:    []*keelsonv1.Pod{pod("b", "10.0.0.2").Ready().Obj(), pod("a", "10.0.0.1").Ready().Obj()},
			want:    []string{"8080/TCP: 10.0.0.1 10.0.0.2"},
		},
		"a Pod that is not ready is listed apart": {
			service: service().Port("", 80, 8080).Obj(),
			pods:    []*keelsonv1.Pod{pod("a", "10.0.0.1").Ready().Obj(), pod("b", "10.0.0.2").NotReady().Obj()},
			want:    []string{"8080/TCP: 10.0.0.1 | 10.0.0.2"},
		},
		"publishNotReadyAddresses makes it an address like any other": {
			service: service().Port("", 80, 8080).PublishNotReady().Obj(),
			pods:    []*keelsonv1.Pod{pod("a", "10.0.0.1").NotReady().Obj()},
			want:    []string{"8080/TCP: 10.0.0.1"},
		},
		"several ports of the same Pods share a subset": {
			service: service().Port("http", 80, 8080).Port("https", 443, 8443).Obj(),
			pods:    []*keelsonv1.Pod{pod("a", "10.0.0.1").Ready().Obj()},
			want:    []string{"8080/TCP(http),8443/TCP(https): 10.0.0.1"},
		},
		"a named target port has the number of each Pod": {
			service: service().NamedPort("", 80, "web").Obj(),
			pods: []*keelsonv1.Pod{
				pod("a", "10.0.0.1").Port("web", 8080, corev1.ProtocolTCP).Ready().Obj(),
				pod("b", "10.0.0.2").Port("web", 9090, "").Ready().Obj(),
			},
			want: []string{"8080/TCP: 10.0.0.1", "9090/TCP: 10.0.0.2"},
		},
		"a Pod without the named port, or with another protocol, serves nothing": {
			service: service().NamedPort("", 80, "web").Obj(),
			pods: []*keelsonv1.Pod{
				pod("a", "10.0.0.1").Ready().Obj(),
				pod("b", "10.0.0.2").Port("web", 53, corev1.ProtocolUDP).Ready().Obj(),
			},
		},
		"a sidecar's named port counts, an init container's does not": {
			service: service().NamedPort("", 80, "side").NamedPort("i", 81, "init").Obj(),
			pods: []*keelsonv1.Pod{func() *keelsonv1.Pod {
				p := pod("a", "10.0.0.1").Ready().Obj()
				p.Spec.InitContainers = []corev1.Container{
					{Name: "init", Ports: []corev1.ContainerPort{{Name: "init", ContainerPort: 1, Protocol: corev1.ProtocolTCP}}},
					{
						Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
						Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 2, Protocol: corev1.ProtocolTCP}},
					},
				}
				return p
			}()},
			want: []string{"2/TCP: 10.0.0.1"},
		},
		"a target port that was not defaulted is the Service's port": {
			service: service().PortSpec(corev1.ServicePort{Port: 80}).Obj(),
			pods:    []*keelsonv1.Pod{pod("a", "10.0.0.1").Ready().Obj()},
			want:    []string{"80/TCP: 10.0.0.1"},
		},
		"the same port over TCP and UDP": {
			service: service().Port("t", 53, 53).PortSpec(corev1.ServicePort{
				Name: "u", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(53),
			}).Obj(),
			pods: []*keelsonv1.Pod{pod("a", "10.0.0.1").Ready().Obj()},
			want: []string{"53/TCP(t),53/UDP(u): 10.0.0.1"},
		},
		"Pods without an address, finished and terminating ones are left out": {
			service: service().Port("", 80, 8080).Obj(),
			pods: []*keelsonv1.Pod{
				builders.MakePod("new").Label("app", "web").Ready().Obj(),
				pod("failed", "10.0.0.2").Ready().Phase(corev1.PodFailed).Obj(),
				pod("done", "10.0.0.3").Ready().Phase(corev1.PodSucceeded).Obj(),
				pod("going", "10.0.0.4").Ready().Deleting(later).Obj(),
			},
		},
		"publishNotReadyAddresses keeps a terminating Pod, not a finished one": {
			service: service().Port("", 80, 8080).PublishNotReady().Obj(),
			pods: []*keelsonv1.Pod{
				pod("going", "10.0.0.4").NotReady().Deleting(later).Obj(),
				pod("failed", "10.0.0.2").Phase(corev1.PodFailed).Obj(),
			},
			want: []string{"8080/TCP: 10.0.0.4"},
		},
		"a Pod that matches one label of two is not an endpoint": {
			service: service().Selector("tier", "front").Port("", 80, 8080).Obj(),
			pods:    []*keelsonv1.Pod{pod("a", "10.0.0.1").Ready().Obj()},
		},
		"a headless Service without ports lists addresses": {
			service: builders.MakeService("web").Selector("app", "web").Headless().Obj(),
			pods:    []*keelsonv1.Pod{pod("a", "10.0.0.1").Ready().Obj()},
			want:    []string{": 10.0.0.1"},
		},
		"Pods on the host network share an address and stay two": {
			service: service().Port("", 80, 8080).Obj(),
			pods:    []*keelsonv1.Pod{pod("a", "192.0.2.1").Ready().Obj(), pod("b", "192.0.2.1").Ready().Obj()},
			want:    []string{"8080/TCP: 192.0.2.1 192.0.2.1"},
		},
		"an IPv6 address does not serve an IPv4 Service": {
			service: service().Port("", 80, 8080).Obj(),
			pods:    []*keelsonv1.Pod{pod("a", "fd00::1").Ready().Obj()},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, show(computeSubsets(tc.service, tc.pods))); diff != "" {
				t.Errorf("subsets (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddressPointsAtItsPod(t *testing.T) {
	s := service().Port("http", 80, 8080).Obj()
	s.Spec.Ports[0].AppProtocol = new("kubernetes.io/h2c")
	got := computeSubsets(s, []*keelsonv1.Pod{pod("a", "10.0.0.1").Hostname("a-0", "web").Ready().Obj(), pod("b", "10.0.0.2").Hostname("b-0", "other").Ready().Obj()})
	want := []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{
			{
				IP: "10.0.0.1", Hostname: "a-0", NodeName: new("n1"),
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "a", UID: "uid-a"},
			},
			{
				IP: "10.0.0.2", NodeName: new("n1"),
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "b", UID: "uid-b"},
			},
		},
		Ports: []corev1.EndpointPort{{Name: "http", Port: 8080, Protocol: corev1.ProtocolTCP, AppProtocol: new("kubernetes.io/h2c")}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("subsets (-want +got):\n%s", diff)
	}
}

func TestSubsetsDoNotDependOnTheOrderOfPods(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := service().NamedPort("a", 80, "a").NamedPort("b", 81, "b").Port("c", 82, 82).Obj()
		var pods []*keelsonv1.Pod
		for i := range rapid.IntRange(0, 12).Draw(t, "pods") {
			b := pod(fmt.Sprint(i), fmt.Sprintf("10.0.0.%d", i+1)).Ready()
			if rapid.Bool().Draw(t, "notReady") {
				b = b.NotReady()
			}
			b = b.Port("a", int32(rapid.IntRange(1, 2).Draw(t, "a")), "")
			if rapid.Bool().Draw(t, "hasB") {
				b = b.Port("b", 7, "")
			}
			pods = append(pods, b.Obj())
		}
		want := computeSubsets(s, pods)
		checkEachPairOnce(t, want)
		got := computeSubsets(s, rapid.Permutation(slices.Clone(pods)).Draw(t, "order"))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("another order gives another result (-first +second):\n%s", diff)
		}
	})
}

// checkEachPairOnce: no address serves a port twice.
func checkEachPairOnce(t *rapid.T, subsets []corev1.EndpointSubset) {
	seen := map[string]bool{}
	for _, s := range subsets {
		for _, a := range slices.Concat(s.Addresses, s.NotReadyAddresses) {
			for _, p := range s.Ports {
				key := fmt.Sprint(a.IP, p.Name, p.Port)
				if seen[key] {
					t.Fatalf("%s is listed twice in %v", key, show(subsets))
				}
				seen[key] = true
			}
		}
	}
}
