// Package pki issues the certificates of a cluster that `keelson up` runs, and
// renews them before they expire.
//
// It never hands out a key to anybody but the files in its directory (mode
// 0600), and never replaces an authority that exists: everything signed by it
// would stop working. Recovery after a crash: each leaf is one file that holds
// certificate and key, replaced atomically; Ensure looks at what is there and
// issues again whatever is missing, damaged or about to expire.
package pki

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Lifetimes. A leaf is renewed when a third of its life is left, so a supervisor
// that looks once an hour has months to do it.
const (
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	LeafLifetime      = 365 * 24 * time.Hour
	renewBefore       = LeafLifetime / 3
	clockSkew         = 5 * time.Minute
)

// Usage says which side of TLS connections a certificate is for.
type Usage int

const (
	// Client certificates identify who calls.
	Client Usage = iota
	// Server certificates identify who answers.
	Server
	// Peer certificates do both, as members of an etcd cluster need.
	Peer
)

func (u Usage) extKeyUsage() []x509.ExtKeyUsage {
	switch u {
	case Server:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case Peer:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	default:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

// Leaf describes one certificate to hold.
type Leaf struct {
	// Name of the file, without directory and extension.
	Name string
	// Authority that signs it, by its Name.
	Authority string
	// User and Groups become common name and organizations.
	User   string
	Groups []string
	Usage  Usage
	// DNSNames and Addresses that a server answers under.
	DNSNames  []string
	Addresses []netip.Addr
	// Chain puts the authority's certificate behind it, so that servers show both: a
	// machine that joins knows the authority's public key alone.
	Chain bool
}

// reasonToIssue says why the certificate must be issued (again), or "" when the
// one at hand will do.
func reasonToIssue(have *x509.Certificate, want Leaf, authority *x509.Certificate, now time.Time) string {
	switch {
	case have == nil:
		return "there is none yet"
	case have.CheckSignatureFrom(authority) != nil:
		return "it was signed by another authority"
	case now.After(have.NotAfter.Add(-renewBefore)):
		return fmt.Sprintf("it ends on %s", have.NotAfter.Format(time.DateOnly))
	case now.Before(have.NotBefore):
		return fmt.Sprintf("it begins on %s only", have.NotBefore.Format(time.DateOnly))
	case have.Subject.CommonName != want.User || !sameSet(have.Subject.Organization, want.Groups):
		return "it names somebody else"
	case !sameSet(have.DNSNames, want.DNSNames) || !sameSet(addressesOf(have), want.Addresses):
		return "its names or addresses changed"
	case !slices.Equal(have.ExtKeyUsage, want.Usage.extKeyUsage()):
		return "its usage changed"
	}
	return ""
}

func sameSet[T interface{ ~string | netip.Addr }](a, b []T) bool {
	in := func(set []T) map[T]bool {
		m := make(map[T]bool, len(set))
		for _, v := range set {
			m[v] = true
		}
		return m
	}
	left, right := in(a), in(b)
	if len(left) != len(right) {
		return false
	}
	for v := range left {
		if !right[v] {
			return false
		}
	}
	return true
}

func addressesOf(c *x509.Certificate) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(c.IPAddresses))
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}
