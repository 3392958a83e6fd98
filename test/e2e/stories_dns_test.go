package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const dnsAddress = "10.254.0.10"

// resolved runs the resolver of a Pod that stays, and returns the lines it prints.
func (s *space) resolved(pod, what, name string) ([]string, error) {
	s.t.Helper()
	out, err := s.try("exec", pod, "--", "/testserver", "resolve", what, name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return strings.Fields(out), nil
}

func (s *space) resolves(pod, what, name string, want ...string) {
	s.t.Helper()
	slices.Sort(want)
	s.eventually(soon, fmt.Sprintf("%s %s resolves", what, name), func() error {
		got, err := s.resolved(pod, what, name)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
}

// resolverPod is a Pod in which resolved can ask.
func (s *space) resolverPod(name, extra string) {
	s.t.Helper()
	s.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %[1]s}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: %s, ports: [{name: web, containerPort: 8080}]}]
  %s
`, name, cluster.Image(testserverImage), extra))
	s.run("wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
}

// TestNamesOfServices: every Service has a name as soon as it is there, in all the forms
// that Pods write, and so does what is behind it.
func TestNamesOfServices(t *testing.T) {
	s := newPlainSpace(t)
	s.resolverPod("client", "")
	s.apply(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: client}
  ports: [{name: http, port: 80, targetPort: web}]
---
apiVersion: v1
kind: Service
metadata: {name: crew}
spec:
  clusterIP: None
  selector: {crew: "yes"}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: web.%s.svc.cluster.local}
`, s.Name))
	address := s.field("svc/web", ".spec.clusterIP")
	full := "web." + s.Name + ".svc.cluster.local"
	for _, name := range []string{"web", "web." + s.Name, "web." + s.Name + ".svc", full, full + "."} {
		s.resolves("client", "host", name, address)
	}
	s.resolves("client", "cname", "web", full+".")
	s.resolves("client", "cname", "web."+s.Name, full+".")
	s.resolves("client", "addr", address, full+".")
	s.resolves("client", "srv", "_http._tcp."+full, full+".:80")
	s.resolves("client", "host", "elsewhere", address)

	t.Log("nslookup, as people ask")
	// That of busybox fails if one of the names that it makes of web is not there.
	asked, _ := s.try("exec", "client", "--", "nslookup", "web")
	if err := wantIn(asked, "Server:\t\t"+dnsAddress, "Name:\t"+full, "Address: "+address); err != nil {
		t.Error(err)
	}
	s.refused([]string{"exec", "client", "--", "nslookup", "nothing." + s.Name + ".svc.cluster.local"}, "can't find", "NXDOMAIN")

	t.Run("from another namespace a name needs its namespace", func(t *testing.T) {
		other := newPlainSpace(t)
		other.resolverPod("client", "")
		other.resolves("client", "host", "web."+s.Name, address)
		if got, err := other.resolved("client", "host", "web"); err == nil {
			t.Errorf("web is %q in a namespace that has none", got)
		}
	})

	t.Log("A headless Service is its Pods, those with a hostname by name")
	for _, name := range []string{"one", "two"} {
		s.resolverPod(name, fmt.Sprintf("hostname: %s-host\n  subdomain: crew", name))
	}
	s.run("label", "pods", "one", "two", "crew=yes")
	one, two := s.field("pod/one", ".status.podIP"), s.field("pod/two", ".status.podIP")
	crew := ".crew." + s.Name + ".svc.cluster.local"
	s.resolves("client", "host", "crew", one, two)
	s.resolves("client", "host", "one-host.crew", one)
	s.resolves("client", "addr", two, "two-host"+crew+".")
	s.resolves("client", "srv", "_http._tcp"+crew, "one-host"+crew+".:8080", "two-host"+crew+".:8080")
	s.resolves("client", "host", strings.ReplaceAll(one, ".", "-")+"."+s.Name+".pod.cluster.local", one)
	if err := wantIn(s.run("exec", "one", "--", "hostname", "-f"), "one-host"); err != nil {
		t.Error(err)
	}
	s.run("label", "pod", "one", "crew-")
	s.resolves("client", "host", "crew", two)
}

