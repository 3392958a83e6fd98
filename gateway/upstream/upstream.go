// Package upstream reaches the API server behind the gateway.
//
// A request goes out under one of three identities, which its context carries: the
// caller's own (the default), the caller's after the gateway has authorized the
// request on the upstream names (Authorized), or the gateway's (AsGateway). What that
// means is the transport's affair: served mode impersonates, local mode has only the
// caller's credentials and ignores the difference. The package holds no state.
package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Identity says in whose name a request reaches the API server.
type Identity int

// The identities.
const (
	// Caller is the user who sent the request; the API server authorizes it.
	Caller Identity = iota
	// AuthorizedCaller is the same user with table.AuthorizedGroup: for requests to
	// Keelson's kinds that were authorized on their upstream names already.
	AuthorizedCaller
	// Gateway is the gateway's own account, for what it looks up by itself.
	Gateway
)

type identityKey struct{}

// Authorized marks the requests made with the returned context as AuthorizedCaller.
func Authorized(ctx context.Context) context.Context {
	return context.WithValue(ctx, identityKey{}, AuthorizedCaller)
}

// AsGateway marks the requests made with the returned context as Gateway.
func AsGateway(ctx context.Context) context.Context {
	return context.WithValue(ctx, identityKey{}, Gateway)
}

// IdentityFrom is for transports.
func IdentityFrom(ctx context.Context) Identity {
	identity, _ := ctx.Value(identityKey{}).(Identity)
	return identity
}

// Client sends requests to one API server.
type Client struct {
	base      *url.URL
	transport http.RoundTripper
}

// New returns a Client of the API server at base, which may have a path. The transport
// adds credentials, by IdentityFrom where it has several.
func New(base *url.URL, transport http.RoundTripper) *Client {
	root := *base
	if root.Path == "" {
		root.Path = "/" // else JoinPath makes relative paths
	}
	return &Client{base: &root, transport: transport}
}

// URL is where the API server serves path.
func (c *Client) URL(path string, query url.Values) *url.URL {
	location := c.base.JoinPath(path)
	location.RawQuery = query.Encode()
	return location
}

// Transport adds the credentials; for reverse proxies.
func (c *Client) Transport() http.RoundTripper { return c.transport }

// Request is one request to the API server.
type Request struct {
	Method string
	// Path is absolute, such as /apis/core.keelson.dev/v1/pods.
	Path   string
	Query  url.Values
	Header http.Header
	Body   io.Reader
}

// Do sends r and returns the answer, whatever its code. The caller closes the body. An
// error means that the API server was not reached or the context ended.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, r.Method, c.URL(r.Path, r.Query).String(), r.Body)
	if err != nil {
		return nil, fmt.Errorf("make a request to the API server: %w", err)
	}
	if r.Header != nil {
		request.Header = r.Header
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	return response, nil
}
