// Package plugin is the CoreDNS plug-in "keelson": it answers for the names of the
// cluster's Services and Pods, as CoreDNS' own plug-in for Kubernetes does, from
// Keelson's kinds.
//
// It answers from memory and writes nothing. Before everything was read once, after a
// start, a name that it does not know is answered with a server failure, never with
// "does not exist", and the process does not say that it is ready.
package plugin

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/keelson-dev/keelson/dns/catalog"
)

// Name is the directive in a Corefile.
const Name = "keelson"

// Catalog is what the cluster holds; *catalog.Catalog.
type Catalog interface {
	Synced() bool
	Modified() time.Time
	Namespace(name string) bool
	Service(key catalog.Key) *catalog.Service
	ServicesAt(address string) []*catalog.Service
	Slices(service catalog.Key) []*catalog.Slice
	SlicesAt(address string) []*catalog.Slice
	PodsAt(address string) []*catalog.Pod
}

// Resolver follows names that lead out of our zones.
type Resolver interface {
	Lookup(ctx context.Context, state request.Request, name string, typ uint16) (*dns.Msg, error)
}

// PodMode says for which addresses Pods have names.
type PodMode string

// The modes of names such as 10-244-0-5.ns.pod.cluster.local.
const (
	PodsDisabled PodMode = "disabled"
	// PodsInsecure answers any address in an existing namespace.
	PodsInsecure PodMode = "insecure"
	// PodsVerified answers for addresses that a Pod of the namespace has.
	PodsVerified PodMode = "verified"
)

// Plugin answers queries in its zones and passes on all others.
type Plugin struct {
	Next    plugin.Handler
	Zones   []string
	Catalog Catalog
	Outside Resolver
	// Fall says for which zones names that do not exist are passed on.
	Fall fall.F
	// TTL of answers, in seconds; also how long "does not exist" may be kept.
	TTL  uint32
	Pods PodMode
	// ShortNames serves SERVICE.NAMESPACE.zone beside SERVICE.NAMESPACE.svc.zone.
	ShortNames bool
	// PodNames names endpoints after their Pods where those have no hostname.
	PodNames bool
	// IgnoreEmpty denies Services with a cluster address but no ready endpoint.
	IgnoreEmpty bool
	// Local are the addresses that this server listens on.
	Local []netip.Addr
	// Searches are those of this process's own resolv.conf, for autopath.
	Searches []string
}

// Name implements plugin.Handler.
func (*Plugin) Name() string { return Name }

// Ready implements ready.Readiness.
func (p *Plugin) Ready() bool { return p.Catalog.Synced() }

// ServeDNS implements plugin.Handler.
func (p *Plugin) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	qname := state.QName()
	zone := plugin.Zones(p.Zones).Matches(qname)
	if zone == "" {
		return plugin.NextOrFailure(Name, p.Next, ctx, w, r)
	}
	zone = qname[len(qname)-len(zone):] // in the letters of the question
	state.Zone = zone
	if qtype := state.QType(); qtype == dns.TypeAXFR || qtype == dns.TypeIXFR {
		return dns.RcodeRefused, nil
	}
	b := backend{p}
	synced := p.Catalog.Synced() // before the look: what comes meanwhile is not in the answer
	a := b.answer(ctx, zone, state)
	switch {
	case b.IsNameError(a.err) && p.Fall.Through(state.Name()):
		return plugin.NextOrFailure(Name, p.Next, ctx, w, r)
	case b.IsNameError(a.err) && !synced:
		return plugin.BackendError(ctx, b, zone, dns.RcodeServerFailure, state, nil, plugin.Options{})
	case b.IsNameError(a.err):
		return plugin.BackendError(ctx, b, zone, dns.RcodeNameError, state, nil, plugin.Options{})
	case a.err != nil:
		return dns.RcodeServerFailure, a.err
	case len(a.records) == 0:
		return plugin.BackendError(ctx, b, zone, dns.RcodeSuccess, state, nil, plugin.Options{})
	}
	m := new(dns.Msg).SetReply(r)
	m.Truncated, m.Authoritative = a.truncated, true
	m.Answer, m.Extra = a.records, a.extra
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil
}

// answer is what a question comes to.
type answer struct {
	records, extra []dns.RR
	truncated      bool
	err            error
}

func (b backend) answer(ctx context.Context, zone string, state request.Request) (a answer) {
	none := plugin.Options{}
	switch state.QType() {
	case dns.TypeA:
		a.records, a.truncated, a.err = plugin.A(ctx, b, zone, state, nil, none)
	case dns.TypeAAAA:
		a.records, a.truncated, a.err = plugin.AAAA(ctx, b, zone, state, nil, none)
	case dns.TypeTXT:
		a.records, a.truncated, a.err = plugin.TXT(ctx, b, zone, state, nil, none)
	case dns.TypeCNAME:
		a.records, a.err = plugin.CNAME(ctx, b, zone, state, none)
	case dns.TypePTR:
		a.records, a.err = plugin.PTR(ctx, b, zone, state, none)
	case dns.TypeMX:
		a.records, a.extra, a.err = plugin.MX(ctx, b, zone, state, none)
	case dns.TypeSRV:
		a.records, a.extra, a.err = plugin.SRV(ctx, b, zone, state, none)
	case dns.TypeSOA:
		if strings.EqualFold(state.QName(), zone) {
			a.records, a.err = plugin.SOA(ctx, b, zone, state, none)
			return a
		}
		a.err = b.exists(ctx, zone, state)
	case dns.TypeNS:
		if strings.EqualFold(state.QName(), zone) {
			a.records, a.extra, a.err = plugin.NS(ctx, b, zone, state, none)
			return a
		}
		a.err = b.exists(ctx, zone, state)
	default:
		a.err = b.exists(ctx, zone, state)
	}
	return a
}

// exists tells a name without records of the type asked for from one that is not there.
func (b backend) exists(ctx context.Context, zone string, state request.Request) error {
	address := state.NewWithQuestion(state.QName(), dns.TypeA)
	address.Zone = zone
	_, _, err := plugin.A(ctx, b, zone, address, nil, plugin.Options{})
	return err
}

// AutoPath implements autopath.AutoPather: it returns the search list of the Pod that
// asks, nil when it is not known. It needs the mode verified.
func (p *Plugin) AutoPath(state request.Request) []string {
	zone := plugin.Zones(p.Zones).Matches(state.Name())
	if zone == "" || p.Pods != PodsVerified {
		return nil
	}
	pods := p.Catalog.PodsAt(state.IP())
	if len(pods) == 0 {
		return nil
	}
	svc := dnsutil.Join("svc", zone)
	return append([]string{dnsutil.Join(pods[0].Namespace, svc), svc, zone}, append(p.Searches[:len(p.Searches):len(p.Searches)], "")...)
}

// primaryZone is the one in which reverse answers name things.
func (p *Plugin) primaryZone() string {
	for _, zone := range p.Zones {
		// CoreDNS' helper does not know the zones of all addresses.
		if dnsutil.IsReverse("."+zone) == 0 {
			return zone
		}
	}
	return ""
}
