package plugin

import (
	"net/netip"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/keelson-dev/keelson/dns/catalog"
)

func TestAnswers(t *testing.T) {
	for name, tt := range map[string]struct{ ask, want string }{
		"a Service has its cluster address":           {"svc1.testns.svc.cluster.local A", answers("svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1")},
		"the letters of the question come back":       {"Svc1.TESTNS.svc.Cluster.local A", answers("Svc1.TESTNS.svc.Cluster.local. 5 IN A 10.0.0.1")},
		"a Service without endpoints has one, too":    {"svcempty.testns.svc.cluster.local A", answers("svcempty.testns.svc.cluster.local. 5 IN A 10.0.0.7")},
		"one of IPv4 exists, but has no IPv6 address": {"svc1.testns.svc.cluster.local AAAA", noData},
		"one of IPv6":                                   {"svc6.testns.svc.cluster.local AAAA", answers("svc6.testns.svc.cluster.local. 5 IN AAAA 1234:abcd::1")},
		"one of both families, asked for IPv4":          {"dual.testns.svc.cluster.local A", answers("dual.testns.svc.cluster.local. 5 IN A 10.0.0.3")},
		"one of both families, asked for IPv6":          {"dual.testns.svc.cluster.local AAAA", answers("dual.testns.svc.cluster.local. 5 IN AAAA 10::3")},
		"one whose address is not allocated exists":     {"svcnew.testns.svc.cluster.local A", noData},
		"no such Service":                               {"svc0.testns.svc.cluster.local A", noSuchName},
		"no such Service, IPv6":                         {"svc0.testns.svc.cluster.local AAAA", noSuchName},
		"no such namespace":                             {"svc1.nowhere.svc.cluster.local A", noSuchName},
		"a Service of another namespace":                {"svc1.empty.svc.cluster.local A", noSuchName},
		"types that nothing has, of a name that exists": {"svc1.testns.svc.cluster.local HINFO", noData},
		"types that nothing has, of one that does not":  {"svc0.testns.svc.cluster.local HINFO", noSuchName},
		"text of a name that exists":                    {"svc1.testns.svc.cluster.local TXT", noData},
		"text of one that does not":                     {"svc0.nowhere.svc.cluster.local TXT", noSuchName},
		"the version of the specification":              {"dns-version.cluster.local TXT", answers(`dns-version.cluster.local. 28800 IN TXT "1.1.0"`)},
		"the zone of Services holds nothing itself":     {"svc.cluster.local A", noData},
		"nor that of Pods":                              {"pod.cluster.local A", noData},
		"nor a namespace":                               {"testns.svc.cluster.local A", noData},
		"a namespace that is not there":                 {"foo.svc.cluster.local NS", noSuchName},
		"servers below the zone":                        {"testns.svc.cluster.local NS", noData},
		"servers of a name that is not there":           {"foo.cluster.local NS", noSuchName},
		"something else below the zone":                 {"www.cluster.local A", noSuchName},
		"the short form, when it is not switched on":    {"svc1.testns.cluster.local A", noSuchName},
		"the start of authority below the zone":         {"svc1.testns.svc.cluster.local SOA", noData},
		"the start of authority of what does not exist": {"svc0.testns.svc.cluster.local SOA", noSuchName},
		"a zone transfer":                               {"cluster.local AXFR", "REFUSED"},
		"another zone is the next plug-in's":            {"example.org A", "REFUSED"},
		"an endpoint of a Service with an address":      {"172-0-0-1.svc1.testns.svc.cluster.local A", answers("172-0-0-1.svc1.testns.svc.cluster.local. 5 IN A 172.0.0.1")},
		"an endpoint by its Pod, when that is not on":   {"backend-1.svc1.testns.svc.cluster.local A", noSuchName},
		"one that there is not":                         {"bogus.hdls1.testns.svc.cluster.local A", noSuchName},
		"below a Service that there is not":             {"bogus.svc0.testns.svc.cluster.local A", noSuchName},
		"too many labels":                               {"a.b.c.svc1.testns.svc.cluster.local A", noSuchName},
		"an outside name":                               {"external.testns.svc.cluster.local CNAME", answers("external.testns.svc.cluster.local. 5 IN CNAME ext.interwebs.test.")},
		"an outside name has no Service records":        {"external.testns.svc.cluster.local SRV", noData},
		"below an outside name there is nothing":        {"endpoint.external.testns.svc.cluster.local CNAME", noSuchName},
		"nor further below":                             {"a.b.external.testns.svc.cluster.local CNAME", noSuchName},
		"an outside name that is an address is none":    {"address.testns.svc.cluster.local A", noSuchName},
		"an outside name that leads to itself":          {"loop.testns.svc.cluster.local A", noData},
		"names of Pods, when they are off":              {"10-240-0-1.testns.pod.cluster.local A", noSuchName},
		"a headless Service without a ready endpoint":   {"hdlsempty.testns.svc.cluster.local A", noSuchName},
		"an endpoint that is not ready has no name":     {"gone.hdls1.testns.svc.cluster.local A", noSuchName},
		"an endpoint without a port":                    {"172-0-0-20.hdlsprtls.testns.svc.cluster.local A", answers("172-0-0-20.hdlsprtls.testns.svc.cluster.local. 5 IN A 172.0.0.20")},
		"a headless Service without a port":             {"hdlsprtls.testns.svc.cluster.local A", answers("hdlsprtls.testns.svc.cluster.local. 5 IN A 172.0.0.20")},
		"Service records without a port":                {"hdlsprtls.testns.svc.cluster.local SRV", noData},
		"an endpoint by its hostname, which two have":   {"dup-name.hdls1.testns.svc.cluster.local A", answers("dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.4", "dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.5")},
		"an endpoint of IPv6":                           {"5678-abcd--1.hdls1.testns.svc.cluster.local AAAA", answers("5678-abcd--1.hdls1.testns.svc.cluster.local. 5 IN AAAA 5678:abcd::1")},
		"every ready endpoint of a headless Service, of all slices": {"hdls1.testns.svc.cluster.local A", answers(
			"hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.2", "hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.3",
			"hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.4", "hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.5")},
		"and of the other family": {"hdls1.testns.svc.cluster.local AAAA", answers(
			"hdls1.testns.svc.cluster.local. 5 IN AAAA 5678:abcd::1", "hdls1.testns.svc.cluster.local. 5 IN AAAA 5678:abcd::2")},
		"an outside name is followed": {"external.testns.svc.cluster.local A", answers(
			"external.testns.svc.cluster.local. 5 IN CNAME ext.interwebs.test.", "ext.interwebs.test. 5 IN A 1.2.3.4")},
		"also to another Service": {"external-to-service.testns.svc.cluster.local A", answers(
			"external-to-service.testns.svc.cluster.local. 5 IN CNAME svc1.testns.svc.cluster.local.", "svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1")},
		"a named port": {"_http._tcp.svc1.testns.svc.cluster.local SRV", answers(
			"_http._tcp.svc1.testns.svc.cluster.local. 5 IN SRV 0 100 80 svc1.testns.svc.cluster.local.", "also: svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1")},
		"all ports": {"two.testns.svc.cluster.local SRV", answers(
			"also: two.testns.svc.cluster.local. 5 IN A 10.0.0.4",
			"two.testns.svc.cluster.local. 5 IN SRV 0 50 53 two.testns.svc.cluster.local.",
			"two.testns.svc.cluster.local. 5 IN SRV 0 50 80 two.testns.svc.cluster.local.")},
		"a port of another protocol": {"_http._udp.svc1.testns.svc.cluster.local SRV", noSuchName},
		"a port that there is not":   {"_https._tcp.svc1.testns.svc.cluster.local SRV", noSuchName},
		"ports of both families": {"dual.testns.svc.cluster.local SRV", answers(
			"also: dual.testns.svc.cluster.local. 5 IN A 10.0.0.3", "also: dual.testns.svc.cluster.local. 5 IN AAAA 10::3",
			"dual.testns.svc.cluster.local. 5 IN SRV 0 50 80 dual.testns.svc.cluster.local.")},
		"a named port of a headless Service leads to each endpoint": {"_http._tcp.hdls1.testns.svc.cluster.local SRV", answers(
			"_http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 16 80 172-0-0-2.hdls1.testns.svc.cluster.local.",
			"_http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 16 80 172-0-0-3.hdls1.testns.svc.cluster.local.",
			"_http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 16 80 5678-abcd--1.hdls1.testns.svc.cluster.local.",
			"_http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 16 80 5678-abcd--2.hdls1.testns.svc.cluster.local.",
			"_http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 16 80 dup-name.hdls1.testns.svc.cluster.local.",
			"also: 172-0-0-2.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.2",
			"also: 172-0-0-3.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.3",
			"also: 5678-abcd--1.hdls1.testns.svc.cluster.local. 5 IN AAAA 5678:abcd::1",
			"also: 5678-abcd--2.hdls1.testns.svc.cluster.local. 5 IN AAAA 5678:abcd::2",
			"also: dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.4",
			"also: dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.5")},
		"the name behind a cluster address":         {"1.0.0.10.in-addr.arpa PTR", answers("1.0.0.10.in-addr.arpa. 5 IN PTR svc1.testns.svc.cluster.local.")},
		"the name behind an endpoint":               {"2.0.0.172.in-addr.arpa PTR", answers("2.0.0.172.in-addr.arpa. 5 IN PTR 172-0-0-2.hdls1.testns.svc.cluster.local.")},
		"the name behind an endpoint with hostname": {"4.0.0.172.in-addr.arpa PTR", answers("4.0.0.172.in-addr.arpa. 5 IN PTR dup-name.hdls1.testns.svc.cluster.local.")},
		"the name behind an address of IPv6": {"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa PTR",
			answers("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa. 5 IN PTR svc6.testns.svc.cluster.local.")},
		"nobody has the address": {"99.0.0.10.in-addr.arpa PTR",
			"NXDOMAIN\nauthority: 10.in-addr.arpa. 5 IN SOA ns.dns.10.in-addr.arpa. hostmaster.10.in-addr.arpa. 1700000000 7200 1800 86400 5"},
		"the address is another zone's": {"1.2.0.192.in-addr.arpa PTR", "REFUSED"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := gocmp.Diff(canonical(tt.want), canonical(ask(t, newPlugin(t, nil), tt.ask))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.ask, diff)
			}
		})
	}
}

