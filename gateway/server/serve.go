package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/klog/v2"
)

const (
	readHeaderTimeout = 30 * time.Second
	idleTimeout       = 90 * time.Second
	keepAlive         = 30 * time.Second
	maxHeaderBytes    = 64 << 10
	// maxStreams is how many requests one HTTP/2 connection may have open, watches
	// included; as the API server.
	maxStreams = 100
	// streamBuffer holds most requests in one piece.
	streamBuffer = 256 << 10
)

// tlsConfig serves the certificate of its file, as it is at each moment, and asks for
// one of clients, whom the authenticator judges.
func tlsConfig(ctx context.Context, cert *dynamiccertificates.DynamicCertKeyPairContent, ca *dynamiccertificates.DynamicFileCAContent) (*tls.Config, error) {
	base := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	var clientCA dynamiccertificates.CAContentProvider
	if ca != nil {
		base.ClientAuth = tls.RequestClientCert
		clientCA = ca
	}
	controller := dynamiccertificates.NewDynamicServingCertificateController(base, clientCA, cert, nil, nil)
	cert.AddListener(controller)
	go cert.Run(ctx, 1)
	if ca != nil {
		ca.AddListener(controller)
		go ca.Run(ctx, 1)
	}
	if err := controller.RunOnce(); err != nil {
		return nil, fmt.Errorf("load the serving certificate: %w", err)
	}
	go controller.Run(1, ctx.Done())
	base.GetConfigForClient = controller.GetConfigForClient
	return base, nil
}

// newHTTPServer serves handler over TLS.
func newHTTPServer(ctx context.Context, handler http.Handler, config *tls.Config) *http.Server {
	return &http.Server{
		Handler:           handler,
		TLSConfig:         config,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReadFrameSize: streamBuffer,
			MaxReceiveBufferPerStream: streamBuffer, MaxReceiveBufferPerConnection: maxStreams * streamBuffer,
		},
		ErrorLog: log.New(connectionErrors{ctx}, "", 0),
	}
}

// connectionErrors is the log of net/http. Anybody can cause failed handshakes, and
// load balancers do when they look whether the port is open.
type connectionErrors struct{ ctx context.Context }

func (w connectionErrors) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	logger := klog.FromContext(w.ctx)
	if strings.Contains(line, "TLS handshake error") {
		logger = logger.V(5)
	}
	logger.Info("Connection failed", "because", line)
	return len(p), nil
}

// serveSecure serves until ctx ends, then drains: /readyz fails, after the delay the
// listener closes and watches end, then requests and streams have until the timeout.
func serveSecure(ctx context.Context, server *http.Server, listener net.Listener, d *drain, o Shutdown) error {
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(keepAliveListener{listener}, "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	logger := klog.FromContext(ctx)
	logger.Info("Draining", "delay", o.Delay.Duration, "timeout", o.DrainTimeout.Duration)
	d.notReady.Store(true)
	pause(o.Delay.Duration)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.DrainTimeout.Duration)
	defer cancel()
	d.endWatches()
	shut := make(chan error, 1)
	go func() { shut <- server.Shutdown(limit) }()
	var err error
	select {
	case <-d.idle: // upgraded connections, too, which Shutdown does not wait for
	case <-limit.Done():
		logger.Info("Cutting the streams that are still open")
		d.cutStreams(errCut)
	}
	if err = <-shut; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("end the server: %w", err)
	}
	return errors.Join(server.Close())
}

func pause(d time.Duration) {
	if d > 0 {
		timer := time.NewTimer(d)
		<-timer.C
	}
}

// keepAliveListener notices clients that went away without a word.
type keepAliveListener struct{ net.Listener }

func (l keepAliveListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive / 2})
	}
	return conn, err
}

// servePlain serves health or metrics until ctx ends.
func servePlain(ctx context.Context, address string, handler http.Handler) (io.Closer, error) {
	if address == "0" {
		return io.NopCloser(nil), nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ErrorLog: log.New(connectionErrors{ctx}, "", 0)}
	go func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			klog.FromContext(ctx).Error(err, "Cannot serve any more", "address", address)
		}
	}()
	return server, nil
}
