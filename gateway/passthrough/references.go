package passthrough

import (
	"bytes"
	"io"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// referrer is for Events, the kinds outside the table whose very content is a reference:
// what they are about. All others may bear a stored name in their owners only, where
// clients know it by its UID.
func referrer(resource schema.GroupVersionResource) (table.Row, bool) {
	row := table.Row{Upstream: resource, Stored: resource, Namespaced: true}
	switch resource {
	case corev1.SchemeGroupVersion.WithResource("events"):
		row.Kind, row.New, row.NewList = "Event", newObject[corev1.Event], newObject[corev1.EventList]
	case eventsv1.SchemeGroupVersion.WithResource("events"):
		row.Kind, row.New, row.NewList = "Event", newObject[eventsv1.Event], newObject[eventsv1.EventList]
	default:
		return row, false
	}
	return row, true
}

func newObject[T any, P interface {
	*T
	runtime.Object
}]() runtime.Object {
	return P(new(T))
}

func rowOf(info *request.RequestInfo) (table.Row, bool) {
	return referrer(schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource})
}

func isReferrer(info *request.RequestInfo) bool {
	if !info.IsResourceRequest || info.Subresource != "" && info.Subresource != "status" {
		return false
	}
	_, ok := rowOf(info)
	return ok
}

// serveReferrer relays a request on such a kind in the caller's name and translates the
// references, both ways.
func (h *Handler) serveReferrer(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) {
	row, _ := rowOf(info)
	watch := info.Verb == "watch"
	format, err := h.codec.Negotiate(r, watch)
	if err != nil {
		h.codec.WriteError(w, r, err)
		return
	}
	answer, err := h.askReferrer(r, info, row, format)
	if err != nil {
		h.codec.WriteError(w, r, err)
		return
	}
	defer answer.Body.Close()
	if watch && answer.StatusCode == http.StatusOK {
		err = h.codec.WriteWatch(w, r, format, row, answer) //nolint:contextcheck // the request carries it
	} else {
		format.Watch = false
		err = h.codec.WriteAnswer(w, r, format, row, answer)
	}
	if err != nil && r.Context().Err() == nil {
		klog.FromContext(r.Context()).V(2).Info("Could not finish an answer", "err", err, "resource", row.Upstream.String())
	}
}

func (h *Handler) askReferrer(r *http.Request, info *request.RequestInfo, row table.Row, format codec.Format) (*http.Response, error) {
	query, err := h.referrerQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	contentType, body, err := h.referrerBody(r, info, row)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Accept": {format.UpstreamAccept()}, "User-Agent": r.Header["User-Agent"], "Accept-Encoding": {"identity"}}
	var reader io.Reader
	if len(body) > 0 {
		header.Set("Content-Type", contentType)
		reader = bytes.NewReader(body)
	}
	answer, err := h.client.Do(r.Context(), upstream.Request{Method: r.Method, Path: r.URL.EscapedPath(), Query: query, Header: header, Body: reader})
	if err != nil && r.Context().Err() == nil {
		return nil, apierrors.NewServiceUnavailable("the API server behind the gateway does not answer: " + err.Error())
	}
	return answer, err
}

// referrerQuery selects by what is stored.
func (h *Handler) referrerQuery(query url.Values) (url.Values, error) {
	selector := query.Get("fieldSelector")
	if selector == "" {
		return query, nil
	}
	stored, err := h.translator.EventSelectorToStored(selector)
	if err != nil {
		return nil, err
	}
	query.Set("fieldSelector", stored)
	return query, nil
}

// referrerBody is the body to send: an object or a patch of one with stored names, or the
// options of a deletion as they are.
func (h *Handler) referrerBody(r *http.Request, info *request.RequestInfo, row table.Row) (string, []byte, error) {
	body, err := codec.ReadBody(r)
	if err != nil || len(body) == 0 {
		return "", nil, err
	}
	media := codec.MediaType(r)
	switch info.Verb {
	case "create", "update":
		tree, _, err := h.codec.DecodeObject(r.Header.Get("Content-Type"), body, row.UpstreamKind())
		if err != nil {
			return "", nil, err
		}
		h.translator.ReferencesToStored(tree)
		return runtime.ContentTypeJSON, encode(tree), nil
	case "patch":
		return media, h.referrerPatch(media, body, row), nil
	}
	return r.Header.Get("Content-Type"), body, nil
}

// referrerPatch translates a patch that carries what it changes whole. A patch need not
// name its object's kind, by which the references are found.
func (h *Handler) referrerPatch(media string, body []byte, row table.Row) []byte {
	if media == string(types.JSONPatchType) {
		return body
	}
	var tree map[string]any
	if err := unmarshal(media, body, &tree); err != nil || tree == nil {
		return body
	}
	_, named := tree["kind"]
	if !named {
		tree["kind"] = row.Kind
	}
	if !h.translator.ReferencesToStored(tree) {
		return body
	}
	if !named {
		delete(tree, "kind")
	}
	return encode(tree)
}
