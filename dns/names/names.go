// Package names reads the names that a cluster's DNS is asked for, and writes those
// that it answers with.
//
// It knows the specification of DNS-based service discovery and nothing of what the
// cluster holds. It keeps no state.
package names

import (
	"errors"
	"strings"

	"github.com/miekg/dns"
)

// The labels below a zone that say what a name stands for.
const (
	Svc = "svc"
	Pod = "pod"
)

// ErrInvalid is for names that the specification does not have.
var ErrInvalid = errors.New("no name of a Service or a Pod")

// Request is what a name asks for. A field is empty where the name stops short of it.
type Request struct {
	// Kind is Svc or Pod, empty for the zone itself.
	Kind string
	// Namespace, Name: of a Service, or a Pod's address in words.
	Namespace, Name string
	// Endpoint names one address behind a Service.
	Endpoint string
	// Port and Protocol come from _port._protocol, without the underscores.
	Port, Protocol string
}

// Parse reads name, which must be in zone; both are fully qualified and in lower case.
// With short it also takes SERVICE.NAMESPACE.zone, and what is below that.
func Parse(name, zone string, short bool) (Request, error) {
	base := strings.TrimSuffix(strings.TrimSuffix(name, zone), ".")
	if zone == "." {
		base = strings.TrimSuffix(name, ".")
	}
	if base == "" {
		return Request{}, nil
	}
	labels := dns.SplitDomainName(base)
	last := len(labels) - 1
	if labels[last] != Svc && labels[last] != Pod {
		if !short || len(labels) < 2 {
			return Request{}, ErrInvalid
		}
		labels, last = append(labels, Svc), last+1
	}
	if last == 0 { // svc.zone: exists, and holds nothing itself
		return Request{}, nil
	}
	r := Request{Kind: labels[last], Namespace: labels[last-1]}
	rest := labels[:last-1]
	if len(rest) == 0 {
		return r, nil
	}
	r.Name, rest = rest[len(rest)-1], rest[:len(rest)-1]
	switch len(rest) {
	case 0:
	case 1:
		r.Endpoint = rest[0]
	case 2:
		r.Port, r.Protocol = strings.TrimPrefix(rest[0], "_"), strings.TrimPrefix(rest[1], "_")
	default:
		return Request{}, ErrInvalid
	}
	return r, nil
}

// AddressLabel writes an address as a label: 10-244-0-5, or 2001-db8--5. A label must
// not end in a dash.
func AddressLabel(address string) string {
	label := strings.NewReplacer(".", "-", ":", "-").Replace(address)
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}

// LabelAddress reads what AddressLabel writes; it may still be no address.
func LabelAddress(label string) string {
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		return strings.ReplaceAll(label, "-", ".")
	}
	return strings.ReplaceAll(label, "-", ":")
}

// Join writes a fully qualified name.
func Join(labels ...string) string {
	return dns.Fqdn(strings.Join(labels, "."))
}
