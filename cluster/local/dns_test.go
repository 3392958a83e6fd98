package local

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/keelson-dev/keelson/cluster/supervisor"
	"github.com/keelson-dev/keelson/config"
)

func TestTheInstallerCompletesTheManifestsOfDNS(t *testing.T) {
	objects, err := config.Objects(config.DNS)
	if err != nil {
		t.Fatal(err)
	}
	in := dnsInstall{image: "keelson.dev/keelson-dns:1", address: netip.MustParseAddr("10.96.0.10"), replicas: 2, hosts: []string{"box-1", "box-2"}}
	found := map[string]any{}
	for _, object := range objects {
		if err := in.complete(object); err != nil {
			t.Fatal(err)
		}
		switch object.GetKind() {
		case "Service":
			found["clusterIP"], _, _ = unstructured.NestedString(object.Object, "spec", "clusterIP")
		case "Deployment":
			containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
			found["image"] = containers[0].(map[string]any)["image"]
			terms, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
			found["terms"] = terms
			found["spread"], _, _ = unstructured.NestedSlice(object.Object, "spec", "template", "spec", "topologySpreadConstraints")
			found["replicas"], _, _ = unstructured.NestedInt64(object.Object, "spec", "replicas")
		}
	}
	want := map[string]any{"clusterIP": "10.96.0.10", "image": "keelson.dev/keelson-dns:1", "replicas": int64(2), "terms": []any{map[string]any{
		"matchExpressions": []any{map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{"box-1", "box-2"}}},
	}}, "spread": []any{map[string]any{
		"maxSkew": int64(1), "minDomains": int64(2), "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
		"matchLabelKeys": []any{"pod-template-hash"},
		"labelSelector":  map[string]any{"matchLabels": map[string]any{"k8s-app": "kube-dns"}},
	}}}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("filled in (-want +got):\n%s", diff)
	}
}

func TestReplicasOfDNSFollowTheNodes(t *testing.T) {
	for nodes, want := range map[int]int64{0: 1, 1: 1, 2: 2, 3: 2} {
		if got := (Settings{Nodes: make([]NodeSettings, nodes)}).dnsReplicas(); got != want {
			t.Errorf("%d nodes have %d replicas, want %d", nodes, got, want)
		}
	}
}

func TestNodesOfThisMachineHaveTheImageOfDNS(t *testing.T) {
	one := Settings{NodeName: "box"}
	if diff := cmp.Diff([]string{"box"}, one.dnsHosts()); diff != "" {
		t.Errorf("one node (-want +got):\n%s", diff)
	}
	// One that is off comes back; one that is being deleted does not.
	several := Settings{NodeName: "box", Nodes: []NodeSettings{{Name: "box-2", Stopped: true}, {Name: "box-1"}, {Name: "box-3", Deleting: true}}}
	if diff := cmp.Diff([]string{"box-1", "box-2"}, several.dnsHosts()); diff != "" {
		t.Errorf("several nodes (-want +got):\n%s", diff)
	}
	m := &machine{}
	m.now.Store(&several)
	if got := m.expected(several.dnsReplicas()); got != 1 {
		t.Errorf("%d replicas are waited for, want 1: the other's node is off", got)
	}
}

func TestDNSFollowsNodesThatComeAndGo(t *testing.T) {
	s := settings()
	s.Nodes = []NodeSettings{{Name: "box-1"}, {Name: "box-2"}}
	p := testPlan(s)
	p.machine = &machine{}
	p.machine.now.Store(&s)
	changes := make(chan supervisor.Change)
	var seen []supervisor.Change
	go func() {
		for c := range changes {
			seen = append(seen, c)
			c.Done <- nil
		}
	}()
	spread := s.dnsHosts()
	follow := func(s Settings) {
		t.Helper()
		if err := p.followDNS(t.Context(), s, newProbes(p.store, s), changes, &spread); err != nil {
			t.Fatal(err)
		}
	}
	follow(s)
	if len(seen) != 0 {
		t.Errorf("%d changes for the same nodes", len(seen))
	}
	s.Nodes = append(s.Nodes, NodeSettings{Name: "box-3"})
	follow(s)
	follow(s)
	close(changes)
	if len(seen) != 1 || seen[0].Remove[0] != nameDNS || seen[0].Add[0].Name != nameDNS || seen[0].Add[0].Task == nil {
		t.Errorf("changes for a new node: %+v", seen)
	}
}

func TestADeploymentIsAvailableWhenItsNewestReplicasAre(t *testing.T) {
	status := func(observed, updated, available int64) map[string]any {
		return map[string]any{"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available}
	}
	for name, tt := range map[string]struct {
		status map[string]any
		least  int64
		want   string
	}{
		"nobody has looked at it":        {nil, 2, "the controller has not seen it yet"},
		"it was changed since":           {status(1, 2, 2), 2, "the controller has not seen it yet"},
		"old replicas do not count":      {status(2, 1, 2), 2, "1 of 2 replicas are new"},
		"new ones that are not ready":    {status(2, 2, 1), 2, "1 of 2 replicas are available"},
		"all are new and all are ready":  {status(2, 2, 2), 2, ""},
		"one's node is off":              {status(2, 2, 1), 1, ""},
		"one's node is off, old ones":    {status(2, 1, 2), 1, "1 of 2 replicas are new"},
		"somebody has scaled it to less": {status(2, 2, 2), 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &unstructured.Unstructured{Object: map[string]any{
				"metadata": map[string]any{"generation": int64(2)}, "spec": map[string]any{"replicas": int64(2)},
			}}
			if tt.status != nil {
				d.Object["status"] = tt.status
			}
			if got := notAvailableBecause(d, tt.least); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestWithoutDNSItIsTakenAway(t *testing.T) {
	s := settings()
	s.NoDNS = true
	p := testPlan(s)
	if got := p.dns(newProbes(p.store, s)).Name; got != "dns-removal" {
		t.Errorf("the component is called %s", got)
	}
	if image, err := p.writeDNSImage(); image != "" || err != nil {
		t.Errorf("image %q, %v", image, err)
	}
}
