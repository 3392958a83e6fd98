package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// describes looks for these rows, in this order, in what `kubectl describe` prints of an
// object. A row of which only the name is said may have any value.
func (s *space) describes(object string, rows ...string) {
	s.t.Helper()
	s.eventually(soon, "kubectl describe "+object, func() error {
		rest := "\n" + columns(s.run("describe", object))
		for _, row := range rows {
			end := "\n"
			if strings.HasSuffix(row, ":") {
				end = ""
			}
			_, after, ok := strings.Cut(rest, "\n"+row+end)
			if !ok {
				return fmt.Errorf("no row %q, or not in its place:\n%s", row, rest)
			}
			rest = "\n" + after
		}
		return nil
	})
}

// backends are addresses of the ready Pods behind a Service, as kubectl describe lists them.
func (s *space) backends(selector, port string) string {
	s.t.Helper()
	addresses := strings.Fields(s.run("get", "pods", "-l", selector, "-o", "jsonpath={.items[*].status.podIP}"))
	slices.Sort(addresses)
	return strings.Join(addresses, ":"+port+",") + ":" + port
}

// TestServicesAsTheirUserSeesThem: kubectl's words about Services, of every kind.
func TestServicesAsTheirUserSeesThem(t *testing.T) {
	s := newPlainSpace(t)
	s.runningController("my-nginx", 1)

	t.Run("exposed under a name of its own", func(t *testing.T) {
		s := s.of(t)
		s.want([]string{"expose", "replicationcontroller", "my-nginx", "--name=front", "--port=80", "--target-port=8080"}, "service/front exposed")
		s.wantField("svc/front", ".spec.selector", `{"app":"my-nginx"}`)
		address := s.field("svc/front", ".spec.clusterIP")
		s.describes("svc/front", "Name: front", "Namespace: "+s.Name, "Labels: app=my-nginx", "Selector: app=my-nginx", "Type: ClusterIP",
			"IP: "+address, "Port: <unset> 80/TCP", "TargetPort: 8080/TCP", "Endpoints: "+s.backends("app=my-nginx", "8080"),
			"Session Affinity: None", "Events: <none>")
	})
	t.Run("exposed by its own name and port", func(t *testing.T) {
		s := s.of(t)
		s.want([]string{"expose", "replicationcontroller", "my-nginx", "--port=80"}, "service/my-nginx exposed")
		s.wantField("svc/my-nginx", ".spec.ports", `[{"port":80,"protocol":"TCP","targetPort":80}]`)
		s.wantField("svc/my-nginx", ".spec.selector", `{"app":"my-nginx"}`)
	})
	t.Run("several ports, one of them open on every node", func(t *testing.T) {
		s := s.of(t)
		s.apply(`
apiVersion: v1
kind: Service
metadata: {name: ports, labels: {app: my-nginx}}
spec:
  type: NodePort
  sessionAffinity: ClientIP
  selector: {app: my-nginx}
  ports: [{name: http, port: 80, targetPort: web}, {name: https, port: 443, targetPort: 8443}]
`)
		http, https := s.field("svc/ports", ".spec.ports[0].nodePort"), s.field("svc/ports", ".spec.ports[1].nodePort")
		s.describes("svc/ports", "Type: NodePort", "Port: http 80/TCP", "TargetPort: web/TCP", "NodePort: http "+http+"/TCP", "Endpoints: "+s.backends("app=my-nginx", "8080"),
			"Port: https 443/TCP", "TargetPort: 8443/TCP", "NodePort: https "+https+"/TCP", "Endpoints: "+s.backends("app=my-nginx", "8443"), "Session Affinity: ClientIP")
		s.want([]string{"get", "svc", "ports"}, "NodePort", "80:"+http+"/TCP,443:"+https+"/TCP")
	})
	t.Run("without a selector, led by hand", func(t *testing.T) {
		s := s.of(t)
		made, err := output(s.command("create", "-f", s.file("service.yaml", `
apiVersion: v1
kind: Service
metadata: {name: mysql}
spec: {ports: [{port: 3306}]}
`), "-f", s.file("endpoints.yaml", `
apiVersion: v1
kind: Endpoints
metadata: {name: mysql}
subsets: [{addresses: [{ip: 192.0.2.180}], ports: [{port: 3036}]}]
`)), "")
		must(t, err)
		if err := wantIn(made, "service/mysql created\n", "endpoints/mysql created\n"); err != nil {
			t.Error(err)
		}
		s.describes("svc/mysql", "Name: mysql", "Selector: <none>", "Port: <unset> 3306/TCP", "Endpoints: 192.0.2.180:3036")
	})
	t.Run("of a protocol of its own", func(t *testing.T) {
		s := s.of(t)
		s.apply(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: calls}
spec: {selector: {app: calls}, ports: [{name: diameter, protocol: SCTP, port: 3868, targetPort: calls}]}
---
apiVersion: v1
kind: Pod
metadata: {name: calls, labels: {app: calls}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: %s, ports: [{name: calls, protocol: SCTP, containerPort: 3869, hostPort: 3868}]}]
`, cluster.Image(testserverImage)))
		s.run("wait", "--for=condition=Ready", "pod/calls", "--timeout=60s")
		s.describes("svc/calls", "Port: diameter 3868/SCTP", "TargetPort: calls/SCTP", "Endpoints: "+s.backends("app=calls", "3869"))
	})
	t.Run("without an address", func(t *testing.T) {
		s := s.of(t)
		s.want([]string{"create", "service", "clusterip", "headless", "--clusterip=None", "--tcp=80"}, "service/headless created")
		s.describes("svc/headless", "Name: headless", "IP: None")
	})
	t.Run("with nobody behind it", func(t *testing.T) {
		s := s.of(t)
		s.want([]string{"create", "service", "clusterip", "nobody", "--tcp=80"}, "service/nobody created")
		s.describes("svc/nobody", "Selector: app=nobody", "Endpoints:", "Events:")
		s.eventually(soon, "the event", func() error { return wantIn(s.run("describe", "svc", "nobody"), "NoMatchingPods") })
	})
}

// TestTheDNSIsAnAddOn: the names of the cluster's DNS, and what it says to people.
func TestTheDNSIsAnAddOn(t *testing.T) {
	s := newPlainSpace(t)
	s.resolverPod("busybox", "")
	const selector = "k8s-app=kube-dns"
	row := func(args []string, expression string) {
		t.Helper()
		if err := matches(s.run(append(args, "--namespace=kube-system", "--selector", selector)...), expression); err != nil {
			t.Errorf("kubectl %s: %v", strings.Join(args, " "), err)
		}
	}
	row([]string{"get", "pod"}, `(?m)^keelson-dns-\S+ +1/1 +Running +\d+ `)
	row([]string{"get", "service"}, `(?m)^kube-dns +ClusterIP +`+dnsAddress+` +<none> +53/UDP,53/TCP,9153/TCP +\w+$`)
	row([]string{"get", "service", "--show-labels"}, `kubernetes.io/cluster-service=true.*kubernetes.io/name=CoreDNS`)
	s.want([]string{"cluster-info", "--namespace=kube-system"}, "CoreDNS", "/api/v1/namespaces/kube-system/services/kube-dns:dns/proxy")
	asked, _ := s.try("exec", "busybox", "--", "nslookup", "kubernetes.default.svc.cluster.local")
	if err := wantIn(asked, "Server:\t\t"+dnsAddress, "Name:\tkubernetes.default.svc.cluster.local", "Address: 10.254.0.1"); err != nil {
		t.Error(err)
	}
}
