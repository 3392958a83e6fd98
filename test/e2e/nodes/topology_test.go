package nodes

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// nearServices are Services of the Pods of servers that want traffic to stay near, in
// each way in which a Service can say so.
const nearServices = `
apiVersion: v1
kind: Service
metadata: {name: same-zone}
spec:
  trafficDistribution: PreferSameZone
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: same-node}
spec:
  trafficDistribution: PreferSameNode
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: auto, annotations: {service.kubernetes.io/topology-mode: Auto}}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

// asks is how often a Service is asked: that all answers come from one of three Pods by
// accident has a probability below 1 : 80,000.
const asks = 12

// TestTrafficStaysNear has a zone for each node, and then two nodes in one zone.
func TestTrafficStaysNear(t *testing.T) {
	setZone := func(node, zone string) {
		t.Helper()
		if out, err := kubectl(t.Context(), "", "label", "--overwrite", "node", node, corev1.LabelTopologyZone+"="+zone); err != nil {
			t.Fatalf("label Node %s: %v\n%s", node, err, out)
		}
	}
	for _, node := range nodeNames {
		setZone(node, "zone-of-"+node)
		t.Cleanup(func() { unlabel(t, node, corev1.LabelTopologyZone) })
	}
	s := newSpace(t)
	s.apply(servers + "---" + nearServices)
	pods := s.readyPods("web", nodeCount)
	on := map[string]string{}
	for _, pod := range pods {
		on[pod.Spec.NodeName] = pod.Name
	}
	for _, service := range []string{"same-zone", "same-node", "auto"} {
		for _, pod := range pods {
			s.staysWith(pod.Name, service, pod.Name)
		}
	}

	first, second, third := nodeNames[0], nodeNames[1], nodeNames[2]
	// As upstream, hints know the zones of the time when a Service was last looked at.
	setZone(second, "zone-of-"+first)
	s.run("delete", "service", "same-zone", "same-node")
	s.apply(nearServices)
	for _, node := range []string{first, second} {
		s.staysWith(on[node], "same-zone", on[first], on[second])
		s.staysWith(on[node], "same-node", on[node])
	}
	s.staysWith(on[third], "same-zone", on[third])
}

// staysWith waits until a Service answers a Pod from these Pods and from no other.
func (s *space) staysWith(pod, service string, hosts ...string) {
	s.t.Helper()
	urls := slices.Repeat([]string{"http://" + s.run("get", "service", service, "-o", "jsonpath={.spec.clusterIP}") + ":80/"}, asks)
	slices.Sort(hosts)
	eventually(s.t, soon, fmt.Sprintf("the Service %s answers %s from %v", service, pod, hosts), func() error {
		answers, err := s.askFromPod(pod, urls...)
		if err != nil {
			return err
		}
		var seen []string
		for _, a := range answers {
			seen = append(seen, a.host)
		}
		slices.Sort(seen)
		if seen = slices.Compact(seen); !slices.Equal(seen, hosts) {
			return fmt.Errorf("%v answer", seen)
		}
		return nil
	})
}

func unlabel(t *testing.T, node, label string) {
	t.Helper()
	if out, err := kubectl(context.Background(), "", "label", "node", node, label+"-"); err != nil {
		t.Errorf("take the label off Node %s: %v\n%s", node, err, out)
	}
}
