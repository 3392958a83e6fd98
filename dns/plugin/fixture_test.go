package plugin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	testclock "k8s.io/utils/clock/testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	keelsondiscoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/dns/catalog"
)

const zone = "cluster.local."

// started is when everything was loaded; it shows in the serial of zones.
var started = time.Unix(1700000000, 0)

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func service(name string, addresses []string, ports ...corev1.ServicePort) *keelsonv1.Service {
	s := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "testns", Name: name}}
	s.Spec = corev1.ServiceSpec{ClusterIPs: addresses, Ports: ports}
	if len(addresses) > 0 {
		s.Spec.ClusterIP = addresses[0]
	}
	return s
}

func external(name, target string) *keelsonv1.Service {
	s := service(name, nil)
	s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, target
	return s
}

func port(name string, number int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Protocol: corev1.ProtocolTCP, Port: number}
}

// endpoint is "address", "address hostname" or "address - pod", then perhaps "unready".
func endpoint(text string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{}
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			e.Addresses = []string{word}
		case word == "unready":
			e.Conditions.Ready = new(false)
		case i == 1 && word != "-":
			e.Hostname = &word
		case i == 2:
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: word}
		}
	}
	return e
}

func slice(service, suffix string, ports []discoveryv1.EndpointPort, endpoints ...string) *keelsondiscoveryv1.EndpointSlice {
	s := &keelsondiscoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "testns", Name: service + suffix, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Ports:      ports,
	}
	for _, text := range endpoints {
		s.Endpoints = append(s.Endpoints, endpoint(text))
	}
	return s
}

func slicePort(name string, number int32) []discoveryv1.EndpointPort {
	return []discoveryv1.EndpointPort{{Name: &name, Protocol: new(corev1.ProtocolTCP), Port: &number}}
}

func pod(name, address string) *keelsonv1.Pod {
	p := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "testns", Name: name}}
	p.Status.PodIP, p.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
	return p
}

// cluster is what CoreDNS' own tests of its plug-in look at, and some more.
func cluster() []runtime.Object {
	http := slicePort("http", 80)
	ended := pod("ended", "10.240.0.9")
	ended.Status.Phase = corev1.PodSucceeded
	return []runtime.Object{
		namespace("testns"), namespace("empty"),
		service("svc1", []string{"10.0.0.1"}, port("http", 80)),
		service("svcempty", []string{"10.0.0.7"}, port("http", 80)),
		service("svc6", []string{"1234:abcd::1"}, port("http", 80)),
		service("dual", []string{"10.0.0.3", "10::3"}, port("http", 80)),
		service("svcnew", nil, port("http", 80)),
		service("two", []string{"10.0.0.4"}, port("http", 80), corev1.ServicePort{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}),
		service("hdls1", []string{corev1.ClusterIPNone}, port("http", 80)),
		service("hdlsempty", []string{corev1.ClusterIPNone}, port("http", 80)),
		service("hdlsprtls", []string{corev1.ClusterIPNone}),
		external("external", "ext.interwebs.test"),
		external("external-to-service", "svc1.testns.svc.cluster.local"),
		external("loop", "loop.testns.svc.cluster.local"),
		external("address", "192.0.2.7"),
		slice("svc1", "-a", http, "172.0.0.1 - backend-1"),
		slice("hdls1", "-a", http, "172.0.0.2 - hdls-pod", "172.0.0.4 dup-name", "172.0.0.9 gone unready"),
		slice("hdls1", "-b", http, "172.0.0.3", "172.0.0.5 dup-name"),
		slice("hdls1", "-c", http, "5678:abcd::1", "5678:abcd::2"),
		slice("hdlsempty", "-a", http, "172.0.0.30 - starting unready"),
		slice("hdlsprtls", "-a", nil, "172.0.0.20"),
		pod("one", "10.240.0.1"), ended,
	}
}

func load(t *testing.T, o catalog.Options, objects ...runtime.Object) *catalog.Catalog {
	t.Helper()
	c := catalog.New(o, testclock.NewFakePassiveClock(started))
	if err := c.Load(objects...); err != nil {
		t.Fatal(err)
	}
	return c
}

// outside knows the world beyond the cluster.
type outside map[string][]string

// Lookup implements Resolver.
func (o outside) Lookup(_ context.Context, _ request.Request, name string, typ uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	for _, text := range o[name] {
		if rr := record(text); rr.Header().Rrtype == typ || rr.Header().Rrtype == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m, nil
}

func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

func newPlugin(t *testing.T, change func(*Plugin)) *Plugin {
	t.Helper()
	p := &Plugin{
		Zones: []string{zone, "10.in-addr.arpa.", "172.in-addr.arpa.", "ip6.arpa."}, TTL: 5, Pods: PodsDisabled,
		Catalog: load(t, catalog.Options{WithPods: true}, cluster()...),
		Outside: outside{"ext.interwebs.test.": {"ext.interwebs.test. 5 IN A 1.2.3.4"}},
		Next:    test.NextHandler(dns.RcodeRefused, nil),
	}
	if change != nil {
		change(p)
	}
	return p
}

// ask puts "NAME TYPE" and returns the answer as text: the code, and a line for each
// record, those of the authority and additional sections marked.
func ask(t *testing.T, p *Plugin, question string) string {
	t.Helper()
	fields := strings.Fields(question)
	q := new(dns.Msg).SetQuestion(dns.Fqdn(fields[0]), dns.StringToType[fields[1]])
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	rcode, err := p.ServeDNS(t.Context(), w, q)
	if err != nil {
		t.Fatal(err)
	}
	if w.Msg == nil {
		return dns.RcodeToString[rcode]
	}
	var lines []string
	add := func(mark string, records []dns.RR) {
		for _, rr := range records {
			lines = append(lines, mark+strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	add("", w.Msg.Answer)
	add("authority: ", w.Msg.Ns)
	add("also: ", w.Msg.Extra)
	return strings.Join(append([]string{dns.RcodeToString[w.Msg.Rcode]}, lines...), "\n")
}

// order leaves CNAMEs where they are and sorts the rest.
func order(line string) string {
	if strings.Contains(line, " CNAME ") {
		return ""
	}
	return line
}

const soa = "authority: cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1700000000 7200 1800 86400 5"

func answers(lines ...string) string {
	return strings.Join(append([]string{"NOERROR"}, lines...), "\n")
}

const (
	noSuchName = "NXDOMAIN\n" + soa
	noData     = "NOERROR\n" + soa
)

// canonical sorts lines after the first, but for CNAMEs.
func canonical(text string) []string {
	lines := strings.Split(text, "\n")
	slices.SortStableFunc(lines[1:], func(a, b string) int { return cmp.Compare(order(a), order(b)) })
	return lines
}

// loading is an empty catalog that has read everything right after the first look at it.
type loading struct {
	*catalog.Catalog
	looked bool
}

func (l *loading) Synced() bool { return l.looked }

func (l *loading) Namespace(string) bool {
	l.looked = true
	return false
}
