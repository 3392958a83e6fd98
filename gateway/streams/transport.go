package streams

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// errNotAllowed is upstream's answer to a proxy request for an address that is not one
// of a Pod or a node: loopback, link-local (where clouds serve credentials), multicast.
var errNotAllowed = errors.New("address not allowed")

// NewProxyTransport reaches Pods and nodes by their addresses. It does not verify
// certificates, as an API server does not: nobody can issue one for the address of a
// Pod. It dials no address that is not global unicast, whatever a name resolved to.
func NewProxyTransport() http.RoundTripper {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: refuseSpecial}
	return utilnet.SetTransportDefaults(&http.Transport{
		DialContext:     dialer.DialContext,
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil },
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	})
}

// refuseSpecial sees the address that is about to be dialled.
func refuseSpecial(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	return proxyable(host)
}

// proxyable: see errNotAllowed. Private addresses are allowed: Pods have them.
func proxyable(address string) error {
	if ip := net.ParseIP(address); ip == nil || !ip.IsGlobalUnicast() {
		return errNotAllowed
	}
	return nil
}
