// Package passthrough relays to the API server what the gateway does not serve itself:
// requests and answers unread and untouched, watches and upgraded streams included.
//
// Two things are looked at, because they name kinds of the gateway's table from outside
// it. Written objects that have owners get the owners' stored names, or the garbage
// collector would look for a built-in owner that does not exist. And Events, which are
// about objects of any kind, are translated both ways.
//
// The package never forwards a client's credentials: who the request is from is the
// affair of the transport, which knows it from the context. It holds no state.
package passthrough

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// Options is what a Handler needs.
type Options struct {
	Table      *table.Table
	Upstream   *upstream.Client
	Translator *translate.Translator
	Codec      *codec.Codec
}

// Handler is the relay.
type Handler struct {
	proxy      *httputil.ReverseProxy
	client     *upstream.Client
	translator *translate.Translator
	codec      *codec.Codec
	// kinds are the kinds of the table, by name.
	kinds [][]byte
}

// New returns a relay.
func New(o Options) *Handler {
	h := &Handler{client: o.Upstream, translator: o.Translator, codec: o.Codec}
	for _, row := range o.Table.Rows() {
		h.kinds = append(h.kinds, []byte(row.Kind))
	}
	h.proxy = &httputil.ReverseProxy{
		Rewrite:       h.rewrite,
		Transport:     o.Upstream.Transport(),
		FlushInterval: -1, // watches and logs are read as they come
		ErrorHandler:  h.failed,
	}
	return h
}

// ServeHTTP relays one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	switch {
	case ok && isReferrer(info):
		h.serveReferrer(w, r, info)
		return
	case ok && writes(info):
		relayed, err := h.withStoredOwners(r)
		if err != nil {
			h.codec.WriteError(w, r, err)
			return
		}
		r = relayed
	}
	h.proxy.ServeHTTP(w, r)
}

func (h *Handler) rewrite(r *httputil.ProxyRequest) {
	target := h.client.URL(r.In.URL.EscapedPath(), nil)
	target.RawQuery = r.In.URL.RawQuery
	r.Out.URL, r.Out.Host = target, ""
	removeCredentials(r.Out.Header)
}

// removeCredentials takes out of header whatever says who the client is: the transport
// to the API server says it anew.
func removeCredentials(header http.Header) {
	for name := range header {
		canonical := http.CanonicalHeaderKey(name)
		if canonical == "Authorization" || strings.HasPrefix(canonical, "Impersonate-") || strings.HasPrefix(canonical, "X-Remote-") {
			delete(header, name)
		}
	}
}

// failed answers for an API server that did not.
func (h *Handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		return // the client left
	}
	klog.FromContext(r.Context()).Error(err, "Could not relay a request to the API server", "method", r.Method, "path", r.URL.Path)
	h.codec.WriteError(w, r, apierrors.NewServiceUnavailable("the API server behind the gateway does not answer"))
}
