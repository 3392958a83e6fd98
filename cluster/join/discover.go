package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

const dialTimeout = 10 * time.Second

// discover returns the authority of the server, which has the public key that a person
// named, PEM encoded. It sends nothing but the beginning of a TLS connection and, where
// the clocks may differ, a request without credentials.
func discover(ctx context.Context, server, hash string, now time.Time) ([]byte, error) {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil, fmt.Errorf("%q is not HOST:PORT: %w", server, err)
	}
	chain, err := shownChain(ctx, server)
	if err != nil {
		return nil, err
	}
	ca, err := pinned(chain, server, hash)
	if err != nil {
		return nil, err
	}
	if err := verify(chain, ca, host, now); err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return nil, clockProblem(server, chain[0], now, serverClock(ctx, server, chain[0], ca))
		}
		return nil, fmt.Errorf("the certificate of the server at %s is not good for that address: %w; the token was not sent", server, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), nil
}

// shownChain is what the server shows to anybody. Nothing of it is trusted here.
func shownChain(ctx context.Context, server string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // only to see the chain, which the caller verifies
	}}
	conn, err := dialer.DialContext(ctx, "tcp", server)
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &notTLS):
		return nil, fmt.Errorf("what listens at %s does not speak TLS: is that the port of the API server?", server)
	case err != nil:
		return nil, fmt.Errorf("no API server can be reached at %s: %w; check address and port, that the cluster is up, and that no firewall is between", server, err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates, nil
}

// pinned is the authority in chain that has the public key of hash.
func pinned(chain []*x509.Certificate, server, hash string) (*x509.Certificate, error) {
	var shown []string
	for _, c := range chain {
		if !c.IsCA {
			continue
		}
		if HashOf(c) == hash {
			return c, nil
		}
		shown = append(shown, HashOf(c))
	}
	if len(shown) == 0 {
		return nil, fmt.Errorf("--ca-hash: the server at %s does not show its authority, so that it cannot be compared: is that the API server of 'keelson up'? The token was not sent", server)
	}
	return nil, fmt.Errorf("--ca-hash: the server at %s belongs to an authority with the hash %s, not %s: this is another cluster, or somebody stands between; the token was not sent",
		server, strings.Join(shown, ", "), hash)
}

func verify(chain []*x509.Certificate, ca *x509.Certificate, host string, now time.Time) error {
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: poolOf(ca), Intermediates: poolOf(slices.Clone(chain[1:])...), DNSName: host, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func poolOf(certificates ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool
}

// serverClock asks the server for the time, as of when its certificate was good. Zero
// means that it does not say.
func serverClock(ctx context.Context, server string, leaf, ca *x509.Certificate) time.Time {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: poolOf(ca), Time: func() time.Time { return leaf.NotBefore.Add(time.Second) },
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+server+"/version", nil)
	if err != nil {
		return time.Time{}
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return time.Time{}
	}
	defer resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

func clockProblem(server string, leaf *x509.Certificate, now, theirs time.Time) error {
	clock := "does not tell its own"
	if !theirs.IsZero() {
		clock = "says " + theirs.UTC().Format(time.RFC3339)
	}
	state := "has expired"
	if now.Before(leaf.NotBefore) {
		state = "is not valid yet"
	}
	return fmt.Errorf("the certificate of the server at %s, good from %s to %s, %s: this machine's clock says %s and the server %s; set the clock that is wrong. The token was not sent",
		server, leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), state, now.UTC().Format(time.RFC3339), clock)
}
