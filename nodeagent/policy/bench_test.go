package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// fullPod is a Pod as the API sends it.
func fullPod(i int) []byte {
	pod := keelsonv1.Pod{}
	pod.Name, pod.Namespace, pod.UID = fmt.Sprintf("web-%08d", i), fmt.Sprint("team-", i%50), types.UID(fmt.Sprintf("01234567-89ab-cdef-0123-%012d", i))
	pod.Labels = map[string]string{"app": fmt.Sprint("app-", i%100), "pod-template-hash": "6f7c9d8b5c", "tier": "front"}
	pod.ResourceVersion, pod.Spec.NodeName = fmt.Sprint(i), fmt.Sprint("node-", i%100)
	pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "registry.example/web:1", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIPs = []corev1.PodIP{{IP: netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}).String()}}
	data, _ := json.Marshal(&pod)
	return data
}

// BenchmarkCluster has 5,000 Pods and 100 policies: what a Pod costs in memory, and what
// a change of one costs.
func BenchmarkCluster(b *testing.B) {
	const count = 5000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	e := New(Options{NodeName: "node-1", Clock: clock.RealClock{}})
	kept := make([]any, 0, count)
	for i := range count {
		pod := &keelsonv1.Pod{}
		if err := json.Unmarshal(fullPod(i), pod); err != nil {
			b.Fatal(err)
		}
		slim, _ := Strip(pod)
		kept = append(kept, slim)
		seen, _ := ToPod(slim.(*keelsonv1.Pod))
		e.setPod(seen)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	memory := float64(after.HeapAlloc-before.HeapAlloc) / count
	for i := range 100 {
		spec := &networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint("app-", i)}},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{
				NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint("app-", (i+1)%100)}},
			}}}},
		}
		if err := e.tracker.SetPolicy(types.NamespacedName{Namespace: fmt.Sprint("team-", i%50), Name: fmt.Sprint(i)}, spec); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 50 {
		e.tracker.SetNamespace(fmt.Sprint("team-", i), map[string]string{"team": "yes"})
	}
	changed, _ := ToPod(kept[7].(*keelsonv1.Pod))
	for i := 0; b.Loop(); i++ {
		changed.Labels = map[string]string{"app": fmt.Sprint("app-", i%100)}
		e.setPod(changed)
		e.tracker.Tables()
	}
	b.ReportMetric(memory, "B/Pod")
	runtime.KeepAlive(kept)
}
