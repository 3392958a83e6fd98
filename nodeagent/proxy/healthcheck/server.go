// Package healthcheck answers load balancers that ask whether this node has endpoints of
// a Service whose traffic stays on the node: 200 when it has, 503 when it has not or when
// the proxy does not keep up. Code, headers and body are kube-proxy's.
//
// It holds nothing that outlives the process: after a restart the ports are opened again
// once the first rules are written.
package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Service is what is told of one Service.
type Service struct {
	Port uint16
	// LocalEndpoints is the number of ready addresses on this node.
	LocalEndpoints int
}

// Options configure a Server.
type Options struct {
	// Family is that of the addresses to listen on.
	Family model.Family
	// Healthy reports whether the proxy keeps up with the API.
	Healthy func() bool
	// Failed is told when a port cannot be opened, once for each new reason.
	Failed func(service types.NamespacedName, port uint16, err error)
}

// Server serves the health check ports of one family. Its methods must not be called at
// the same time.
type Server struct {
	options Options
	open    map[types.NamespacedName]*listening
	// failures are the last errors by Service.
	failures map[types.NamespacedName]string
}

// listening is the open port of one Service.
type listening struct {
	port      uint16
	addresses []netip.Addr
	endpoints atomic.Int64
	servers   []*http.Server
	serving   sync.WaitGroup
}

// New returns a server without open ports.
func New(o Options) *Server {
	return &Server{options: o, open: map[types.NamespacedName]*listening{}, failures: map[types.NamespacedName]string{}}
}

// Sync opens and closes ports so that exactly those of the given Services are open, on
// the given addresses or, without any, on all. It returns an error when one cannot be
// opened; calling it again tries again.
func (s *Server) Sync(ctx context.Context, services map[types.NamespacedName]Service, addresses []netip.Addr) error {
	for name, l := range s.open {
		if now, wanted := services[name]; !wanted || now.Port != l.port || !slices.Equal(l.addresses, addresses) {
			l.close()
			delete(s.open, name)
		}
	}
	maps.DeleteFunc(s.failures, func(name types.NamespacedName, _ string) bool {
		_, wanted := services[name]
		return !wanted
	})
	var errs []error
	for name, svc := range services {
		if s.open[name] == nil {
			if err := s.listen(ctx, name, svc, addresses); err != nil {
				errs = append(errs, fmt.Errorf("opening the health check port of Service %s: %w", name, err))
				continue
			}
		}
		s.open[name].endpoints.Store(int64(svc.LocalEndpoints))
	}
	return errors.Join(errs...)
}

// Close closes every port.
func (s *Server) Close() {
	for _, l := range s.open {
		l.close()
	}
	clear(s.open)
}

func (s *Server) listen(ctx context.Context, name types.NamespacedName, svc Service, addresses []netip.Addr) error {
	l := &listening{port: svc.Port, addresses: slices.Clone(addresses)}
	err := s.listenAll(ctx, l, name)
	if err == nil {
		s.open[name] = l
		delete(s.failures, name)
		klog.FromContext(ctx).V(2).Info("Opened the health check port of a Service", "service", name, "port", svc.Port)
		return nil
	}
	l.close()
	if s.failures[name] != err.Error() && s.options.Failed != nil {
		s.options.Failed(name, svc.Port, err)
	}
	s.failures[name] = err.Error()
	return err
}

func (s *Server) listenAll(ctx context.Context, l *listening, name types.NamespacedName) error {
	network, all := "tcp4", netip.IPv4Unspecified()
	if s.options.Family == model.IPv6 {
		network, all = "tcp6", netip.IPv6Unspecified()
	}
	addresses := l.addresses
	if len(addresses) == 0 {
		addresses = []netip.Addr{all}
	}
	for _, ip := range addresses {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, network, netip.AddrPortFrom(ip, l.port).String())
		if err != nil {
			return err
		}
		server := &http.Server{Handler: s.handler(l, name), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		l.servers = append(l.servers, server)
		l.serving.Go(func() {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				klog.FromContext(ctx).Error(err, "Health check port of a Service ended", "service", name, "address", listener.Addr().String())
			}
		})
	}
	return nil
}

func (l *listening) close() {
	for _, server := range l.servers {
		_ = server.Close() // nothing is lost: who asked will ask again
	}
	l.serving.Wait()
}

func (s *Server) handler(l *listening, name types.NamespacedName) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		count, healthy := l.endpoints.Load(), s.options.Healthy()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(count, 10))
		if count == 0 || !healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintf(w, "{\n\t\"service\": {\n\t\t\"namespace\": %q,\n\t\t\"name\": %q\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %v\n}",
			name.Namespace, name.Name, count, healthy)
	})
}
