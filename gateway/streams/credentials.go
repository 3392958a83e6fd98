package streams

import (
	"net/http"
	"slices"
	"strings"
)

// bearerProtocol begins the WebSocket subprotocol in which browsers send their token.
const bearerProtocol = "base64url.bearer.authorization.k8s.io."

// withoutCredentials returns r without what proved or changed the caller's identity:
// nobody behind the gateway is to see it, or to act on it.
func withoutCredentials(r *http.Request) *http.Request {
	clean := r.WithContext(r.Context())
	clean.Header = r.Header.Clone()
	for name := range clean.Header {
		if name == "Authorization" || strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Remote-") {
			delete(clean.Header, name)
		}
	}
	const protocols = "Sec-Websocket-Protocol"
	values := clean.Header.Values(protocols)
	if !slices.ContainsFunc(values, func(value string) bool { return strings.Contains(value, bearerProtocol) }) {
		return clean
	}
	var kept []string
	for _, value := range values {
		for protocol := range strings.SplitSeq(value, ",") {
			if protocol = strings.TrimSpace(protocol); !strings.HasPrefix(protocol, bearerProtocol) {
				kept = append(kept, protocol)
			}
		}
	}
	clean.Header.Del(protocols)
	if len(kept) > 0 {
		clean.Header.Set(protocols, strings.Join(kept, ", "))
	}
	return clean
}
