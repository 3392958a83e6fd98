package plugin

import (
	"net/netip"
	"strings"

	"github.com/coredns/coredns/plugin/etcd/msg"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/keelson-dev/keelson/dns/catalog"
	"github.com/keelson-dev/keelson/dns/names"
)

// pod answers for an address in words.
func (b backend) pod(r names.Request, zone string) ([]msg.Service, error) {
	if b.Pods == PodsDisabled {
		return nil, errNone
	}
	if r.Name == "" {
		return nil, nil
	}
	if r.Endpoint != "" || r.Port != "" || r.Protocol != "" {
		return nil, errNone
	}
	address, err := netip.ParseAddr(names.LabelAddress(r.Name))
	if err != nil {
		return nil, errNone
	}
	if b.Pods == PodsVerified && !b.hasPod(r.Namespace, address.String()) {
		return nil, errNone
	}
	return []msg.Service{{Key: key(zone, names.Pod, r.Namespace, r.Name), Host: address.String(), TTL: b.TTL}}, nil
}

func (b backend) hasPod(namespace, address string) bool {
	for _, pod := range b.Catalog.PodsAt(address) {
		if pod.Namespace == namespace {
			return true
		}
	}
	return false
}

// service answers for a Service and what is below its name.
func (b backend) service(r names.Request, zone string) ([]msg.Service, error) {
	s := b.Catalog.Service(catalog.Key{Namespace: r.Namespace, Name: r.Name})
	switch {
	case s == nil:
		return nil, errNone
	case s.ExternalName != "":
		return b.external(s, r, zone)
	case s.Headless || r.Endpoint != "":
		return b.endpoints(s, r, zone)
	case b.IgnoreEmpty && len(b.Catalog.Slices(s.Key)) == 0: // slices hold ready endpoints
		return nil, errNone
	}
	var found []msg.Service
	exists := false
	for _, port := range s.Ports {
		if !asks(r, port) {
			continue
		}
		exists = true
		for _, address := range s.Addresses {
			found = append(found, msg.Service{Host: address, Port: int(port.Number), TTL: b.TTL, Key: key(zone, names.Svc, s.Namespace, s.Name)})
		}
	}
	if !exists {
		return nil, errNone
	}
	return found, nil
}

func (b backend) external(s *catalog.Service, r names.Request, zone string) ([]msg.Service, error) {
	if r.Endpoint != "" || r.Port != "" || r.Protocol != "" {
		return nil, errNone
	}
	record := msg.Service{Key: key(zone, names.Svc, s.Namespace, s.Name), Host: s.ExternalName, TTL: b.TTL}
	if kind, _ := record.HostType(); kind != dns.TypeCNAME { // an address is no name
		return nil, errNone
	}
	return []msg.Service{record}, nil
}

// endpoints answers with the ready addresses behind a Service. A headless Service
// without any has no name, as upstream.
func (b backend) endpoints(s *catalog.Service, r names.Request, zone string) ([]msg.Service, error) {
	var found []msg.Service
	for _, slice := range b.Catalog.Slices(s.Key) {
		for _, e := range slice.Endpoints {
			host := b.hostname(e)
			if r.Endpoint != "" && !strings.EqualFold(r.Endpoint, host) {
				continue
			}
			for _, port := range slice.Ports {
				if asks(r, port) {
					found = append(found, msg.Service{Host: e.Address, Port: int(port.Number), TTL: b.TTL, Key: key(zone, names.Svc, s.Namespace, s.Name, host)})
				}
			}
		}
	}
	if len(found) == 0 {
		return nil, errNone
	}
	return found, nil
}

// maxLabel is how long a label may be.
const maxLabel = 63

// hostname is the label of an endpoint below its Service's name.
func (b backend) hostname(e catalog.Endpoint) string {
	switch {
	case e.Hostname != "":
		return e.Hostname
	case b.PodNames && e.Target != "" && len(e.Target) <= maxLabel:
		return e.Target
	}
	return names.AddressLabel(e.Address)
}

// asks says whether a port is one that the request is about: any, where it names none.
func asks(r names.Request, p catalog.Port) bool {
	return (r.Port == "" || strings.EqualFold(r.Port, p.Name)) && (r.Protocol == "" || strings.EqualFold(r.Protocol, p.Protocol))
}

// key is the path from which CoreDNS makes the name again.
func key(zone string, labels ...string) string {
	return strings.Join(append([]string{msg.Path(zone, pathPrefix)}, labels...), "/")
}

// namesOf answers a reverse lookup: the Service that has the address, else the
// endpoints that do.
func (b backend) namesOf(address string) []msg.Service {
	zone := b.primaryZone()
	for _, s := range b.Catalog.ServicesAt(address) {
		if b.Catalog.Namespace(s.Namespace) {
			return []msg.Service{{Host: names.Join(s.Name, s.Namespace, names.Svc, zone), TTL: b.TTL}}
		}
	}
	var found []msg.Service
	for _, slice := range b.Catalog.SlicesAt(address) {
		if !b.Catalog.Namespace(slice.Namespace) {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Address == address {
				found = append(found, msg.Service{Host: names.Join(b.hostname(e), slice.Service, slice.Namespace, names.Svc, zone), TTL: b.TTL})
			}
		}
	}
	return found
}

// serverName is the name of this server in a zone, below the zone.
const serverName = "ns.dns."

func isServerName(name, zone string) bool {
	return strings.EqualFold(name, serverName+zone)
}

// servers are the addresses of this server: those of the Services in front of it, else
// its own.
func (b backend) servers(state request.Request) []msg.Service {
	var found []msg.Service
	add := func(address, name string) {
		parsed, err := netip.ParseAddr(address)
		if err != nil || state.QType() == dns.TypeA && !parsed.Is4() || state.QType() == dns.TypeAAAA && !parsed.Is6() {
			return
		}
		if state.QType() == dns.TypeA || state.QType() == dns.TypeAAAA {
			name = state.QName()
		}
		found = append(found, msg.Service{Host: address, Key: msg.Path(name, pathPrefix), TTL: b.TTL})
	}
	served := false
	for _, local := range b.Local {
		for _, slice := range b.Catalog.SlicesAt(local.String()) {
			if s := b.Catalog.Service(catalog.Key{Namespace: slice.Namespace, Name: slice.Service}); s != nil {
				served = true
				b.addServer(s, state.Zone, add)
			}
		}
	}
	if !served {
		for _, local := range b.Local {
			add(local.String(), serverName+state.Zone)
		}
	}
	return found
}

func (b backend) addServer(s *catalog.Service, zone string, add func(address, name string)) {
	if !s.Headless {
		for _, address := range s.Addresses {
			add(address, names.Join(s.Name, s.Namespace, names.Svc, zone))
		}
		return
	}
	for _, slice := range b.Catalog.Slices(s.Key) {
		for _, e := range slice.Endpoints {
			add(e.Address, names.Join(b.hostname(e), s.Name, s.Namespace, names.Svc, zone))
		}
	}
}
