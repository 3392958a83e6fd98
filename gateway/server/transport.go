package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/keelson-dev/keelson/gateway/upstream"
)

// identities is the transport to the API server: it speaks with the gateway's own
// credentials, in the name of whom the request's context says.
type identities struct {
	// Both add the gateway's credentials. A request and its answer take a third less
	// time over http1, and a connection each; connections can be upgraded from it only.
	// Over http2 a hundred of them share a connection: watches, and what is too much for
	// the connections that http1 keeps.
	http1, http2 http.RoundTripper
	// busy counts the connections of http1 with a request that is no upgrade.
	busy  atomic.Int64
	drain *drain
}

// maxBusy is how many idle connections client-go keeps.
const maxBusy = 25

// newIdentities makes the transports of config.
func newIdentities(config *rest.Config, d *drain) (*identities, error) {
	http2, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("make the transport to the API server: %w", err)
	}
	config = rest.CopyConfig(config)
	config.NextProtos = []string{"http/1.1"}
	http1, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("make the transport to the API server over HTTP/1.1: %w", err)
	}
	return &identities{http1: http1, http2: http2, drain: d}, nil
}

var errNoUser = errors.New("nobody is known to have sent this request: it is not sent on")

// RoundTrip sends one request. It does not change r.
func (t *identities) RoundTrip(r *http.Request) (*http.Response, error) {
	next, leave := t.choose(r)
	clean := *r
	clean.Header = withoutIdentity(r.Header)
	ctx := r.Context()
	if upstream.IdentityFrom(ctx) != upstream.Gateway {
		u, ok := request.UserFrom(ctx)
		if !ok || u.GetName() == "" {
			leave()
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, errNoUser
		}
		next = transport.NewImpersonatingRoundTripper(impersonate(u, groupsFor(ctx, u)), next)
	}
	response, err := next.RoundTrip(&clean)
	if err != nil {
		leave()
		return nil, err
	}
	response.Header.Del("Audit-Id")                           // the filters have answered with it already
	if response.StatusCode != http.StatusSwitchingProtocols { // else the body is also written to
		response.Body = &leavingBody{ReadCloser: response.Body, leave: leave}
	}
	t.drain.endWatch(r, response)
	return response, nil
}

// choose returns the transport of a request, and what is to be called once at its end.
func (t *identities) choose(r *http.Request) (next http.RoundTripper, leave func()) {
	if r.Header.Get("Upgrade") != "" {
		return t.http1, func() {}
	}
	if info, ok := request.RequestInfoFrom(r.Context()); ok && info.Verb == "watch" {
		return t.http2, func() {}
	}
	if t.busy.Add(1) > maxBusy {
		t.busy.Add(-1)
		return t.http2, func() {}
	}
	return t.http1, sync.OnceFunc(func() { t.busy.Add(-1) })
}

// leavingBody tells the end of an answer.
type leavingBody struct {
	io.ReadCloser
	leave func()
}

func (b *leavingBody) Close() error {
	b.leave()
	return b.ReadCloser.Close()
}

func groupsFor(ctx context.Context, u user.Info) []string {
	groups := u.GetGroups()
	if upstream.IdentityFrom(ctx) != upstream.AuthorizedCaller {
		return groups
	}
	return append(append(make([]string, 0, len(groups)+1), groups...), authorizedGroup(ctx))
}

func impersonate(u user.Info, groups []string) transport.ImpersonationConfig {
	return transport.ImpersonationConfig{UserName: u.GetName(), UID: u.GetUID(), Groups: groups, Extra: u.GetExtra()}
}

// withoutIdentity copies a header and leaves out whatever says who sends the request.
func withoutIdentity(header http.Header) http.Header {
	clean := make(http.Header, len(header)+4)
	for name, values := range header {
		if name == "Authorization" || name == "Proxy-Authorization" || strings.HasPrefix(name, "Impersonate-") || strings.HasPrefix(name, "X-Remote-") {
			continue
		}
		clean[name] = values
	}
	return clean
}
