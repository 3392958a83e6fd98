package main

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// route says where requests for a host and a path go.
type route struct {
	// host is what the request must name: all of it, everything below it where it begins
	// with "*.", or nothing in particular where it is empty.
	host string
	path string
	// exact routes take their path alone, others what is below it, too.
	exact bool
	// fallback takes what no other route of any host takes.
	fallback bool
	target   *url.URL
	// problem is why there is no target.
	problem string
}

// computeRoutes turns Ingresses into routes, the first that matches a request being the
// one it takes: as the API documents, whole hosts go before wildcards, exact paths before
// prefixes, longer ones before shorter ones, and older Ingresses before younger ones.
func computeRoutes(ingresses []*networkingv1.Ingress, service func(types.NamespacedName) *corev1.Service) []route {
	ingresses = slices.SortedFunc(slices.Values(ingresses), func(a, b *networkingv1.Ingress) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	var routes []route
	for _, ingress := range ingresses {
		if b := ingress.Spec.DefaultBackend; b != nil {
			routes = append(routes, route{path: "/", fallback: true}.to(ingress.Namespace, *b, service))
		}
		for _, rule := range ingress.Spec.Rules {
			if rule.HTTP == nil {
				continue // its host goes to the default backend
			}
			for _, p := range rule.HTTP.Paths {
				exact := p.PathType != nil && *p.PathType == networkingv1.PathTypeExact
				routes = append(routes, route{host: rule.Host, path: cmp.Or(p.Path, "/"), exact: exact}.to(ingress.Namespace, p.Backend, service))
			}
		}
	}
	slices.SortStableFunc(routes, func(a, b route) int {
		return cmp.Or(order(a.fallback, b.fallback), order(a.host == "", b.host == ""), order(wildcard(a.host), wildcard(b.host)), cmp.Compare(len(b.host), len(a.host)),
			cmp.Compare(a.host, b.host), order(!a.exact, !b.exact), cmp.Compare(len(b.path), len(a.path)))
	})
	return routes
}

// order sorts what is so behind what is not.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func wildcard(host string) bool { return strings.HasPrefix(host, "*.") }

// to fills in where the route leads.
func (r route) to(namespace string, backend networkingv1.IngressBackend, service func(types.NamespacedName) *corev1.Service) route {
	if backend.Service == nil {
		r.problem = "the backend is no Service"
		return r
	}
	name := types.NamespacedName{Namespace: namespace, Name: backend.Service.Name}
	s := service(name)
	if s == nil {
		r.problem = fmt.Sprintf("there is no Service %s", name)
		return r
	}
	for _, p := range s.Spec.Ports {
		if want := backend.Service.Port; (want.Name == "" || p.Name != want.Name) && p.Port != want.Number {
			continue
		}
		switch s.Spec.ClusterIP {
		case "", corev1.ClusterIPNone:
			r.problem = fmt.Sprintf("Service %s has no address", name)
		default:
			r.target = &url.URL{Scheme: "http", Host: net.JoinHostPort(s.Spec.ClusterIP, strconv.Itoa(int(p.Port)))}
		}
		return r
	}
	r.problem = fmt.Sprintf("Service %s has no port %s", name, cmp.Or(backend.Service.Port.Name, strconv.Itoa(int(backend.Service.Port.Number))))
	return r
}

// takes says whether a request belongs to the route. Prefixes are compared by elements of
// the path: /app takes /app/x and not /apple.
func (r route) takes(host, path string) bool {
	switch {
	case wildcard(r.host):
		if _, parent, ok := strings.Cut(host, "."); !ok || "*."+parent != r.host {
			return false
		}
	case r.host != "" && r.host != host:
		return false
	}
	if r.exact {
		return path == r.path
	}
	prefix := strings.TrimSuffix(r.path, "/")
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || strings.HasPrefix(rest, "/"))
}
