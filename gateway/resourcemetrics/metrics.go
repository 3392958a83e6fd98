package resourcemetrics

import (
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

const (
	defaultTimeout  = 5 * time.Second
	defaultParallel = 32
)

// Options are what the metrics need.
type Options struct {
	// Upstream lists Nodes and Pods in the gateway's name.
	Upstream *upstream.Client
	// Nodes finds the agents.
	Nodes *nodes.Locator
	// Codec encodes the answers.
	Codec *codec.Codec
	// Timeout bounds the wait for one agent; 0 is five seconds.
	Timeout time.Duration
	// Parallel bounds the agents that one request asks at once; 0 is 32.
	Parallel int
	// Clock is real time but in tests.
	Clock clock.PassiveClock
}

// New returns the handler of the resources of metrics.k8s.io/v1beta1. It expects the
// RequestInfo of each request in its context, and the request to be authorized.
func New(options Options) (http.Handler, error) {
	switch {
	case options.Upstream == nil:
		return nil, errors.New("resource metrics: Options.Upstream is missing: nothing says where the API server is")
	case options.Nodes == nil:
		return nil, errors.New("resource metrics: Options.Nodes is missing: nothing says where the node agents are")
	case options.Codec == nil:
		return nil, errors.New("resource metrics: Options.Codec is missing: nothing encodes the answers")
	}
	if options.Timeout == 0 {
		options.Timeout = defaultTimeout
	}
	if options.Parallel == 0 {
		options.Parallel = defaultParallel
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	return &handler{options}, nil
}

// Serves says whether a request is for this package.
func Serves(info *request.RequestInfo) bool {
	return info != nil && info.IsResourceRequest && info.APIGroup == metricsv1beta1.GroupName
}

type handler struct{ Options }

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	if !ok {
		h.Codec.WriteError(w, r, apierrors.NewInternalError(errors.New("no RequestInfo found in the context")))
		return
	}
	if err := h.serve(w, r, info); err != nil {
		h.Codec.WriteError(w, r, err)
	}
}

// serve returns an error as long as nothing of the answer is written.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) error {
	resource := schema.GroupResource{Group: info.APIGroup, Resource: info.Resource}
	if !known(info) {
		return apierrors.NewGenericServerResponse(http.StatusNotFound, info.Verb, resource, info.Name, "", 0, false)
	}
	if info.Verb != "get" && info.Verb != "list" {
		return apierrors.NewMethodNotSupported(resource, info.Verb)
	}
	format, err := h.Codec.Negotiate(r, false)
	if err != nil {
		return err
	}
	answer, err := h.answer(r, info)
	if err != nil {
		return err
	}
	if format.Convert != nil {
		if answer, err = convert(answer, *format.Convert); err != nil {
			return err
		}
	}
	if err := h.Codec.WriteObject(w, r, format, http.StatusOK, answer); err != nil {
		klog.FromContext(r.Context()).V(2).Info("Stopped writing metrics", "path", r.URL.Path, "err", err)
	}
	return nil
}

// known says whether the group has the path of a request. A Node in a namespace would be
// authorized by the rights there.
func known(info *request.RequestInfo) bool {
	if info.APIVersion != metricsv1beta1.SchemeGroupVersion.Version || info.Subresource != "" {
		return false
	}
	switch info.Resource {
	case "nodes":
		return info.Namespace == ""
	case "pods":
		return info.Namespace != "" || info.Verb == "list"
	}
	return false
}

// answer is the object or list that a request asks for.
func (h *handler) answer(r *http.Request, info *request.RequestInfo) (runtime.Object, error) {
	switch {
	case info.Resource == "nodes" && info.Verb == "get":
		return h.getNode(r.Context(), info.Name)
	case info.Resource == "nodes":
		selection, err := selectionOf(r.URL.Query())
		if err != nil {
			return nil, err
		}
		return h.listNodes(r.Context(), selection)
	case info.Verb == "get":
		return h.getPod(r.Context(), info.Namespace, info.Name)
	default:
		selection, err := selectionOf(r.URL.Query())
		if err != nil {
			return nil, err
		}
		return h.listPods(r.Context(), info.Namespace, selection)
	}
}
