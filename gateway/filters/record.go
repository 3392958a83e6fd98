package filters

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// record is what the filters learn about a request on its way in, for the line that
// is written on its way out. One goroutine at a time uses it: that of the request.
type record struct {
	id types.UID
	// answer is what the client has got so far; nil without the filters.
	answer *answerWriter
	// info is nil until the path was understood.
	info *request.RequestInfo
	// user sent the request; as is whom it acts as, if that is somebody else.
	user, as user.Info
	// refused says why a filter did not let the request through.
	refused string
	// long says that the request is one that stays.
	long bool
}

type recordKey struct{}

func recordFrom(ctx context.Context) *record {
	if r, ok := ctx.Value(recordKey{}).(*record); ok {
		return r
	}
	return &record{} // no filter in front: what is noted goes nowhere
}

// RequestID returns the id of the request that ctx belongs to: the Audit-Id header.
func RequestID(ctx context.Context) types.UID { return recordFrom(ctx).id }

// NoteUser writes down who sent the request, once known.
func NoteUser(ctx context.Context, u user.Info) { recordFrom(ctx).user = u }

// NoteImpersonated writes down as whom the request is made.
func NoteImpersonated(ctx context.Context, u user.Info) { recordFrom(ctx).as = u }

// NoteRefused writes down why a request goes no further.
func NoteRefused(ctx context.Context, reason string) { recordFrom(ctx).refused = reason }

// LongRunning says whether a request stays open by its nature: watches and streams.
// Limits and deadlines of ordinary requests are not for these.
func LongRunning(r *http.Request) bool {
	info, ok := request.RequestInfoFrom(r.Context())
	return ok && longRunning(info)
}

func longRunning(info *request.RequestInfo) bool {
	switch info.Verb {
	case "watch", "proxy":
		return true
	}
	if !info.IsResourceRequest {
		return false
	}
	switch info.Subresource {
	case "attach", "exec", "log", "portforward", "proxy":
		return true
	}
	return false
}
