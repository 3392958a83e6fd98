package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/utils/clock"
)

// recheckInterval is how long a file that changes may go unnoticed.
const recheckInterval = 10 * time.Second

// CertificateOptions say where certificates are.
type CertificateOptions struct {
	// CertFile and KeyFile hold the server's; without them one that it signs itself is
	// kept in Dir, for NodeName and Addresses.
	CertFile, KeyFile string
	Dir, NodeName     string
	// Renewed is a certificate that somebody else keeps fresh; while it returns nil, which
	// it may, and where it is nil, the others count.
	Renewed   func() *tls.Certificate
	Addresses []netip.Addr
	// ClientCAFile holds the authorities whose client certificates count; without it
	// none do.
	ClientCAFile string
	Clock        clock.Clock
	Log          logr.Logger
}

// Certificates are the server's certificate and its clients' authorities. Files are read
// again when they have changed; while the new content is no good, the old one counts.
type Certificates struct {
	serving *reloaded[*tls.Certificate]
	clients *reloaded[*x509.CertPool]
	renewed func() *tls.Certificate
}

// NewCertificates reads, and where needed makes, what o says.
func NewCertificates(o CertificateOptions) (*Certificates, error) {
	c := &Certificates{renewed: o.Renewed}
	var err error
	if o.CertFile != "" {
		c.serving, err = newReloaded(o, []string{o.CertFile, o.KeyFile}, func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &pair, err
		}, nil)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert-file, --tls-private-key-file: %w", err)
		}
	} else {
		path := filepath.Join(o.Dir, selfSignedFile)
		load := func() (*tls.Certificate, error) { return ensureSelfSigned(path, o) }
		stale := func(c *tls.Certificate) bool { return o.Clock.Now().After(c.Leaf.NotAfter.Add(-renewBefore)) }
		if c.serving, err = newReloaded(o, nil, load, stale); err != nil {
			return nil, err
		}
	}
	if o.ClientCAFile != "" {
		load := func() (*x509.CertPool, error) { return certutil.NewPool(o.ClientCAFile) }
		if c.clients, err = newReloaded(o, []string{o.ClientCAFile}, load, nil); err != nil {
			return nil, fmt.Errorf("--client-ca-file: %w", err)
		}
	}
	return c, nil
}

// Config returns the settings of a TLS server. Client certificates are asked for, and
// verified with each request, so that a new authority counts at once.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

// current is the certificate that clients are shown.
func (c *Certificates) current() *tls.Certificate {
	if c.renewed != nil {
		if renewed := c.renewed(); renewed != nil {
			return renewed
		}
	}
	return c.serving.get()
}

// clientRoots returns the clients' authorities, nil when there are none.
func (c *Certificates) clientRoots() *x509.CertPool {
	if c.clients == nil {
		return nil
	}
	return c.clients.get()
}

// reloaded is a value that is read from files again when they change.
type reloaded[T any] struct {
	files []string
	load  func() (T, error)
	// stale says that the value must be loaded again although no file changed.
	stale func(T) bool
	clock clock.Clock
	log   logr.Logger

	mu      sync.Mutex
	value   T
	stamps  []stamp
	checked time.Time
}

// stamp tells one content of a file from another.
type stamp struct {
	size     int64
	modified time.Time
}

func newReloaded[T any](o CertificateOptions, files []string, load func() (T, error), stale func(T) bool) (*reloaded[T], error) {
	r := &reloaded[T]{files: files, load: load, stale: stale, clock: o.Clock, log: o.Log}
	stamps := r.stat() // before the content: a change in between is seen later
	value, err := load()
	if err != nil {
		return nil, err
	}
	r.value, r.stamps, r.checked = value, stamps, r.clock.Now()
	return r, nil
}

func (r *reloaded[T]) get() T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clock.Since(r.checked) < recheckInterval {
		return r.value
	}
	r.checked = r.clock.Now()
	stamps := r.stat()
	if slices.Equal(stamps, r.stamps) && (r.stale == nil || !r.stale(r.value)) {
		return r.value
	}
	value, err := r.load()
	if err != nil {
		r.log.Error(err, "Cannot read a changed certificate, will keep the old one and try again", "files", r.files)
		return r.value
	}
	r.value, r.stamps = value, stamps
	r.log.Info("Changed certificates", "files", r.files)
	return value
}

func (r *reloaded[T]) stat() []stamp {
	stamps := make([]stamp, len(r.files))
	for i, file := range r.files {
		if info, err := os.Stat(file); err == nil {
			stamps[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return stamps
}
