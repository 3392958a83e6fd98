package nodes

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const balancer = `
apiVersion: v1
kind: Service
metadata: {name: balancer}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 8081, targetPort: 8080}]
`

// TestAddressOfALoadBalancerMoves reaches a Service of type LoadBalancer from outside
// by its address, then again after the node is gone that announced it.
func TestAddressOfALoadBalancerMoves(t *testing.T) {
	s := newSpace(t)
	s.apply(servers)
	s.readyPods("web", nodeCount)
	s.apply(balancer)
	var address string
	eventually(t, soon, "the Service has an address", func() error {
		address = s.run("get", "service", "balancer", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
		if !strings.HasPrefix(address, "198.19.0.2") {
			return fmt.Errorf("its address is %q", address)
		}
		return nil
	})
	if out := s.run("get", "service", "balancer"); !strings.Contains(out, address) {
		t.Errorf("EXTERNAL-IP lacks %s:\n%s", address, out)
	}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func() error {
		response, err := client.Get("http://" + address + ":8081/")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		return err
	}
	eventually(t, soon, "the Service answers at its address", ask)

	holder := func() string {
		out, err := kubectl(t.Context(), "", "-n", "keelson-node-lease", "get", "lease", "load-balancer."+address, "-o", "jsonpath={.spec.holderIdentity}")
		if err != nil {
			t.Fatalf("read the Lease: %v\n%s", err, out)
		}
		return out
	}
	victim := holder()
	defer func() {
		keelson(t, "heal", victim)
		s.readyPods("web", nodeCount)
	}()
	keelson(t, "cut", victim, "--from", "all")
	cut := time.Now()
	eventually(t, eventual, "the Service answers after its node was cut off", func() error {
		if now := holder(); now == victim {
			return fmt.Errorf("%s still holds the Lease", now)
		}
		return ask()
	})
	t.Logf("the address was cut off with node %s and answered on node %s after %s", victim, holder(), time.Since(cut).Round(time.Millisecond))
}
