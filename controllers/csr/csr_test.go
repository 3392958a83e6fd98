package csr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

var (
	clientUsages  = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	servingUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth}
)

// node is a request of the agent of node n1.
func node(change ...func(*x509.CertificateRequest)) *x509.CertificateRequest {
	r := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "keelson:node:n1", Organization: []string{"keelson:nodes"}}}
	for _, c := range change {
		c(r)
	}
	return r
}

func TestValidate(t *testing.T) {
	names := func(r *x509.CertificateRequest) { r.DNSNames = []string{"n1"} }
	addresses := func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }
	tests := map[string]struct {
		signer string
		asked  *x509.CertificateRequest
		usages []certificatesv1.KeyUsage
		want   string
	}{
		"the client certificate of a node":  {ClientSigner, node(), clientUsages, ""},
		"the same with an RSA key's usages": {ClientSigner, node(), append(clientUsages, certificatesv1.UsageKeyEncipherment), ""},
		"the serving certificate of a node": {ServingSigner, node(names, addresses), servingUsages, ""},
		"an administrator": {ClientSigner, node(func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:masters"} }), clientUsages,
			"subject organization is not keelson:nodes"},
		"a node and administrator": {ClientSigner, node(func(r *x509.CertificateRequest) {
			r.Subject.Organization = append(r.Subject.Organization, "system:masters")
		}), clientUsages, "subject organization is not keelson:nodes"},
		"somebody else in the group": {ClientSigner, node(func(r *x509.CertificateRequest) { r.Subject.CommonName = "keelson:manager" }), clientUsages,
			"subject common name does not begin with keelson:node:"},
		"a node without a name": {ClientSigner, node(func(r *x509.CertificateRequest) { r.Subject.CommonName = "keelson:node:" }), clientUsages,
			"subject common name does not begin with keelson:node:"},
		"a client certificate with a host's name":   {ClientSigner, node(names), clientUsages, "DNS subjectAltNames are not allowed"},
		"a client certificate with an address":      {ClientSigner, node(addresses), clientUsages, "IP subjectAltNames are not allowed"},
		"a client certificate that serves":          {ClientSigner, node(), servingUsages, "usages did not match [client auth digital signature key encipherment]"},
		"a serving certificate that is a client's":  {ServingSigner, node(names), clientUsages, "usages did not match [digital signature key encipherment server auth]"},
		"a serving certificate for no name at all":  {ServingSigner, node(), servingUsages, "DNS or IP subjectAltName is required"},
		"a certificate that is good for mail":       {ServingSigner, node(names, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} }), servingUsages, "Email subjectAltNames are not allowed"},
		"a certificate that names a URI, as SPIFFE": {ServingSigner, node(names, func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe"}} }), servingUsages, "URI subjectAltNames are not allowed"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := validate(tc.signer, tc.asked, tc.usages); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if err := validate(ClientSigner, node(func(r *x509.CertificateRequest) { r.Subject.CommonName = "keelson:node:A/b" }), clientUsages); err == nil {
		t.Error("accepted a name that no node can have")
	}
}

