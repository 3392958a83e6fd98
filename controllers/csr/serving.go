package csr

import (
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ownNames tells whether every name and address in asked is one of the node that asks. Its
// name is what the API server knows; the addresses it writes itself, so reserved, which
// may be nil, says which can be no machine's that asks: clients of the cluster trust its
// authority for those of Services, Pods and the API server.
func ownNames(node string, addresses []corev1.NodeAddress, asked *x509.CertificateRequest, reserved func(netip.Addr) bool) bool {
	for _, name := range asked.DNSNames {
		if name != node || meansService(name) {
			return false
		}
	}
	for _, ip := range asked.IPAddresses {
		addr, ok := netip.AddrFromSlice(ip)
		if addr = addr.Unmap(); !ok || !addr.IsGlobalUnicast() || reserved != nil && reserved(addr) {
			return false
		}
		if !slices.ContainsFunc(addresses, func(a corev1.NodeAddress) bool {
			return (a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP) && ip.Equal(net.ParseIP(a.Address))
		}) {
			return false
		}
	}
	return true
}

// meansService tells of names by which Pods find Services, the API server's first of all,
// and this machine. A node that joins chooses its own name.
func meansService(name string) bool {
	labels := strings.Split(strings.ToLower(name), ".")
	return labels[0] == "kubernetes" || labels[len(labels)-1] == "localhost" || len(labels) > 2 && slices.Contains(labels[2:], "svc")
}

// sharesAddress tells whether addresses has any name or address in asked.
func sharesAddress(addresses []corev1.NodeAddress, asked *x509.CertificateRequest) bool {
	return slices.ContainsFunc(addresses, func(a corev1.NodeAddress) bool {
		ip := net.ParseIP(a.Address)
		return slices.Contains(asked.DNSNames, a.Address) || ip != nil && slices.ContainsFunc(asked.IPAddresses, ip.Equal)
	})
}
