package resources

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
	"github.com/keelson-dev/keelson/gateway/upstream"
	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// Options is what a Handler needs.
type Options struct {
	Table      *table.Table
	Upstream   *upstream.Client
	Translator *translate.Translator
	Codec      *codec.Codec
	Clock      clock.WithTicker
	// Admit asks webhooks and policies about what the API server does not see as such: an
	// eviction, a binding. It returns the object that they changed, nil when they left it
	// alone. Nobody is asked when it is nil.
	Admit func(w http.ResponseWriter, r *http.Request, asked *admissionhooks.Request) (changed map[string]any, err error)
}

// Handler serves requests on rows. It expects the RequestInfo in the context.
type Handler struct {
	table      *table.Table
	client     *upstream.Client
	translator *translate.Translator
	codec      *codec.Codec
	clock      clock.WithTicker
	admit      func(w http.ResponseWriter, r *http.Request, asked *admissionhooks.Request) (map[string]any, error)
}

// New returns a Handler.
func New(o Options) *Handler {
	return &Handler{table: o.Table, client: o.Upstream, translator: o.Translator, codec: o.Codec, clock: o.Clock, admit: o.Admit}
}

// ServeHTTP answers one request on a row.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, _ := request.RequestInfoFrom(r.Context())
	row, ok := h.table.ForRequest(info)
	if !ok {
		h.codec.WriteError(w, r, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, "", "", 0, true))
		return
	}
	if row.Older(info) {
		h.serveOlder(w, r, info, row) //nolint:contextcheck // the request has the context
		return
	}
	c := h.newCall(w, r, info, row)
	serve := c.route()
	if serve == nil {
		h.codec.WriteError(w, r, c.unserved())
		return
	}
	if err := serve(); err != nil {
		c.fail(err)
	}
}

func (h *Handler) newCall(w http.ResponseWriter, r *http.Request, info *request.RequestInfo, row table.Row) *call {
	return &call{Handler: h, w: w, r: r, ctx: upstream.Authorized(r.Context()), info: info, target: targetOf(row, info)}
}

// route returns what serves the request, nil when nothing does.
func (c *call) route() func() error {
	verb := c.info.Verb
	if c.info.Resource == "bindings" {
		return pick(verb, verbs{"create": c.bindLegacy})
	}
	pod := c.row.Kind == "Pod" && c.row.Upstream.Group == ""
	switch sub := c.subresource; {
	case sub == "":
		return pick(verb, verbs{
			"get": c.get, "list": c.list, "watch": c.watch, "create": c.create, "update": c.update,
			"patch": c.patch, "delete": c.delete, "deletecollection": c.deleteCollection,
		})
	case sub == "status" && c.row.Status, (sub == "ephemeralcontainers" || sub == "resize") && pod:
		return pick(verb, verbs{"get": c.get, "update": c.update, "patch": c.patch})
	case sub == "scale" && c.row.Scale:
		return pick(verb, verbs{"get": c.getScale, "update": c.updateScale, "patch": c.patchScale})
	case sub == "binding" && pod:
		return pick(verb, verbs{"create": c.bind})
	case sub == "eviction" && pod:
		return pick(verb, verbs{"create": c.evict})
	}
	return nil
}

type verbs map[string]func() error

func pick(verb string, from verbs) func() error { return from[verb] }

// unserved is the answer to a path or a method that upstream does not have either; its
// router names no resource in it.
func (c *call) unserved() error {
	code := http.StatusNotFound
	switch c.subresource {
	case "", "status", "scale", "binding", "eviction", "resize", "ephemeralcontainers":
		code = http.StatusMethodNotAllowed
	}
	return apierrors.NewGenericServerResponse(code, c.r.Method, schema.GroupResource{}, "", "", 0, true)
}

// fail answers with err, which upstream's words may be in already.
func (c *call) fail(err error) {
	switch ended := c.r.Context().Err(); {
	case errors.Is(ended, context.DeadlineExceeded):
		err = apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	case ended != nil:
		return // the client left; nobody reads an answer
	}
	if status := apierrors.APIStatus(nil); !errors.As(err, &status) {
		klog.FromContext(c.ctx).Error(err, "Could not serve a request", "verb", c.info.Verb, "resource", c.row.Upstream.Resource, "object", klog.KRef(c.namespace, c.name))
	}
	c.codec.WriteError(c.w, c.r, err)
}
