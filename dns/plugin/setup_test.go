package plugin

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"
)

func TestParseReadsEveryProperty(t *testing.T) {
	c := caddy.NewTestController("dns", `keelson cluster.local in-addr.arpa {
		pods verified
		ttl 30
		fallthrough in-addr.arpa
		namespaces one two
		labels app in (a, b)
		endpoint_pod_names
		noendpoints
		ignore empty_service
		short_names
		startup_timeout 1s
		kubeconfig /etc/k context
	}`)
	s, err := parse(c)
	if err != nil {
		t.Fatal(err)
	}
	p := s.plugin
	got := []any{p.Zones, p.Pods, p.TTL, p.Fall.Through("1.in-addr.arpa."), p.Fall.Through("a.cluster.local."), s.read.Namespaces, s.read.Selector.String(),
		s.read.WithoutEndpoints, s.read.WithPods, p.PodNames, p.IgnoreEmpty, p.ShortNames, s.startup, s.kubeconfig, s.context}
	want := []any{[]string{"cluster.local.", "in-addr.arpa."}, PodsVerified, uint32(30), true, false, []string{"one", "two"}, "app in (a,b)",
		true, true, true, true, true, time.Second, "/etc/k", "context"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
}

func TestDefaultsAreCoreDNS(t *testing.T) {
	s, err := parse(caddy.NewTestController("dns", "keelson cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	if p := s.plugin; p.TTL != 5 || p.Pods != PodsDisabled || p.ShortNames || s.startup != 5*time.Second || s.read.WithPods {
		t.Errorf("defaults are %+v, %+v", p, s)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ corefile, want string }{
		"only reverse zones":         {"keelson in-addr.arpa", "non-reverse zone name must be used"},
		"two directives":             {"keelson cluster.local\nkeelson cluster.local", "once"},
		"a property nobody knows":    {"keelson cluster.local {\n endpoint https://a\n}", "unknown property 'endpoint'"},
		"a mode nobody knows":        {"keelson cluster.local {\n pods maybe\n}", "wrong value for pods: maybe"},
		"a mode too many":            {"keelson cluster.local {\n pods insecure verified\n}", "Wrong argument count"},
		"a time to live beyond":      {"keelson cluster.local {\n ttl 3601\n}", "ttl must be in range [0, 3600]: 3601"},
		"a time to live in words":    {"keelson cluster.local {\n ttl long\n}", "invalid syntax"},
		"no time to live":            {"keelson cluster.local {\n ttl\n}", "Wrong argument count"},
		"a selector that is none":    {"keelson cluster.local {\n labels in (\n}", "unable to parse label selector value"},
		"namespaces by both":         {"keelson cluster.local {\n namespaces a\n namespace_labels b=c\n}", "cannot both be set"},
		"something else to ignore":   {"keelson cluster.local {\n ignore everything\n}", "unable to parse ignore value: 'everything'"},
		"a time before the start":    {"keelson cluster.local {\n startup_timeout -1s\n}", "must not be negative"},
		"an argument of noendpoints": {"keelson cluster.local {\n noendpoints really\n}", "Wrong argument count"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(caddy.NewTestController("dns", tt.corefile))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestListenAddressesLeaveOutThoseOfNobodyElse(t *testing.T) {
	got := listenAddresses([]string{"127.0.0.1", "192.0.2.53", "::1", "2001:db8::53", "fe80::1"})
	want := []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}