func TestAnswersWithProperties(t *testing.T) {
	short := func(p *Plugin) { p.ShortNames = true }
	insecure := func(p *Plugin) { p.Pods = PodsInsecure }
	verified := func(p *Plugin) { p.Pods = PodsVerified }
	for name, tt := range map[string]struct {
		change    func(*Plugin)
		ask, want string
	}{
		"short names":                               {short, "svc1.testns.cluster.local A", answers("svc1.testns.cluster.local. 5 IN A 10.0.0.1")},
		"short names, the long form":                {short, "svc1.testns.svc.cluster.local A", answers("svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1")},
		"short names, an endpoint":                  {short, "dup-name.hdls1.testns.cluster.local AAAA", noData},
		"short names, a single label":               {short, "testns.cluster.local A", noSuchName},
		"any address is a Pod's":                    {insecure, "10-240-0-77.testns.pod.cluster.local A", answers("10-240-0-77.testns.pod.cluster.local. 5 IN A 10.240.0.77")},
		"of IPv6, too":                              {insecure, "1234-abcd--7.testns.pod.cluster.local AAAA", answers("1234-abcd--7.testns.pod.cluster.local. 5 IN AAAA 1234:abcd::7")},
		"what is no address is not":                 {insecure, "web.testns.pod.cluster.local A", noSuchName},
		"in a namespace that is not there":          {insecure, "10-240-0-77.nowhere.pod.cluster.local A", noSuchName},
		"the namespace of Pods":                     {insecure, "testns.pod.cluster.local A", noData},
		"below an address there is nothing":         {insecure, "a.10-240-0-77.testns.pod.cluster.local A", noSuchName},
		"a Pod's address, verified":                 {verified, "10-240-0-1.testns.pod.cluster.local A", answers("10-240-0-1.testns.pod.cluster.local. 5 IN A 10.240.0.1")},
		"nobody's address, verified":                {verified, "10-240-0-77.testns.pod.cluster.local A", noSuchName},
		"a Pod of another namespace, verified":      {verified, "10-240-0-1.empty.pod.cluster.local A", noSuchName},
		"the address of a Pod that ended, verified": {verified, "10-240-0-9.testns.pod.cluster.local A", noSuchName},
		"endpoints by their Pods": {func(p *Plugin) { p.PodNames = true }, "hdls-pod.hdls1.testns.svc.cluster.local A",
			answers("hdls-pod.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.2")},
		"Services without endpoints can be denied": {func(p *Plugin) { p.IgnoreEmpty = true }, "svcempty.testns.svc.cluster.local A", noSuchName},
		"those with are not":                       {func(p *Plugin) { p.IgnoreEmpty = true }, "svc1.testns.svc.cluster.local A", answers("svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1")},
		"the time to live":                         {func(p *Plugin) { p.TTL = 30 }, "svc1.testns.svc.cluster.local A", answers("svc1.testns.svc.cluster.local. 30 IN A 10.0.0.1")},
		"names that are not there are passed on":   {func(p *Plugin) { p.Fall = fall.Root }, "svc0.testns.svc.cluster.local A", "REFUSED"},
		"names that are there are not":             {func(p *Plugin) { p.Fall = fall.Root }, "svc1.testns.svc.cluster.local AAAA", noData},
		"before anything was read": {func(p *Plugin) { p.Catalog = catalog.New(catalog.Options{}, nil) }, "svc1.testns.svc.cluster.local A",
			"SERVFAIL\nauthority: cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 0 7200 1800 86400 5"},
		"what is read while the question is looked at": {func(p *Plugin) { p.Catalog = &loading{Catalog: catalog.New(catalog.Options{}, nil)} }, "svc1.testns.svc.cluster.local A",
			"SERVFAIL\nauthority: cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 0 7200 1800 86400 5"},
		"only some namespaces": {func(p *Plugin) {
			p.Catalog = load(t, catalog.Options{Namespaces: []string{"empty"}}, cluster()...)
		}, "svc1.testns.svc.cluster.local A", noSuchName},
		"only namespaces with a label": {func(p *Plugin) {
			p.Catalog = load(t, catalog.Options{NamespaceSelector: labels.SelectorFromSet(labels.Set{"a": "b"})}, cluster()...)
		}, "1.0.0.10.in-addr.arpa PTR", "NXDOMAIN\nauthority: 10.in-addr.arpa. 5 IN SOA ns.dns.10.in-addr.arpa. hostmaster.10.in-addr.arpa. 1700000000 7200 1800 86400 5"},
		"without endpoints": {func(p *Plugin) {
			p.Catalog = load(t, catalog.Options{WithoutEndpoints: true}, cluster()...)
		}, "hdls1.testns.svc.cluster.local A", noSuchName},
		"the servers of the zone, behind their Service": {func(p *Plugin) { p.Local = []netip.Addr{netip.MustParseAddr("172.0.0.1")} }, "cluster.local NS", answers(
			"cluster.local. 5 IN NS svc1.testns.svc.cluster.local.", "also: svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1")},
		"the servers of the zone, behind nothing": {func(p *Plugin) { p.Local = []netip.Addr{netip.MustParseAddr("192.0.2.53")} }, "cluster.local NS", answers(
			"cluster.local. 5 IN NS ns.dns.cluster.local.", "also: ns.dns.cluster.local. 5 IN A 192.0.2.53")},
		"the name of the server": {func(p *Plugin) { p.Local = []netip.Addr{netip.MustParseAddr("192.0.2.53")} }, "ns.dns.cluster.local A",
			answers("ns.dns.cluster.local. 5 IN A 192.0.2.53")},
		"the start of authority": {nil, "cluster.local SOA",
			answers("cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1700000000 7200 1800 86400 5")},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := gocmp.Diff(canonical(tt.want), canonical(ask(t, newPlugin(t, tt.change), tt.ask))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.ask, diff)
			}
		})
	}
}

func TestAutoPathIsTheSearchListOfThePodThatAsks(t *testing.T) {
	from := func(p *Plugin, address string) []string {
		q := new(dns.Msg).SetQuestion("web.testns.svc.cluster.local.", dns.TypeA)
		return p.AutoPath(request.Request{W: &test.ResponseWriter{RemoteIP: address}, Req: q})
	}
	p := newPlugin(t, func(p *Plugin) { p.Pods, p.Searches = PodsVerified, []string{"example.org."} })
	want := []string{"testns.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "example.org.", ""}
	if diff := gocmp.Diff(want, from(p, "10.240.0.1")); diff != "" {
		t.Errorf("search list of a Pod (-want +got):\n%s", diff)
	}
	if got := from(p, "10.240.0.77"); got != nil {
		t.Errorf("search list of nobody: %q", got)
	}
	p.Pods = PodsInsecure
	if got := from(p, "10.240.0.1"); got != nil {
		t.Errorf("search list when Pods are not known: %q", got)
	}
}