func TestPermissions(t *testing.T) {
	of := func(signer, user string) (subresources []string) {
		request := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Username: user}}
		for _, p := range permissions(request, node()) {
			subresources = append(subresources, p.subresource)
		}
		return subresources
	}
	for name, tc := range map[string]struct{ got, want []string }{
		"a node that renews":               {of(ClientSigner, "keelson:node:n1"), []string{"selfnodeclient", "nodeclient"}},
		"a new machine, or another node":   {of(ClientSigner, "keelson:node:n2"), []string{"nodeclient"}},
		"a node's server":                  {of(ServingSigner, "keelson:node:n1"), []string{"selfnodeserver"}},
		"another node's server, by nobody": {of(ServingSigner, "keelson:node:n2"), nil},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWhichNamesANodesServerGets(t *testing.T) {
	have := []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeExternalIP, Address: "2001:db8::1"},
		{Type: corev1.NodeHostName, Address: "n1.example.com"}, {Type: corev1.NodeInternalDNS, Address: "kubernetes.default.svc"},
		// What a node that lies would say.
		{Type: corev1.NodeInternalIP, Address: "10.254.0.1"}, {Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, {Type: corev1.NodeInternalIP, Address: "::1"},
	}
	reserved := func(addr netip.Addr) bool { return netip.MustParsePrefix("10.254.0.0/16").Contains(addr) }
	for name, tc := range map[string]struct {
		node  string
		names []string
		ips   []net.IP
		want  bool
	}{
		"both of its own":                    {"n1", []string{"n1"}, []net.IP{net.IPv4(192, 0, 2, 1)}, true},
		"its addresses":                      {"n1", nil, []net.IP{net.IPv4(192, 0, 2, 1).To4(), net.ParseIP("2001:db8::1")}, true},
		"another machine's name":             {"n1", []string{"n1", "api"}, nil, false},
		"another node's name":                {"n1", []string{"n2"}, nil, false},
		"another machine's address":          {"n1", nil, []net.IP{net.IPv4(192, 0, 2, 2)}, false},
		"an address as a name":               {"n1", []string{"192.0.2.1"}, nil, false},
		"a name that it gave itself":         {"n1", []string{"n1.example.com"}, nil, false},
		"the name of a Service":              {"n1", []string{"kubernetes.default.svc"}, nil, false},
		"the address of a Service":           {"n1", nil, []net.IP{net.IPv4(10, 254, 0, 1)}, false},
		"the same in 4 bytes":                {"n1", nil, []net.IP{net.IPv4(10, 254, 0, 1).To4()}, false},
		"loopback":                           {"n1", nil, []net.IP{net.IPv4(127, 0, 0, 1)}, false},
		"loopback of IPv6":                   {"n1", nil, []net.IP{net.IPv6loopback}, false},
		"a node that is called as a Service": {"web.shop.svc", []string{"web.shop.svc"}, nil, false},
		"and with the domain":                {"web.shop.svc.cluster.local", []string{"web.shop.svc.cluster.local"}, nil, false},
		"a node that is called as a Pod":     {"db-0.db.shop.svc", []string{"db-0.db.shop.svc"}, nil, false},
		"a node that is called kubernetes":   {"kubernetes", []string{"kubernetes"}, nil, false},
		"and with a namespace":               {"kubernetes.default", []string{"kubernetes.default"}, nil, false},
		"a node that is called localhost":    {"localhost", []string{"localhost"}, nil, false},
		"a node with a domain":               {"n1.example.com", []string{"n1.example.com"}, nil, true},
	} {
		if got := ownNames(tc.node, have, &x509.CertificateRequest{DNSNames: tc.names, IPAddresses: tc.ips}, reserved); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAddressesOfOtherNodesAreSeen(t *testing.T) {
	others := []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.2"}, {Type: corev1.NodeHostName, Address: "n2"}}
	for name, tc := range map[string]struct {
		asked x509.CertificateRequest
		want  bool
	}{
		"nothing of it":          {x509.CertificateRequest{DNSNames: []string{"n1"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, false},
		"its address":            {x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 2)}}, true},
		"its address in 4 bytes": {x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 2).To4()}}, true},
		"its name":               {x509.CertificateRequest{DNSNames: []string{"n2"}}, true},
	} {
		if got := sharesAddress(others, &tc.asked); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestLifetime(t *testing.T) {
	for name, tc := range map[string]struct {
		asked *int32
		want  time.Duration
	}{
		"nothing asked": {nil, time.Hour}, "less": {new(int32(1800)), 30 * time.Minute},
		"more than there is": {new(int32(7200)), time.Hour}, "too little": {new(int32(1)), shortest},
	} {
		if got := lifetime(tc.asked, time.Hour); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// newAuthority writes an authority that ends at end.
func newAuthority(t *testing.T, end time.Time, isCA bool) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: end.Add(-48 * time.Hour), NotAfter: end, KeyUsage: x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{certFile: filepath.Join(t.TempDir(), "ca.crt"), keyFile: filepath.Join(t.TempDir(), "ca.key")}
	for file, block := range map[string]*pem.Block{a.certFile: {Type: "CERTIFICATE", Bytes: certificate}, a.keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func TestSign(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	a := newAuthority(t, now.Add(24*time.Hour), true)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	asked := node()
	asked.PublicKey = key.Public()
	for name, tc := range map[string]struct{ life, want time.Duration }{
		"as long as asked": {time.Hour, time.Hour}, "no longer than the authority": {100 * time.Hour, 24 * time.Hour},
	} {
		chain, err := a.sign(asked, clientUsages, tc.life, now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		block, _ := pem.Decode(chain)
		got, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		issuer, _, err := a.load()
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(issuer)
		if _, err := got.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.NotAfter.Sub(now) != tc.want || got.IsCA || got.Subject.CommonName != "keelson:node:n1" {
			t.Errorf("%s: got %s until %s, authority: %t", name, got.Subject, got.NotAfter, got.IsCA)
		}
	}
	if _, err := a.sign(asked, clientUsages, time.Hour, now.Add(25*time.Hour)); err == nil {
		t.Error("signed with an authority that has expired")
	}
	if _, _, err := newAuthority(t, now.Add(time.Hour), false).load(); err == nil {
		t.Error("took a certificate that is no authority's")
	}
}

func TestSharesAddress(t *testing.T) {
	asked := &x509.CertificateRequest{DNSNames: []string{"attic"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")}}
	for name, tc := range map[string]struct {
		have corev1.NodeAddress
		want bool
	}{
		"another address":          {corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.8"}, false},
		"the address of IPv4":      {corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}, true},
		"that of IPv6, at length":  {corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "2001:0db8::0007"}, true},
		"the host name":            {corev1.NodeAddress{Type: corev1.NodeHostName, Address: "attic"}, true},
		"a host name that differs": {corev1.NodeAddress{Type: corev1.NodeHostName, Address: "cellar"}, false},
	} {
		if got := sharesAddress([]corev1.NodeAddress{tc.have}, asked); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
