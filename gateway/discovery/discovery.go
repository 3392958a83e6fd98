// Package discovery adds the group metrics.k8s.io, which the gateway serves itself, to
// the API server's discovery and OpenAPI documents. The kinds of the gateway's table
// need no addition: the API server describes the built-in kinds of the same names.
//
// The documents are the API server's, asked for in the caller's name, plus one entry;
// an entry of the API server for the same group is replaced, because the gateway answers
// for that group. The package holds no state. Clients that ask for protobuf only get the
// API server's answer without the addition, and so does the OpenAPI v2 document, which
// nobody reads about metrics.
package discovery

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// Group is a group that the gateway serves.
type Group struct {
	Group *metav1.APIGroup
	// Resources are those of its one version.
	Resources *metav1.APIResourceList
}

func (g Group) path() string { return "/apis/" + g.Group.Name }

func (g Group) versionPath() string { return "/apis/" + g.Group.PreferredVersion.GroupVersion }

// Options is what a Handler needs.
type Options struct {
	Upstream *upstream.Client
	Codec    *codec.Codec
	Added    Group
	// Next serves what the API server answers unchanged.
	Next http.Handler
}

// Handler serves the documents.
type Handler struct {
	Options

	openAPI []byte
}

// New returns a Handler.
func New(o Options) (*Handler, error) {
	document, err := json.Marshal(openAPIOf(o.Added))
	if err != nil {
		return nil, fmt.Errorf("encode the OpenAPI document of %s: %w", o.Added.Group.Name, err)
	}
	return &Handler{Options: o, openAPI: document}, nil
}

const openAPIIndex = "/openapi/v3"

// Serves says whether a path is for this package.
func (h *Handler) Serves(path string) bool { return h.route(path) != nil }

// ServeHTTP answers one request on a path that Serves names.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve := h.route(r.URL.Path)
	if serve == nil || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		h.Next.ServeHTTP(w, r)
		return
	}
	serve(w, r)
}

func (h *Handler) route(path string) http.HandlerFunc {
	switch strings.TrimSuffix(path, "/") {
	case "/apis":
		return h.serveGroups
	case h.Added.path():
		return func(w http.ResponseWriter, r *http.Request) { h.write(w, r, h.Added.Group) }
	case h.Added.versionPath():
		return func(w http.ResponseWriter, r *http.Request) { h.write(w, r, h.Added.Resources) }
	case openAPIIndex:
		return h.serveIndex
	case openAPIIndex + h.Added.versionPath():
		return func(w http.ResponseWriter, r *http.Request) {
			answer(w, r, "application/json", http.StatusOK, h.openAPI)
		}
	}
	return nil
}

// serveGroups adds the group to the list of groups, in the form that the client wants.
func (h *Handler) serveGroups(w http.ResponseWriter, r *http.Request) {
	accept := jsonOnly(r.Header.Values("Accept"))
	if accept == "" {
		h.Next.ServeHTTP(w, r)
		return
	}
	h.overlay(w, r, accept, h.addGroup)
}

func (h *Handler) serveIndex(w http.ResponseWriter, r *http.Request) {
	h.overlay(w, r, "application/json", h.addToIndex)
}

// overlay changes the API server's document. What is no document goes on unchanged.
func (h *Handler) overlay(w http.ResponseWriter, r *http.Request, accept string, change func([]byte) ([]byte, error)) {
	header := http.Header{"Accept": {accept}, "Accept-Encoding": {"identity"}, "User-Agent": r.Header["User-Agent"]}
	response, err := h.Upstream.Do(r.Context(), upstream.Request{Method: http.MethodGet, Path: r.URL.Path, Query: r.URL.Query(), Header: header})
	if err != nil {
		if r.Context().Err() == nil {
			h.Codec.WriteError(w, r, apierrors.NewServiceUnavailable("the API server behind the gateway does not answer: "+err.Error()))
		}
		return
	}
	defer response.Body.Close()
	document, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK {
		document, err = change(document)
	}
	if err != nil {
		h.Codec.WriteError(w, r, apierrors.NewInternalError(fmt.Errorf("read the API server's document %s: %w", r.URL.Path, err)))
		return
	}
	answer(w, r, response.Header.Get("Content-Type"), response.StatusCode, document)
}

// answer writes a document that a client may keep: it gets 304 while it has this one.
func answer(w http.ResponseWriter, r *http.Request, contentType string, code int, document []byte) {
	tag := `"` + hashOf(document) + `"`
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Vary", "Accept")
	if code == http.StatusOK {
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "public")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		// An error means that the client left: there is nobody to tell.
		_, _ = w.Write(document)
	}
}

func (h *Handler) write(w http.ResponseWriter, r *http.Request, document any) {
	encoded, err := json.Marshal(document)
	if err != nil {
		h.Codec.WriteError(w, r, apierrors.NewInternalError(err))
		return
	}
	answer(w, r, "application/json", http.StatusOK, encoded)
}

// jsonOnly are the JSON forms among what a client accepts, in its order; empty when it
// takes none.
func jsonOnly(accept []string) string {
	if len(accept) == 0 {
		return "application/json"
	}
	var kept []string
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		part = strings.TrimSpace(part)
		media, parameters, _ := strings.Cut(part, ";")
		switch strings.TrimSpace(media) {
		case "application/json":
			kept = append(kept, part)
		case "*/*", "application/*":
			kept = append(kept, strings.TrimSuffix("application/json;"+parameters, ";"))
		}
	}
	return strings.Join(kept, ",")
}
