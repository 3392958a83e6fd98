package scheduler_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
)

// dnsConstraints are those of the cluster's DNS servers.
func dnsConstraints(t *testing.T) []corev1.TopologySpreadConstraint {
	t.Helper()
	objects, err := config.Objects(config.DNS)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		spec, _, err := unstructured.NestedMap(o.Object, "spec", "template", "spec")
		if err != nil {
			t.Fatal(err)
		}
		var template corev1.PodSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &template); err != nil {
			t.Fatal(err)
		}
		return template.TopologySpreadConstraints
	}
	t.Fatal("the manifests of DNS have no Deployment")
	return nil
}

// TestADNSServerWaitsForItsNode tells what happens to the two servers of DNS when the node
// of one is lost, comes back, and both are replaced.
func TestADNSServerWaitsForItsNode(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	host := func(n *keelsonv1.Node) { n.Labels[corev1.LabelHostname] = n.Name }
	one := node(t, "dns-1", "4", "10", host)
	constraints := dnsConstraints(t)
	constraints[0].MinDomains = new(int32(2)) // as the installer does where there are two nodes
	server := func(name, revision string) *keelsonv1.Pod {
		p := pod(ns, name, "")
		p.Labels = map[string]string{"k8s-app": "kube-dns", "pod-template-hash": revision}
		p.Spec.TopologySpreadConstraints = constraints
		return create(t, p)
	}
	first := becomesBound(t, server("a-1", "a"), "dns-1")
	second := server("a-2", "a")
	becomesUnschedulable(t, second, "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
	two := node(t, "dns-2", "4", "10", host)
	becomesBound(t, second, "dns-2")

	lost := two.DeepCopy()
	lost.Spec.Taints = []corev1.Taint{
		{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: new(metav1.Now())},
	}
	if err := testEnv.Client.Patch(t.Context(), lost, client.MergeFrom(two)); err != nil {
		t.Fatal(err)
	}
	// Nobody can end it there: it keeps its finalizer.
	if err := testEnv.Client.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	third := server("a-3", "a")
	becomesUnschedulable(t, third, "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) had untolerated taint(s). preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.")
	back := lost.DeepCopy()
	back.Spec.Taints = nil
	if err := testEnv.Client.Patch(t.Context(), back, client.MergeFrom(lost)); err != nil {
		t.Fatal(err)
	}
	becomesBound(t, third, "dns-2")

	// The first of the next version starts before one of these ends.
	next := becomesBound(t, server("b-1", "b"), "")
	remove(t, first)
	other := map[string]string{one.Name: two.Name, two.Name: one.Name}[next.Spec.NodeName]
	becomesBound(t, server("b-2", "b"), other)
}
