package nodes

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/client-go/transport"
)

const (
	dialTimeout   = 30 * time.Second
	dialKeepAlive = 30 * time.Second
)

// carrier is one way to reach agents, in the shapes that its users need.
type carrier struct {
	// base holds the dialer and the TLS settings, and sends no header of its own.
	base http.RoundTripper
	// full adds the credentials that are headers.
	full http.RoundTripper
	// headers answers every request with itself, credentials added.
	headers http.RoundTripper
	upgrade proxy.UpgradeRequestRoundTripper
	// bare: the credentials, if any, are in the TLS settings alone.
	bare bool
}

// newCarrier makes a carrier out of config, which it does not change. failed is told
// of every address that refused a connection.
func newCarrier(config *transport.Config, unverified bool, failed func(address string)) (*carrier, error) {
	wrappers := *config
	settings := &transport.Config{
		TLS:                config.TLS,
		Transport:          config.Transport,
		Proxy:              config.Proxy,
		DisableCompression: true,
		DialHolder:         watchedDial(config.DialHolder, failed),
	}
	if unverified {
		settings.TLS.Insecure = true
		settings.TLS.CAFile, settings.TLS.CAData = "", nil
		settings.TLS.ReloadCAFiles = false
	}
	base, err := transport.New(settings)
	if err != nil {
		return nil, err
	}
	c := &carrier{base: base}
	c.bare = !config.HasTokenAuth() && !config.HasBasicAuth() && config.WrapTransport == nil
	if c.full, err = transport.HTTPWrappersForConfig(&wrappers, base); err != nil {
		return nil, err
	}
	if c.headers, err = transport.HTTPWrappersForConfig(&wrappers, proxy.MirrorRequest); err != nil {
		return nil, err
	}
	c.upgrade = proxy.NewUpgradeRequestRoundTripper(base, c.headers)
	return c, nil
}

func watchedDial(holder *transport.DialHolder, failed func(address string)) *transport.DialHolder {
	dial := (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialKeepAlive}).DialContext
	if holder != nil {
		dial = holder.Dial
	}
	return &transport.DialHolder{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			failed(address)
		}
		return conn, err
	}}
}

// dialable: see Agent.Dialable. Where the credentials are headers, it hands out a plain
// HTTP location whose connections are TLS already and write the headers by themselves.
func (c *carrier) dialable(location *url.URL) (*url.URL, http.RoundTripper) {
	if c.bare {
		return location, c.base
	}
	plain := *location
	plain.Scheme = "http"
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("make the request whose credentials go to %s: %w", location.Host, err)
		}
		answer, err := c.headers.RoundTrip(request)
		if err != nil {
			return nil, fmt.Errorf("add the gateway's credentials: %w", err)
		}
		answer.Body.Close()
		credentials := answer.Request.Header
		credentials.Del("User-Agent") // the request that follows has one
		conn, err := proxy.DialURL(ctx, location, c.base)
		if err != nil {
			return nil, err
		}
		return &headed{Conn: conn, header: credentials}, nil
	}
	return &plain, utilnet.SetTransportDefaults(&http.Transport{
		// CanonicalAddr of the plain location is not dialled: dial knows the place.
		DialContext: dial,
		Proxy:       func(*http.Request) (*url.URL, error) { return nil, nil },
	})
}

// headed writes header behind the first line of the one HTTP/1.1 request that is sent
// over it.
type headed struct {
	net.Conn
	header http.Header
	done   bool
}

// Write is not called concurrently before the answer to the request: nothing else is
// written until then.
func (h *headed) Write(p []byte) (int, error) {
	if h.done {
		return h.Conn.Write(p)
	}
	end := bytes.Index(p, []byte("\r\n"))
	if end < 0 {
		return 0, fmt.Errorf("send credentials: the request does not begin with a whole line")
	}
	h.done = true
	end += len("\r\n")
	var first bytes.Buffer
	first.Write(p[:end])
	if err := h.header.Write(&first); err != nil {
		return 0, fmt.Errorf("send credentials: %w", err)
	}
	first.Write(p[end:])
	if _, err := h.Conn.Write(first.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
