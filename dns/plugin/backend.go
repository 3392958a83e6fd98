package plugin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/etcd/msg"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/keelson-dev/keelson/dns/names"
)

// SchemaVersion is what dns-version.ZONE answers: the version of the specification,
// https://github.com/kubernetes/dns/blob/master/docs/specification.md.
const SchemaVersion = "1.1.0"

// schemaTTL is how long that may be kept, as CoreDNS says.
const schemaTTL = 28800

// errNone means that there is no such name.
var errNone = errors.New("no such name")

// pathPrefix begins the keys from which CoreDNS makes names again.
const pathPrefix = "c"

// backend is the plug-in as CoreDNS' helpers want it.
type backend struct{ *Plugin }

var _ plugin.ServiceBackend = backend{}

// Services implements plugin.ServiceBackend.
func (b backend) Services(ctx context.Context, state request.Request, exact bool, o plugin.Options) ([]msg.Service, error) {
	if state.QType() == dns.TypeTXT {
		return b.text(ctx, state)
	}
	// Servers are asked for at the zone itself alone, under a name that CoreDNS makes up.
	if state.QType() == dns.TypeNS || isServerName(state.Name(), state.Zone) {
		return b.servers(state), nil
	}
	found, err := b.Records(ctx, state, exact)
	if state.QType() == dns.TypeSRV { // none for names that lead elsewhere, as upstream
		found = slices.DeleteFunc(found, func(s msg.Service) bool { kind, _ := s.HostType(); return kind == dns.TypeCNAME })
	}
	return found, err
}

func (b backend) text(ctx context.Context, state request.Request) ([]msg.Service, error) {
	if base, err := dnsutil.TrimZone(state.Name(), state.Zone); err == nil && base == "dns-version" {
		return []msg.Service{{Text: SchemaVersion, TTL: schemaTTL, Key: msg.Path(state.QName(), pathPrefix)}}, nil
	}
	_, err := b.Records(ctx, state, false)
	return nil, err
}

// Records implements plugin.ServiceBackend. No error and no record mean that the name
// exists without an address.
func (b backend) Records(_ context.Context, state request.Request, _ bool) ([]msg.Service, error) {
	if dnsutil.IsReverse(state.Name()) > 0 {
		if strings.EqualFold(state.Name(), state.Zone) {
			return nil, nil
		}
		return nil, errNone
	}
	r, err := names.Parse(state.Name(), strings.ToLower(state.Zone), b.ShortNames)
	switch {
	case err != nil:
		return nil, err
	case r.Kind == "":
		return nil, nil
	case !b.Catalog.Namespace(r.Namespace):
		return nil, errNone
	case r.Kind == names.Pod:
		return b.pod(r, state.Zone)
	case r.Name == "":
		return nil, nil
	}
	return b.service(r, state.Zone)
}

// Reverse implements plugin.ServiceBackend.
func (b backend) Reverse(ctx context.Context, state request.Request, exact bool, _ plugin.Options) ([]msg.Service, error) {
	address := dnsutil.ExtractAddressFromReverse(state.Name())
	if address == "" {
		_, err := b.Records(ctx, state, exact)
		return nil, err
	}
	found := b.namesOf(address)
	if len(found) == 0 {
		return nil, errNone
	}
	return found, nil
}

// Lookup implements plugin.ServiceBackend.
func (b backend) Lookup(ctx context.Context, state request.Request, name string, typ uint16) (*dns.Msg, error) {
	return b.Outside.Lookup(ctx, state, name, typ)
}

// IsNameError implements plugin.ServiceBackend.
func (b backend) IsNameError(err error) bool {
	return errors.Is(err, errNone) || errors.Is(err, names.ErrInvalid)
}

// Serial implements plugin.ServiceBackend.
func (b backend) Serial(request.Request) uint32 { return uint32(b.Catalog.Modified().Unix()) }

// MinTTL implements plugin.ServiceBackend.
func (b backend) MinTTL(request.Request) uint32 { return b.TTL }
