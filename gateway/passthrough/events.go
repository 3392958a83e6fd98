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

// eventRow is a kind of Event as the codec wants to know it; it is stored under its
// own name.
func eventRow(resource schema.GroupVersionResource) (table.Row, bool) {
	row := table.Row{Upstream: resource, Stored: resource, Kind: "Event", Namespaced: true}
	switch resource {
	case corev1.SchemeGroupVersion.WithResource("events"):
		row.New, row.NewList = func() runtime.Object { return &corev1.Event{} }, func() runtime.Object { return &corev1.EventList{} }
	case eventsv1.SchemeGroupVersion.WithResource("events"):
		row.New, row.NewList = func() runtime.Object { return &eventsv1.Event{} }, func() runtime.Object { return &eventsv1.EventList{} }
	default:
		return row, false
	}
	return row, true
}

func rowOf(info *request.RequestInfo) (table.Row, bool) {
	return eventRow(schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource})
}

func isEvents(info *request.RequestInfo) bool {
	if !info.IsResourceRequest || info.Subresource != "" {
		return false
	}
	_, ok := rowOf(info)
	return ok
}

// serveEvents relays a request on Events in the caller's name and translates what the
// Events are about, both ways.
func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) {
	row, _ := rowOf(info)
	watch := info.Verb == "watch"
	format, err := h.codec.Negotiate(r, watch)
	if err != nil {
		h.codec.WriteError(w, r, err)
		return
	}
	answer, err := h.askEvents(r, info, row, format)
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

func (h *Handler) askEvents(r *http.Request, info *request.RequestInfo, row table.Row, format codec.Format) (*http.Response, error) {
	query, err := h.eventQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	contentType, body, err := h.eventBody(r, info, row)
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

// eventQuery selects by what is stored.
func (h *Handler) eventQuery(query url.Values) (url.Values, error) {
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

// eventBody is the body to send: an Event or a patch of one with stored names, or the
// options of a deletion as they are.
func (h *Handler) eventBody(r *http.Request, info *request.RequestInfo, row table.Row) (string, []byte, error) {
	body, err := codec.ReadBody(r)
	if err != nil || len(body) == 0 {
		return "", nil, err
	}
	media := mediaType(r)
	switch info.Verb {
	case "create", "update":
		tree, _, err := h.codec.DecodeObject(r.Header.Get("Content-Type"), body, row.UpstreamKind())
		if err != nil {
			return "", nil, err
		}
		h.translator.ReferencesToStored(tree)
		return runtime.ContentTypeJSON, encode(tree), nil
	case "patch":
		return media, h.eventPatch(media, body), nil
	}
	return r.Header.Get("Content-Type"), body, nil
}

// eventPatch translates a patch that carries what it changes whole. A patch does not
// name the Event's kind, and the references do not need it.
func (h *Handler) eventPatch(media string, body []byte) []byte {
	if media == string(types.JSONPatchType) {
		return body
	}
	var tree map[string]any
	if err := unmarshal(media, body, &tree); err != nil || !h.translator.ReferencesToStored(tree) {
		return body
	}
	return encode(tree)
}
