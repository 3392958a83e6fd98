package filters

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// MaxBody is the longest body of a request in bytes, that of the API server.
const MaxBody = 3 << 20

// auditIDHeader carries the request's id in both directions, as upstream's does.
const auditIDHeader = "Audit-Id"

// Options of Chain.
type Options struct {
	// Metrics counts the requests; nil counts nothing.
	Metrics *Metrics
	// Clock is real time but in tests.
	Clock clock.PassiveClock
	// NewID makes the id of a request that came without; random by default.
	NewID func() types.UID
}

// Chain puts the filters of both modes in front of handler. Each request reaches it
// with its RequestInfo in the context, an Audit-Id header, and a body that ends.
func Chain(handler http.Handler, o Options) http.Handler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.NewID == nil {
		o.NewID = func() types.UID { return types.UID(uuid.NewString()) }
	}
	handler = limitBody(handler)
	handler = withRequestInfo(handler)
	handler = withHygiene(handler)
	handler = withRecovery(handler)
	return &observer{next: handler, options: o}
}

// withHygiene refuses requests that nobody behind the gateway should have to read.
func withHygiene(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkTarget(r.RequestURI); err != nil {
			refuseBadRequest(w, r, err)
			return
		}
		if err := checkHeaders(r); err != nil {
			refuseBadRequest(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withRequestInfo describes the request as the API server would.
func withRequestInfo(next http.Handler) http.Handler {
	resolver := &request.RequestInfoFactory{
		APIPrefixes:          sets.NewString("api", "apis"),
		GrouplessAPIPrefixes: sets.NewString("api"),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := resolver.NewRequestInfo(r)
		if err != nil {
			Refuse(w, r, apierrors.NewBadRequest(fmt.Sprintf("the request is not understood: %v", err)))
			return
		}
		rec := recordFrom(r.Context())
		rec.info, rec.long = info, longRunning(info)
		next.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), info)))
	})
}

// limitBody refuses bodies beyond MaxBody. Where no length was announced, reading
// further fails with an *http.MaxBytesError. What goes to a Pod, Service or Node
// behind a proxy subresource has no limit, as upstream.
func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, _ := request.RequestInfoFrom(r.Context())
		switch {
		case info != nil && longRunning(info), r.Body == nil, r.Body == http.NoBody:
		case r.ContentLength > MaxBody:
			Refuse(w, r, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", MaxBody)))
			return
		default:
			r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		}
		next.ServeHTTP(w, r)
	})
}

// withRecovery turns a panic of one request into its failure, with the stack in the
// log. A handler that wants its connection cut panics with http.ErrAbortHandler.
func withRecovery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { //nolint:contextcheck // r carries it
			reason := recover()
			if reason == nil {
				return
			}
			if err, ok := reason.(error); ok && err == http.ErrAbortHandler { //nolint:errorlint // the server compares it like this, too
				NoteRefused(r.Context(), "aborted")
				panic(reason)
			}
			klog.FromContext(r.Context()).Error(fmt.Errorf("%v", reason), "Request ended in a panic",
				"auditID", RequestID(r.Context()), "method", r.Method, "uri", truncate(r.RequestURI, maxLogged), "stack", string(debug.Stack()))
			defer NoteRefused(r.Context(), "panic")
			if recordFrom(r.Context()).answer.begun() {
				panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
			}
			Refuse(w, r, apierrors.NewInternalError(fmt.Errorf("the gateway failed at this request, whose id is %s: its log says why", RequestID(r.Context()))))
		}()
		next.ServeHTTP(w, r)
	})
}
