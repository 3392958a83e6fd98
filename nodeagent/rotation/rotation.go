// Package rotation keeps a node's two certificates fresh: that by which the agent shows
// who it is, and that of its server. Both are asked for through
// CertificateSigningRequests of the signers of ADR 0025, well before the old ones end.
//
// It signs nothing, approves nothing, and never asks for an identity other than the
// node's own. Keys are made here and leave the machine in no form. Recovery after a crash:
// certificate and key are one file, and which file counts is a symbolic link that is
// replaced atomically; what was asked for and not fetched is asked for again.
package rotation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	// ClientPair and ServingPair are what the files of the two certificates begin with; the
	// current one is NAME-current.pem, with its key.
	ClientPair  = "keelson-client"
	ServingPair = "keelson-serving"

	clientSigner  = "keelson.dev/node-client"
	servingSigner = "keelson.dev/node-serving"
)

// Options say whose certificates they are, and where.
type Options struct {
	// Dir holds both.
	Dir, NodeName string
	// Client acts as the node.
	Client kubernetes.Interface
	// Addresses are those of the Node's status; none means that they are not there yet.
	Addresses func() []corev1.NodeAddress
}

// Rotation is at work while Run is.
type Rotation struct {
	client, serving certificate.Manager
}

// New reads the certificates there are. Without a client certificate nobody would answer
// its requests: that is an error.
func New(ctx context.Context, o Options) (*Rotation, error) {
	store, err := newStore(ctx, ClientPair, o.Dir)
	if err != nil {
		return nil, err
	}
	if _, err := store.Current(); err != nil {
		return nil, fmt.Errorf("--rotate-certificates: read the node's certificate in --cert-dir %s: %w", o.Dir, err)
	}
	r := &Rotation{}
	name := pkix.Name{CommonName: keelsonv1.NodeUserPrefix + o.NodeName, Organization: []string{keelsonv1.NodesGroup}}
	if r.client, err = newManager(ctx, o, store, clientSigner, certificatesv1.UsageClientAuth, func() *x509.CertificateRequest {
		return &x509.CertificateRequest{Subject: name}
	}); err != nil {
		return nil, err
	}
	if store, err = newStore(ctx, ServingPair, o.Dir); err != nil {
		return nil, err
	}
	r.serving, err = newManager(ctx, o, store, servingSigner, certificatesv1.UsageServerAuth, func() *x509.CertificateRequest {
		return servingRequest(name, o.NodeName, o.Addresses())
	})
	return r, err
}

func newStore(ctx context.Context, pair, dir string) (certificate.FileStore, error) {
	store, err := certificate.NewFileStoreWithLogger(klog.FromContext(ctx), pair, dir, dir, "", "")
	if err != nil {
		return nil, fmt.Errorf("--cert-dir: open the certificates %s in %s: %w", pair, dir, err)
	}
	return store, nil
}

func newManager(ctx context.Context, o Options, store certificate.Store, signer string, purpose certificatesv1.KeyUsage, request func() *x509.CertificateRequest) (certificate.Manager, error) {
	m, err := certificate.NewManager(&certificate.Config{
		ClientsetFn: func(*tls.Certificate) (kubernetes.Interface, error) { return o.Client, nil },
		GetTemplate: request, SignerName: signer, CertificateStore: store, Ctx: &ctx,
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, purpose},
	})
	if err != nil {
		return nil, fmt.Errorf("look after certificates of %s: %w", signer, err)
	}
	return m, nil
}

// servingRequest asks for the Node's name and addresses, and no host name of another kind:
// nobody could tell whose it is. nil while it has no address.
func servingRequest(subject pkix.Name, node string, addresses []corev1.NodeAddress) *x509.CertificateRequest {
	request := &x509.CertificateRequest{Subject: subject, DNSNames: []string{node}}
	for _, a := range addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if ip := net.ParseIP(a.Address); ip != nil {
			request.IPAddresses = append(request.IPAddresses, ip)
		}
	}
	if len(request.IPAddresses) == 0 {
		return nil
	}
	return request
}

// Run renews until ctx ends.
func (r *Rotation) Run(ctx context.Context) error {
	r.client.Start()
	r.serving.Start()
	<-ctx.Done()
	r.client.Stop()
	r.serving.Stop()
	return nil
}

// Serving is the server's certificate, nil while there is none.
func (r *Rotation) Serving() *tls.Certificate { return r.serving.Current() }
