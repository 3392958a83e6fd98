package nodes

import (
	"net"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/util/proxy"
)

// Agent is one node's agent, as its Node said when it was last read.
type Agent struct {
	// Node is the name of the Node.
	Node string
	// Host and Port are where the agent serves.
	Host, Port string
	// Features are the Node's declared features.
	Features []string

	locator *Locator
}

// URL is where the agent serves path.
func (a *Agent) URL(path string, query url.Values) *url.URL {
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(a.Host, a.Port), Path: path, RawQuery: query.Encode()}
}

// Transport sends requests in the gateway's name and verifies the agent's certificate.
func (a *Agent) Transport() http.RoundTripper { return a.locator.verified.full }

// UnverifiedTransport is Transport without the verification: for callers who asked for
// insecureSkipTLSVerifyBackend.
func (a *Agent) UnverifiedTransport() http.RoundTripper { return a.locator.unverified.full }

// UpgradeTransport opens connections for upgrades, in the gateway's name; for
// proxy.UpgradeAwareHandler.
func (a *Agent) UpgradeTransport() proxy.UpgradeRequestRoundTripper {
	return a.locator.verified.upgrade
}

// Dialable returns location and a transport out of which libraries that know how to
// unwrap one (k8s.io/streaming, util/proxy.DialURL) can dial a connection that carries
// the gateway's credentials, even where these are a header that such a library would
// not send.
func (a *Agent) Dialable(location *url.URL) (*url.URL, http.RoundTripper) {
	return a.locator.verified.dialable(location)
}
