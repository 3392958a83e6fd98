package tokens

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// Handler answers TokenReviews and TokenRequests. It expects the RequestInfo of each request
// in its context; the API server authorizes them.
type Handler struct {
	Verifier *Verifier
	Upstream *upstream.Client
	Codec    *codec.Codec
	// Next relays what is not about bound tokens.
	Next http.Handler
}

// Serves says whether a request is for this package.
func Serves(info *request.RequestInfo) bool { return isReview(info) || isRequest(info) }

func isReview(info *request.RequestInfo) bool {
	return info.IsResourceRequest && info.Verb == "create" && info.Subresource == "" && info.APIGroup == authenticationv1.GroupName &&
		info.APIVersion == authenticationv1.SchemeGroupVersion.Version && info.Resource == "tokenreviews" && info.Namespace == ""
}

func isRequest(info *request.RequestInfo) bool {
	return info.IsResourceRequest && info.Verb == "create" && info.Subresource == "token" && info.APIGroup == corev1.GroupName &&
		info.APIVersion == corev1.SchemeGroupVersion.Version && info.Resource == "serviceaccounts" && info.Namespace != ""
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	if !ok {
		h.Codec.WriteError(w, r, apierrors.NewInternalError(errors.New("no RequestInfo found in the context")))
		return
	}
	body, err := codec.ReadBody(r)
	if err != nil {
		h.Codec.WriteError(w, r, err)
		return
	}
	if isReview(info) {
		err = h.serveReview(w, r, body)
	} else {
		err = h.serveRequest(w, r, info, body)
	}
	if err != nil {
		h.Codec.WriteError(w, r, err)
	}
}

// relay passes a request on as it came.
func (h *Handler) relay(w http.ResponseWriter, r *http.Request, body []byte) error {
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.Next.ServeHTTP(w, r)
	return nil
}

// negotiate says how to answer; false when the API server is to refuse, or to convert.
func (h *Handler) negotiate(r *http.Request) (codec.Format, bool) {
	format, err := h.Codec.Negotiate(r, false)
	return format, err == nil && format.Convert == nil
}

// kinds of what is asked and answered here.
var (
	reviewKind  = authenticationv1.SchemeGroupVersion.WithKind("TokenReview")
	requestKind = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
)

// decode reads the body as the API server would. What it cannot read, the API server is to
// refuse.
func (h *Handler) decode(r *http.Request, body []byte, kind schema.GroupVersionKind, into runtime.Object) bool {
	return h.Codec.DecodeInto(r.Header.Get("Content-Type"), body, kind, into) == nil
}

// ask sends object to the API server in the caller's name and reads the answer into it. An
// answer that tells of a failure is the client's, and returned with false.
func (h *Handler) ask(w http.ResponseWriter, r *http.Request, format codec.Format, object runtime.Object) (bool, error) {
	encoded, err := json.Marshal(object)
	if err != nil {
		return false, fmt.Errorf("encode a request about a token: %w", err)
	}
	answer, err := h.Upstream.Do(r.Context(), upstream.Request{
		Method: http.MethodPost, Path: r.URL.EscapedPath(), Query: r.URL.Query(), Body: bytes.NewReader(encoded),
		Header: http.Header{"Accept": {runtime.ContentTypeJSON}, "Content-Type": {runtime.ContentTypeJSON}, "User-Agent": r.Header["User-Agent"], "Accept-Encoding": {"identity"}},
	})
	if err != nil {
		return false, apierrors.NewServiceUnavailable("the API server behind the gateway does not answer: " + err.Error())
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusMultipleChoices {
		if err := h.Codec.WriteAnswer(w, r, format, table.Row{}, answer); err != nil {
			klog.FromContext(r.Context()).V(2).Info("Could not finish an answer", "err", err, "path", r.URL.Path)
		}
		return false, nil
	}
	for _, warning := range answer.Header.Values("Warning") {
		w.Header().Add("Warning", warning)
	}
	if err := json.NewDecoder(answer.Body).Decode(object); err != nil {
		return false, apierrors.NewInternalError(fmt.Errorf("decode the API server's answer about a token: %w", err))
	}
	return true, nil
}

// write answers with an object that was made.
func (h *Handler) write(w http.ResponseWriter, r *http.Request, format codec.Format, object runtime.Object) {
	if err := h.Codec.WriteObject(w, r, format, http.StatusCreated, object); err != nil {
		klog.FromContext(r.Context()).V(2).Info("Could not finish an answer", "err", err, "path", r.URL.Path)
	}
}
