package agent

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestHostPortsEndWithTheAddress(t *testing.T) {
	proxy := &fakeProxy{}
	table := newPortTable(proxy)
	pod := withPort(podAsking("web", "", ""), "", corev1.ProtocolTCP, 8080)
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.2"}}
	id := runtime.PodIdentity{UID: pod.UID}
	expect := func(when string, want int) {
		t.Helper()
		if got := proxy.hostPorts(); len(got) != want {
			t.Errorf("%s the proxy has %v", when, got)
		}
	}

	table.setPod(pod)
	expect("before all Pods are known", 0)
	table.publish()
	expect("adopted by its status", 1)
	table.setIPs(id, []netip.Addr{netip.MustParseAddr("10.244.0.2")})
	table.setIPs(id, nil)
	expect("detached", 0)
	leaving := pod.DeepCopy()
	leaving.DeletionTimestamp = new(metav1.Now())
	table.setPod(leaving)
	expect("detached, and its status still shows the address", 0)

	table.forget(pod.UID)
	table.setIPs(id, []netip.Addr{netip.MustParseAddr("10.244.0.2")}) // a late attachment
	table.forget(pod.UID)
	if len(table.pods)+len(table.ips) > 0 {
		t.Errorf("left: %v, %v", table.pods, table.ips)
	}
}

func TestPodWithoutHostPortsIsNotKept(t *testing.T) {
	table := newPortTable(&fakeProxy{})
	for _, pod := range []*keelsonv1.Pod{
		podAsking("plain", "", ""),
		func() *keelsonv1.Pod {
			pod := withPort(podAsking("host", "", ""), "", corev1.ProtocolTCP, 80)
			pod.Spec.HostNetwork = true
			return pod
		}(),
	} {
		table.setPod(pod)
	}
	if len(table.pods) > 0 {
		t.Errorf("kept %v", table.pods)
	}
}
