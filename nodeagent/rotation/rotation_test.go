package rotation

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/certificate"
)

// authority signs whatever is asked for at once, as the manager does for nodes that may.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

func (a *authority) sign(public any, subject pkix.Name, ips []net.IP, begin, end time.Time) []byte {
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, IPAddresses: ips, NotBefore: begin, NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, public, a.key)
	if err != nil {
		a.t.Error(err)
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// clientset has an API server in which requests are signed as they come.
func (a *authority) clientset(asked chan<- *x509.CertificateRequest) *fake.Clientset {
	c := fake.NewClientset()
	var count atomic.Int32
	c.PrependReactor("create", "certificatesigningrequests", func(action clienttesting.Action) (bool, runtime.Object, error) {
		request := action.(clienttesting.CreateAction).GetObject().(*certificatesv1.CertificateSigningRequest).DeepCopy()
		n := count.Add(1)
		// The fake's watches are of all objects, whatever they select: one at a time.
		if n > 1 {
			if err := c.Tracker().Delete(certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), "", "csr-"+string('a'+n-1)); err != nil {
				return true, nil, err
			}
		}
		request.Name, request.UID = "csr-"+string('a'+n), types.UID('a'+n)
		block, _ := pem.Decode(request.Spec.Request)
		parsed, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return true, nil, err
		}
		request.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}}
		request.Status.Certificate = a.sign(parsed.PublicKey, parsed.Subject, parsed.IPAddresses, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
		asked <- parsed
		return true, request, c.Tracker().Add(request)
	})
	return c
}

// firstCertificate is the one with which a node has joined: most of its life is over.
func (a *authority) firstCertificate(dir string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	store, err := certificate.NewFileStore(ClientPair, dir, dir, "", "")
	if err != nil {
		a.t.Fatal(err)
	}
	cert := a.sign(key.Public(), pkix.Name{CommonName: "keelson:node:attic"}, nil, time.Now().Add(-time.Hour), time.Now().Add(time.Minute))
	if _, err := store.Update(cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})); err != nil {
		a.t.Fatal(err)
	}
}

func TestBothCertificatesAreRenewedAndKept(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	ca.firstCertificate(dir)
	before, err := os.ReadFile(filepath.Join(dir, ClientPair+"-current.pem"))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan *x509.CertificateRequest, 10)
	var known atomic.Bool
	r, err := New(t.Context(), Options{
		Dir: dir, NodeName: "attic", Client: ca.clientset(asked),
		Addresses: func() []corev1.NodeAddress {
			if !known.Load() {
				return nil
			}
			return []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Serving() != nil {
		t.Error("there is a server's certificate before one was asked for")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("rotation ended with %v", err)
		}
	}()

	until(t, "the client certificate is another", func() bool {
		now, err := os.ReadFile(filepath.Join(dir, ClientPair+"-current.pem"))
		return err == nil && string(now) != string(before)
	})
	if r.Serving() != nil {
		t.Error("a server's certificate was asked for before the Node had addresses")
	}
	known.Store(true)
	until(t, "there is a server's certificate", func() bool { return r.Serving() != nil })
	if ips := r.Serving().Leaf.IPAddresses; len(ips) != 1 || ips[0].String() != "192.0.2.7" {
		t.Errorf("it is for %v", ips)
	}
	for range 2 {
		request := <-asked
		if got := request.Subject.CommonName + " " + strings.Join(request.Subject.Organization, ","); got != "keelson:node:attic keelson:nodes" {
			t.Errorf("somebody asked to be %s", got)
		}
	}
	again, err := New(t.Context(), Options{Dir: dir, NodeName: "attic", Client: fake.NewClientset(), Addresses: func() []corev1.NodeAddress { return nil }})
	if err != nil || again.Serving() == nil {
		t.Errorf("the next start finds no server's certificate: %v", err)
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) { return holds(), nil })
	if err != nil {
		t.Fatalf("wait until %s: %v", what, err)
	}
}

func TestWithoutACertificateThereIsNothingToRenew(t *testing.T) {
	_, err := New(t.Context(), Options{Dir: t.TempDir(), NodeName: "attic", Client: fake.NewClientset()})
	if err == nil || !strings.Contains(err.Error(), "--cert-dir") {
		t.Errorf("error %v", err)
	}
}

func TestServersAreAskedForWithTheNodesAddresses(t *testing.T) {
	request := servingRequest(pkix.Name{CommonName: "x"}, "attic", []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}, {Type: corev1.NodeInternalIP, Address: "2001:db8::7"}, {Type: corev1.NodeHostName, Address: "attic.example.com"},
	})
	var ips []string
	for _, ip := range request.IPAddresses {
		ips = append(ips, ip.String())
	}
	if diff := cmp.Diff([]string{"192.0.2.7", "2001:db8::7"}, ips); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"attic"}, request.DNSNames); diff != "" {
		t.Error(diff)
	}
	if servingRequest(pkix.Name{}, "attic", []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "attic"}}) != nil {
		t.Error("asked for a server without an address")
	}
}
