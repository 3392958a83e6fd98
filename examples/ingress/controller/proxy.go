package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync/atomic"
)

// proxy passes requests on as the routes of the moment say.
type proxy struct {
	routes  *atomic.Pointer[[]route]
	forward httputil.ReverseProxy
}

func newProxy(routes *atomic.Pointer[[]route]) *proxy {
	p := &proxy{routes: routes}
	p.forward = httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			host := r.Out.Host
			if found := p.find(r.In); found != nil && found.target != nil {
				r.SetURL(found.target)
			}
			r.Out.Host = host // servers are to see whom the client asked for
			r.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			slog.Info("A server did not answer", "host", r.Host, "path", r.URL.Path, "err", err)
			http.Error(w, "the server behind this address does not answer", http.StatusBadGateway)
		},
	}
	return p
}

// find returns the route that a request takes, or nil.
func (p *proxy) find(r *http.Request) *route {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	routes := *p.routes.Load()
	i := slices.IndexFunc(routes, func(candidate route) bool { return candidate.takes(host, r.URL.Path) })
	if i < 0 {
		return nil
	}
	return &routes[i]
}

// ServeHTTP answers 404 where no Ingress tells what to do, and 503 where one tells
// something that does not exist.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch found := p.find(r); {
	case found == nil:
		http.Error(w, "no Ingress names this host and path", http.StatusNotFound)
	case found.target == nil:
		http.Error(w, found.problem, http.StatusServiceUnavailable)
	default:
		p.forward.ServeHTTP(w, r)
	}
}
