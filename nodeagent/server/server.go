// Package server is the node agent's HTTPS API, with the kubelet's paths: logs, exec,
// attach and port-forward, statistics, metrics, the Pods of the node.
//
// Every request is authenticated (client certificate or TokenReview) and authorized
// (SubjectAccessReview on upstream's names of the node's subresources); there is no
// anonymous access. It reads what the agent knows and changes nothing. It keeps nothing
// but its certificate: sessions end with the process, and clients connect again.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 90 * time.Second
	closeTimeout      = time.Second
	maxHeaderBytes    = 1 << 20
)

// Pods are the Pods of this node, with the newest status that the agent computed. What
// is returned is shared.
type Pods interface {
	List(ctx context.Context) ([]*corev1.Pod, error)
	// Get returns nil when the node has no such Pod.
	Get(ctx context.Context, namespace, name string) (*corev1.Pod, error)
}

// Containers is what the runtime holds; runtime.Runtime has it.
type Containers interface {
	Pod(ctx context.Context, uid types.UID) (runtime.PodState, error)
	Events(ctx context.Context) <-chan runtime.Event
}

// PortForward joins stream with a port of a Pod until one side ends or ctx does.
type PortForward func(ctx context.Context, podUID types.UID, port int32, stream io.ReadWriteCloser) error

// Statistics are what Pods and the node use; *stats.Sampler is one.
type Statistics interface {
	Summary(ctx context.Context, onlyCPUAndMemory bool) (*statsv1alpha1.Summary, error)
	// Resource and Container gather /metrics/resource and /metrics/cadvisor.
	Resource(ctx context.Context) prometheus.Gatherer
	Container(ctx context.Context) prometheus.Gatherer
}

// Options are what the server works with.
type Options struct {
	// NodeName is the name of the Node for which callers are authorized.
	NodeName string
	// Certificates are the server's own, and say whose client certificates count.
	Certificates *Certificates
	Tokens       TokenReviewer
	Access       AccessReviewer

	Pods       Pods
	Containers Containers
	// Streamer runs commands. Without it, or PortForward, such requests are refused.
	Streamer    runtime.Streamer
	PortForward PortForward
	Statistics  Statistics
	// Metrics are the process's own.
	Metrics prometheus.Gatherer
	// RunningPods are the Pods that the runtime runs, whatever the API says; Configuration
	// is what /configz shows. Both may be nil.
	RunningPods   func(ctx context.Context) ([]corev1.Pod, error)
	Configuration func() any
	// LogDir is what /logs/ shows.
	LogDir string
	// Healthy returns nil, or what is wrong.
	Healthy func() error
	Clock   clock.WithTicker
}

// Server answers requests.
type Server struct {
	Options
	authenticator *authenticator
	authorizer    *authorizer
	handler       http.Handler
}

// New returns a Server.
func New(o Options) *Server {
	s := &Server{
		Options:       o,
		authenticator: newAuthenticator(o.Certificates, o.Tokens, o.Clock),
		authorizer:    newAuthorizer(o.Access, o.Clock),
	}
	s.handler = s.authenticated(s.routes())
	return s
}

// ServeHTTP implements http.Handler. It expects TLS.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers on listener until ctx ends, and with it every session.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s, TLSConfig: s.Certificates.Config(),
		ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    klog.NewStandardLogger("INFO"),
	}
	stop := context.AfterFunc(ctx, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if server.Shutdown(closing) != nil {
			_ = server.Close() // somebody reads slowly: cut it off
		}
	})
	defer stop()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the node's API: %w", err)
	}
	return nil
}
