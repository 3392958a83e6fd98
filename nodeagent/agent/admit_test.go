package agent

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// podAsking returns a Pod whose container asks for cpu and memory.
func podAsking(name, cpu, memory string) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	requests := corev1.ResourceList{}
	if cpu != "" {
		requests[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		requests[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	pod.Spec.Containers = []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{Requests: requests}}}
	return pod
}

func withPort(pod *keelsonv1.Pod, ip string, protocol corev1.Protocol, port int32) *keelsonv1.Pod {
	pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports,
		corev1.ContainerPort{HostIP: ip, Protocol: protocol, HostPort: port, ContainerPort: 80})
	return pod
}

func withSelector(pod *keelsonv1.Pod, key, value string) *keelsonv1.Pod {
	pod.Spec.NodeSelector = map[string]string{key: value}
	return pod
}

func TestAdmitPod(t *testing.T) {
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"disk": "ssd"}}}
	node.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("3"),
	}
	const affinity = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
	const ports = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
	tests := map[string]struct {
		pod    *keelsonv1.Pod
		others []*keelsonv1.Pod
		want   *refusal
	}{
		"fits an empty node":         {pod: podAsking("p", "4", "8Gi")},
		"asks for nothing":           {pod: podAsking("p", "", ""), others: []*keelsonv1.Pod{podAsking("o", "4", "8Gi")}},
		"fits exactly beside others": {pod: podAsking("p", "1500m", ""), others: []*keelsonv1.Pod{podAsking("o", "2500m", "")}},
		"asks for what no Pod gets here": {
			pod: func() *keelsonv1.Pod {
				pod := podAsking("p", "", "")
				pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "data"}}
				return pod
			}(),
			want: &refusal{"PodFeatureUnsupported", "spec.resourceClaims: Forbidden: not supported by Keelson yet: dynamic resources are not allocated"},
		},
		"too much cpu by less than the message can show": {
			pod: podAsking("p", "1500m", ""), others: []*keelsonv1.Pod{podAsking("o", "2500100u", "")},
			want: &refusal{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 1500, used: 2501, capacity: 4000"},
		},
		"too much cpu": {
			pod: podAsking("p", "1501m", ""), others: []*keelsonv1.Pod{podAsking("o", "2500m", "")},
			want: &refusal{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 1501, used: 2500, capacity: 4000"},
		},
		"too much memory": {
			pod:  podAsking("p", "1", "9Gi"),
			want: &refusal{"OutOfmemory", "Node didn't have enough resource: memory, requested: 9663676416, used: 0, capacity: 8589934592"},
		},
		"too many Pods": {
			pod: podAsking("p", "", ""), others: []*keelsonv1.Pod{podAsking("a", "", ""), podAsking("b", "", ""), podAsking("c", "", "")},
			want: &refusal{"OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"},
		},
		"large pages that are not there": {
			pod: func() *keelsonv1.Pod {
				pod := podAsking("p", "", "")
				pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"hugepages-2Mi": resource.MustParse("4Mi")}
				return pod
			}(),
			want: &refusal{"OutOfhugepages-2Mi", "Node didn't have enough resource: hugepages-2Mi, requested: 4194304, used: 0, capacity: 0"},
		},
		"a resource of the cluster, which no node counts": {
			pod: func() *keelsonv1.Pod {
				pod := podAsking("p", "", "")
				pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"example.com/licence": resource.MustParse("1")}
				pod.Spec.Containers[0].Resources.Limits = pod.Spec.Containers[0].Resources.Requests
				return pod
			}(),
		},
		"another operating system": {
			pod: func() *keelsonv1.Pod {
				pod := podAsking("p", "", "")
				pod.Spec.OS = &corev1.PodOS{Name: corev1.Windows}
				return pod
			}(),
			want: &refusal{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"},
		},
		"the label of another operating system": {
			pod: func() *keelsonv1.Pod {
				pod := podAsking("p", "", "")
				pod.Labels = map[string]string{corev1.LabelOSStable: "windows"}
				return pod
			}(),
			want: &refusal{"PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"},
		},
		"the overhead of its runtime": {
			pod: func() *keelsonv1.Pod {
				pod := podAsking("p", "4", "")
				pod.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m")}
				return pod
			}(),
			want: &refusal{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 4001, used: 0, capacity: 4000"},
		},
		"selects this node":    {pod: withSelector(podAsking("p", "", ""), "disk", "ssd")},
		"selects another node": {pod: withSelector(podAsking("p", "", ""), "disk", "hdd"), want: &refusal{"NodeAffinity", affinity}},
		"a taken port": {
			pod: withPort(podAsking("p", "", ""), "", "TCP", 80), others: []*keelsonv1.Pod{withPort(podAsking("o", "", ""), "192.0.2.1", "", 80)},
			want: &refusal{"NodePorts", ports},
		},
		"the port on another address": {
			pod: withPort(podAsking("p", "", ""), "192.0.2.1", "TCP", 80), others: []*keelsonv1.Pod{withPort(podAsking("o", "", ""), "192.0.2.2", "TCP", 80)},
		},
		"the port of another protocol": {
			pod: withPort(podAsking("p", "", ""), "", "UDP", 80), others: []*keelsonv1.Pod{withPort(podAsking("o", "", ""), "", "TCP", 80)},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, _ := admitPod(tt.pod, tt.others, node)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAdmissionOrder(t *testing.T) {
	at := func(name string, created int64, started bool) keelsonv1.Pod {
		pod := *podAsking(name, "", "")
		pod.CreationTimestamp = metav1.Unix(created, 0)
		if started {
			pod.Status.StartTime = new(metav1.Unix(created, 0))
		}
		return pod
	}
	var got []string
	for _, pod := range admissionOrder([]keelsonv1.Pod{at("new-old", 1, false), at("ran-late", 9, true), at("new-late", 5, false), at("ran-old", 2, true)}) {
		got = append(got, pod.Name)
	}
	if diff := cmp.Diff([]string{"ran-old", "ran-late", "new-old", "new-late"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestOptionsNameEveryProblem(t *testing.T) {
	o := NewOptions()
	o.Agent, o.Proxy, o.NodeName, o.NodeIP, o.MaxPods = false, false, "Bad_Name", "fe80::1", 0
	o.RootDir, o.ClusterCIDR, o.ServiceCIDR = "relative", "10.244.0.1/16", "fd00::/64"
	o.Overlay, o.OverlayPort, o.MTU = "lan", 0, 100
	o.ClusterDNS, o.ClusterDomain, o.HealthAddress = []string{"dns"}, "a_b", "10248"
	err := o.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, flag := range []string{"kubeconfig", "agent", "node-name", "node-ip", "max-pods", "root-dir", "cluster-cidr", "service-cidr", "overlay", "overlay-port", "mtu",
		"cluster-dns", "cluster-domain", "health-address"} {
		if !strings.Contains(err.Error(), "--"+flag+": ") {
			t.Errorf("--%s is not named in\n%v", flag, err)
		}
	}
	good := NewOptions()
	good.Kubeconfig = "/etc/keelson/kubeconfig"
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	good.ServiceCIDR = "10.244.128.0/17"
	if err := good.Validate(); err == nil || !strings.Contains(err.Error(), "overlaps --cluster-cidr") {
		t.Errorf("overlap: %v", err)
	}
}

func TestTaints(t *testing.T) {
	tests := map[string]struct {
		effect     corev1.TaintEffect
		toleration corev1.Toleration
		want       bool
	}{
		"one that ends Pods refuses":            {effect: corev1.TaintEffectNoExecute},
		"a tolerated one does not":              {effect: corev1.TaintEffectNoExecute, toleration: corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists}, want: true},
		"one for the scheduler does not":        {effect: corev1.TaintEffectNoSchedule, want: true},
		"a toleration of another does not help": {effect: corev1.TaintEffectNoExecute, toleration: corev1.Toleration{Key: "other", Operator: corev1.TolerationOpExists}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			node := &keelsonv1.Node{}
			node.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")}
			node.Spec.Taints = []corev1.Taint{{Key: "k", Effect: tt.effect}}
			pod := podAsking("p", "", "")
			if tt.toleration.Key != "" {
				pod.Spec.Tolerations = []corev1.Toleration{tt.toleration}
			}
			var want *refusal
			if !tt.want {
				want = &refusal{"TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"}
			}
			got, _ := admitPod(pod, nil, node)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}
