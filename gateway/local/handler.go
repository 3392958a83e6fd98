package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/metrics/pkg/apis/metrics"

	"github.com/keelson-dev/keelson/gateway/filters"
	"github.com/keelson-dev/keelson/gateway/streams"
)

// withToken lets in who knows the token, as a bearer token or, for WebSockets of
// browsers, as the subprotocol that the API server accepts, too. Both are taken off.
func withToken(next http.Handler, token string) http.Handler {
	authenticator := union.New(bearertoken.New(accepts(token)), websocket.NewProtocolAuthenticator(accepts(token)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, ok, err := authenticator.AuthenticateRequest(r)
		if err != nil || !ok {
			filters.Refuse(w, r, apierrors.NewUnauthorized("this gateway is for the person who started it: take the kubeconfig that it printed"))
			return
		}
		r.Header.Del("Authorization")
		next.ServeHTTP(w, r)
	})
}

type impersonationKey struct{}

// withImpersonation takes the impersonation that a client asks for off the headers and
// into the context: the transport sends it on, and the API server decides. A caller
// who acts as somebody else already (--as) cannot be a third one.
func withImpersonation(next http.Handler, already bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wanted, err := impersonationOf(r.Header)
		switch {
		case err != nil:
			filters.Refuse(w, r, apierrors.NewBadRequest(err.Error()))
			return
		case wanted == nil:
			next.ServeHTTP(w, r)
			return
		case already:
			filters.Refuse(w, r, apierrors.NewBadRequest("the gateway was started with --as: a request cannot impersonate somebody else in addition"))
			return
		case needsAgents(r):
			filters.Refuse(w, r, apierrors.NewBadRequest("a local gateway cannot impersonate towards node agents, which this request needs: use 'kubectl keelson --as' with a command that does not, or a served gateway"))
			return
		}
		filters.NoteImpersonated(r.Context(), &user.DefaultInfo{Name: wanted.UserName, UID: wanted.UID, Groups: wanted.Groups, Extra: wanted.Extra})
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), impersonationKey{}, wanted)))
	})
}

// needsAgents: these requests are answered with what agents say, and agents judge the
// credentials of the connection alone.
func needsAgents(r *http.Request) bool {
	info, ok := request.RequestInfoFrom(r.Context())
	return ok && (streams.Serves(info) || info.IsResourceRequest && info.APIGroup == metrics.GroupName)
}

// impersonationOf reads the headers and removes them; nil means that there are none.
func impersonationOf(header http.Header) (*transport.ImpersonationConfig, error) {
	config := transport.ImpersonationConfig{
		UserName: header.Get(transport.ImpersonateUserHeader),
		UID:      header.Get(transport.ImpersonateUIDHeader),
		Groups:   header[transport.ImpersonateGroupHeader],
	}
	found := false
	for name, values := range header {
		if !strings.HasPrefix(name, "Impersonate-") {
			continue
		}
		found = true
		if key, ok := strings.CutPrefix(name, transport.ImpersonateUserExtraHeaderPrefix); ok {
			decoded, err := url.PathUnescape(strings.ToLower(key))
			if err != nil {
				return nil, fmt.Errorf("the header %q: %w", name, err)
			}
			if config.Extra == nil {
				config.Extra = map[string][]string{}
			}
			config.Extra[decoded] = append(config.Extra[decoded], values...)
		}
		header.Del(name)
	}
	switch {
	case !found:
		return nil, nil
	case config.UserName == "":
		return nil, errors.New("impersonation is requested without a user: Impersonate-User is missing")
	}
	return &config, nil
}

// callerTransport speaks with the caller's credentials and as whom the client acts,
// whatever the identity: there is no other. A binding or an eviction as somebody else
// must not be made with the rights of the one who acts.
type callerTransport struct {
	// caller adds the credentials.
	caller   http.RoundTripper
	failures *failures
}

// newCallerTransport speaks HTTP/1.1: it is the faster one for a single person's requests,
// and the one that connections can be upgraded from.
func newCallerTransport(config *rest.Config, f *failures) (*callerTransport, error) {
	config = rest.CopyConfig(config)
	config.NextProtos = []string{"http/1.1"}
	caller, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("use the credentials of the kubeconfig: %w", err)
	}
	return &callerTransport{caller: caller, failures: f}, nil
}

// RoundTrip sends one request. It does not change r.
func (t *callerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.caller
	clean := *r
	clean.Header = r.Header.Clone()
	for name := range clean.Header {
		if name == "Authorization" || name == "Proxy-Authorization" || strings.HasPrefix(name, "Impersonate-") {
			clean.Header.Del(name)
		}
	}
	ctx := r.Context()
	if as, ok := ctx.Value(impersonationKey{}).(*transport.ImpersonationConfig); ok {
		next = transport.NewImpersonatingRoundTripper(*as, next)
	}
	response, err := next.RoundTrip(&clean)
	if err != nil {
		if ctx.Err() == nil {
			t.failures.set(err)
		}
		return nil, err
	}
	t.failures.set(nil)
	response.Header.Del("Audit-Id") // the filters have answered with it already
	return response, nil
}

// failures remembers why the API server was not reached, for the person.
type failures struct {
	mu   sync.Mutex
	last error
}

func (f *failures) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = err
}

func (f *failures) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// discarded is the log of net/http in the caller's logger, where it was asked for.
type discarded struct{ logger logr.Logger }

func (d discarded) Write(p []byte) (int, error) {
	d.logger.V(4).Info("Connection failed", "because", strings.TrimSpace(string(p)))
	return len(p), nil
}