// TestResolverOfPods: which servers a Pod asks, by its policy.
func TestResolverOfPods(t *testing.T) {
	s := newPlainSpace(t)
	machine, err := os.ReadFile("/etc/resolv.conf")
	must(t, err)
	search := "search " + s.Name + ".svc.cluster.local svc.cluster.local cluster.local"
	first := "nameserver " + dnsAddress
	for name, tt := range map[string]struct {
		spec      string
		has, lack []string
	}{
		"cluster":   {"", []string{search, first, "options ndots:5"}, nil},
		"host":      {"hostNetwork: true", nil, []string{dnsAddress, "svc.cluster.local"}},
		"host-dns":  {"hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet", []string{search, first}, nil},
		"machine":   {"dnsPolicy: Default", strings.Split(strings.TrimSpace(string(machine)), "\n")[:1], []string{dnsAddress}},
		"own":       {"dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.53], searches: [example.org], options: [{name: ndots, value: \"2\"}]}", []string{"nameserver 192.0.2.53", "search example.org", "options ndots:2"}, []string{dnsAddress}},
		"with-more": {"dnsConfig: {searches: [example.org], options: [{name: ndots, value: \"2\"}]}", []string{first, search + " example.org", "options ndots:2"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.of(t)
			s.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: %s, command: [sleep, "3600"]}]
  %s
`, name, cluster.Image(busyboxImage), tt.spec))
			s.run("wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
			got := s.run("exec", name, "--", "cat", "/etc/resolv.conf")
			if err := wantIn(got, tt.has...); err != nil {
				t.Error(err)
			}
			for _, not := range tt.lack {
				if strings.Contains(got, not) {
					t.Errorf("%q in\n%s", not, got)
				}
			}
		})
	}
}

// TestNamesWhileADNSServerDies: with two replicas, nobody notices the end of one.
func TestNamesWhileADNSServerDies(t *testing.T) {
	s := newPlainSpace(t)
	scale := func(n int) {
		s.run("scale", "deployment/keelson-dns", "--namespace=kube-system", fmt.Sprintf("--replicas=%d", n))
		s.eventually(eventual, fmt.Sprintf("%d DNS servers", n), func() error {
			return wantIn(s.run("get", "endpointslices", "--namespace=kube-system", "-l", "kubernetes.io/service-name=kube-dns",
				"-o", `jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{"x"}{end}.`), strings.Repeat("x", n)+".")
		})
	}
	scale(2)
	t.Cleanup(func() { s.cleanup("scale", "deployment/keelson-dns", "--namespace=kube-system", "--replicas=1") })
	s.resolverPod("client", "")
	lookups := s.command("exec", "client", "--", "/testserver", "lookups", "kube-dns.kube-system.svc.cluster.local.", "8s")
	out, err := lookups.StdoutPipe()
	must(t, err)
	must(t, lookups.Start())
	s.eventually(soon, "the client asks", func() error {
		if n := len(processesOf(t, "testserver", "lookups")); n != 1 {
			return fmt.Errorf("%d run", n)
		}
		return nil
	})
	victims := processesOf(t, "keelson-dns")
	if len(victims) != 2 {
		t.Errorf("%d DNS servers run on this machine, want 2", len(victims))
	}
	must(t, syscall.Kill(victims[0], syscall.SIGKILL))
	var text strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := out.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	must(t, lookups.Wait())
	var asked, failed int
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if _, err := fmt.Sscanf(lines[len(lines)-1], "asked %d failed %d", &asked, &failed); err != nil {
		t.Fatalf("the client said %q", text.String())
	}
	t.Logf("%d lookups", asked)
	if failed > 0 || asked < 100 {
		t.Errorf("%d of %d lookups failed:\n%s", failed, asked, text.String())
	}
	s.eventually(eventual, "the server that died runs again", func() error {
		if n := len(processesOf(t, "keelson-dns")); n != 2 {
			return fmt.Errorf("%d run", n)
		}
		return nil
	})
}
