package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/keelson-dev/keelson/gateway/upstream"
)

// identities is the transport to the API server: it speaks with the gateway's own
// credentials, in the name of whom the request's context says.
type identities struct {
	// own adds the gateway's credentials; upgrades does so over HTTP/1.1, which is what
	// connections can be upgraded from.
	own, upgrades http.RoundTripper
	drain         *drain
}

// newIdentities makes the transports of config.
func newIdentities(config *rest.Config, d *drain) (*identities, error) {
	own, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("make the transport to the API server: %w", err)
	}
	http1 := rest.CopyConfig(config)
	http1.NextProtos = []string{"http/1.1"}
	upgrades, err := rest.TransportFor(http1)
	if err != nil {
		return nil, fmt.Errorf("make the transport to the API server for upgrades: %w", err)
	}
	return &identities{own: own, upgrades: upgrades, drain: d}, nil
}

var errNoUser = errors.New("nobody is known to have sent this request: it is not sent on")

// RoundTrip sends one request. It does not change r.
func (t *identities) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.own
	if r.Header.Get("Upgrade") != "" {
		next = t.upgrades
	}
	clean := *r
	clean.Header = withoutIdentity(r.Header)
	ctx := r.Context()
	if upstream.IdentityFrom(ctx) != upstream.Gateway {
		u, ok := request.UserFrom(ctx)
		if !ok || u.GetName() == "" {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, errNoUser
		}
		next = transport.NewImpersonatingRoundTripper(impersonate(u, groupsFor(ctx, u)), next)
	}
	response, err := next.RoundTrip(&clean)
	if err != nil {
		return nil, err
	}
	response.Header.Del("Audit-Id") // the filters have answered with it already
	t.drain.endWatch(r, response)
	return response, nil
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
