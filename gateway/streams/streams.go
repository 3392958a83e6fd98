package streams

import (
	"errors"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/upstream"
	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// Options are what the streams need.
type Options struct {
	// Upstream reads Pods, Services and Endpoints in the gateway's name.
	Upstream *upstream.Client
	// Nodes finds the agents.
	Nodes *nodes.Locator
	// ProxyTransport reaches Pods and nodes for the proxy subresources; NewProxyTransport
	// when nil.
	ProxyTransport http.RoundTripper
	// Admit asks webhooks and policies about a connection and returns the options that
	// they changed, nil when they left them alone. Nobody is asked when it is nil.
	Admit func(w http.ResponseWriter, r *http.Request, asked *admissionhooks.Request) (changed map[string]any, err error)
	// WriteError answers with an error of the API.
	WriteError func(w http.ResponseWriter, r *http.Request, err error)
}

// New returns the handler of the subresources that Serves names. It expects the
// RequestInfo of each request in its context, and the request to be authorized.
func New(options Options) (http.Handler, error) {
	switch {
	case options.Upstream == nil:
		return nil, errors.New("streams: Options.Upstream is missing: nothing says where the API server is")
	case options.Nodes == nil:
		return nil, errors.New("streams: Options.Nodes is missing: nothing says where the node agents are")
	case options.WriteError == nil:
		return nil, errors.New("streams: Options.WriteError is missing: give it codec.WriteError")
	}
	if options.ProxyTransport == nil {
		options.ProxyTransport = NewProxyTransport()
	}
	return &handler{Options: options}, nil
}

// Serves says whether a request is for this package.
func Serves(info *request.RequestInfo) bool {
	return info != nil && info.IsResourceRequest && kindOf(info) != nil
}

// VerbsFor are the verbs that a request must be authorized for, all of them: the
// request's own, and "create" for exec, attach and port-forward by GET. A WebSocket can
// only begin with a GET, and who may but read Pods shall not run commands in them
// (upstream's AuthorizePodWebsocketUpgradeCreatePermission).
func VerbsFor(info *request.RequestInfo) []string {
	verbs := []string{info.Verb}
	if info.APIGroup != corev1.GroupName || info.Resource != "pods" || info.Verb == "create" {
		return verbs
	}
	switch info.Subresource {
	case "exec", "attach", "portforward":
		verbs = append(verbs, "create")
	}
	return verbs
}

// kind is one way to serve a request.
type kind struct {
	methods []string
	serve   func(h *handler, w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error
}

type handler struct{ Options }

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	if !ok {
		h.WriteError(w, r, apierrors.NewInternalError(errors.New("no RequestInfo found in the context")))
		return
	}
	if err := h.serve(w, r, info); err != nil {
		h.Error(w, r, err)
	}
}

// Error answers with err. An error that is no Status yet, such as that of a connection
// to a node, is one in its own words, as an API server does it.
func (h *handler) Error(w http.ResponseWriter, r *http.Request, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		err = &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error(),
		}}
	}
	h.WriteError(w, r, err)
}

// serve returns an error as long as nothing of the answer is written.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	kind := kindOf(info)
	if kind == nil {
		return apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "", 0, false)
	}
	if !allowed(kind.methods, r.Method) {
		return apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "", schema.GroupResource{}, "", "", 0, false)
	}
	if httpstream.IsUpgradeRequest(r) {
		var done func()
		w, r, done = watchClient(w, r)
		defer done()
	}
	return kind.serve(h, w, withoutCredentials(r), info)
}
