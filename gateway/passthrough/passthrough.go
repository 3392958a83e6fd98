// Package passthrough relays to the API server what the gateway does not serve itself:
// requests and answers unread and untouched, watches and upgraded streams included.
//
// It never forwards a client's credentials: who the request is from is the affair of the
// transport, which knows it from the context. It holds no state.
package passthrough

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"strings"

	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/gateway/upstream"
)

// Handler is the relay.
type Handler struct {
	proxy *httputil.ReverseProxy
}

// New returns a relay to the API server behind client.
func New(client *upstream.Client) *Handler {
	return &Handler{proxy: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { rewrite(client, r) },
		Transport:     client.Transport(),
		FlushInterval: -1, // watches and logs are read as they come
		ErrorHandler:  failed,
	}}
}

// ServeHTTP relays one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.proxy.ServeHTTP(w, r)
}

func rewrite(client *upstream.Client, r *httputil.ProxyRequest) {
	target := client.URL(r.In.URL.EscapedPath(), nil)
	target.RawQuery = r.In.URL.RawQuery
	r.Out.URL, r.Out.Host = target, ""
	RemoveCredentials(r.Out.Header)
}

// RemoveCredentials takes out of header whatever says who the client is: the transport
// to the API server says it anew.
func RemoveCredentials(header http.Header) {
	for name := range header {
		canonical := http.CanonicalHeaderKey(name)
		if canonical == "Authorization" || strings.HasPrefix(canonical, "Impersonate-") || strings.HasPrefix(canonical, "X-Remote-") {
			delete(header, name)
		}
	}
}

func failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		return // the client left
	}
	klog.FromContext(r.Context()).Error(err, "Could not relay a request to the API server", "method", r.Method, "path", r.URL.Path)
	http.Error(w, "the API server behind the gateway does not answer", http.StatusServiceUnavailable)
}
