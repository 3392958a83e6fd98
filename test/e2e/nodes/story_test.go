package nodes

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
)

// outsider asks from a computer in the network of the nodes that is none of them.
type outsider struct {
	*envcluster.Outsider
	t      *testing.T
	client *http.Client
}

func newOutsider(t *testing.T) outsider {
	t.Helper()
	o, err := envcluster.NewOutsider("198.19.0.190/24")
	must(t, err)
	t.Cleanup(func() { must(t, o.Close()) })
	return outsider{o, t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: o.Dial}}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask fetches a page of the test server.
func (o outsider) ask(url string) (answer, error) { return askFrom(o.t.Context(), o.client, url) }

func (o outsider) reaches(what, url string) {
	o.t.Helper()
	eventually(o.t, soon, "the outsider reaches "+what+" at "+url, func() error {
		_, err := o.ask(url)
		return err
	})
}

// TestWaysIn are those from outside to a Service: the port that every node opens, the
// address of a balancer, a route through a node; and that there is none to the Service's
// own address for who knows nothing of the cluster.
func TestWaysIn(t *testing.T) {
	s := newSpace(t)
	s.apply(servers)
	s.apply(balancer)
	s.readyPods("web", nodeCount)
	outsider := newOutsider(t)
	own := s.run("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	for _, service := range []string{"web", "balancer"} { // a balancer's Service has a port of the nodes, too
		port := s.run("get", "service", service, "-o", "jsonpath={.spec.ports[0].nodePort}")
		for _, node := range nodeNames {
			outsider.reaches(service+" at node "+node, "http://"+addressOf(t, node)+":"+port+"/")
		}
	}
	var external string
	eventually(t, soon, "the balancer has an address", func() error {
		if external = s.run("get", "service", "balancer", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"); external == "" {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	outsider.reaches("the balancer", "http://"+external+":8081/")

	if a, err := outsider.ask("http://" + own + "/"); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("the Service's own address is reached from outside: %v (%v)", a, err)
	}
	for _, node := range nodeNames {
		must(t, outsider.Route(own, addressOf(t, node)))
		outsider.reaches("the Service through node "+node, "http://"+own+"/")
	}
}

// TestThreeMachinesAsTheirUserSeesThem: what people look at first after they have set up
// a cluster of several machines.
func TestThreeMachinesAsTheirUserSeesThem(t *testing.T) {
	s := newSpace(t)
	listed := s.run("get", "nodes", "--show-labels", "--no-headers")
	for _, node := range nodeNames {
		if !slices.ContainsFunc(strings.Split(listed, "\n"), func(line string) bool {
			f := strings.Fields(line)
			return len(f) > 2 && f[0] == node && f[1] == "Ready" && strings.Contains(line, "kubernetes.io/hostname="+node)
		}) {
			t.Errorf("no line of node %s, ready and with its label:\n%s", node, listed)
		}
		eventually(t, soon, "kubectl describe tells when node "+node+" became ready", func() error {
			if out := s.run("describe", "node", node); !strings.Contains(out, "Node "+node+" status is now: NodeReady") {
				return errors.New(out)
			}
			return nil
		})
	}

	s.apply(servers)
	before := s.readyPods("web", nodeCount)
	// The Pods are older than this Service, whose name they find all the same.
	s.run("expose", "rs", "web", "--name=late", "--port=80", "--target-port=8080")
	late := s.run("get", "service", "late", "-o", "jsonpath={.spec.clusterIP}")
	for _, pod := range before {
		eventually(t, soon, "the name of a Service is found on node "+pod.Spec.NodeName, func() error {
			out, err := s.try("exec", pod.Name, "--", "/testserver", "resolve", "host", "late")
			if got := strings.TrimSpace(out); err != nil || got != late {
				return fmt.Errorf("late is %q, not %s: %w", got, late, err)
			}
			return nil
		})
	}
	places := strings.Fields(s.run("get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "-o", "jsonpath={.items[*].spec.nodeName}"))
	if slices.Sort(places); len(slices.Compact(slices.Clone(places))) != 2 {
		t.Errorf("the servers of the DNS are on the nodes %q", places)
	}

	s.run("delete", "pods", "-l", "app=web")
	after := s.readyPods("web", nodeCount)
	for _, old := range before {
		for _, pod := range after {
			if pod.UID == old.UID {
				t.Errorf("Pod %s was deleted and is there", pod.Name)
			}
		}
	}
}
