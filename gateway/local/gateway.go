package local

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway"
	"github.com/keelson-dev/keelson/gateway/filters"
	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

const (
	contextName       = "keelson"
	readHeaderTimeout = 30 * time.Second
)

// Options of Start.
type Options struct {
	// Caller is how the person reaches the API server; Start does not change it.
	Caller *rest.Config
	// Port on loopback; 0 is any free one.
	Port int
	// Namespace is the default one in the kubeconfig.
	Namespace string
}

// Gateway is one that listens.
type Gateway struct {
	namespace string
	listener  net.Listener
	server    *http.Server
	token     string
	authority []byte // PEM
	failures  *failures
	served    chan error
}

// Start listens and serves until Close. ctx gives the logger.
func Start(ctx context.Context, o Options) (*Gateway, error) {
	g := &Gateway{namespace: o.Namespace, failures: &failures{}, served: make(chan error, 1)}
	handler, err := newHandler(o.Caller, g.failures)
	if err != nil {
		return nil, err
	}
	token := make([]byte, 32)
	if _, err := rand.Read(token); err != nil {
		return nil, fmt.Errorf("make a token: %w", err)
	}
	g.token = base64.RawURLEncoding.EncodeToString(token)
	cert, authority, err := selfSigned(time.Now())
	if err != nil {
		return nil, err
	}
	g.authority = authority
	if g.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port))); err != nil {
		return nil, fmt.Errorf("--port: %w", err)
	}
	handler = withToken(handler, g.token)
	g.server = &http.Server{
		Handler:           filters.Chain(handler, filters.Options{Clock: clock.RealClock{}}),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}},
		ReadHeaderTimeout: readHeaderTimeout,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:          log.New(discarded{klog.FromContext(ctx)}, "", 0),
	}
	go func() { g.served <- g.server.ServeTLS(g.listener, "", "") }()
	return g, nil
}

// newHandler is everything behind the token.
func newHandler(caller *rest.Config, f *failures) (http.Handler, error) {
	config := rest.CopyConfig(caller)
	config.DisableCompression = true // the client unpacks what the API server packs
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("find the API server's address: %w", err)
	}
	transport, err := newCallerTransport(config, f)
	if err != nil {
		return nil, err
	}
	client := upstream.New(base, transport)
	agents, err := newLocator(config, client)
	if err != nil {
		return nil, err
	}
	handler, err := gateway.New(gateway.Config{Table: table.Keelson(), Upstream: client, Nodes: agents, Clock: clock.RealClock{}})
	if err != nil {
		return nil, err
	}
	return withImpersonation(handler, config.Impersonate.UserName != ""), nil
}

// newLocator reaches agents with the caller's credentials, too, if their certificates
// are of the same authority as the API server's.
func newLocator(config *rest.Config, client *upstream.Client) (*nodes.Locator, error) {
	agents := rest.CopyConfig(config)
	agents.ServerName = ""
	settings, err := agents.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("use the credentials of the kubeconfig for node agents: %w", err)
	}
	locator, err := nodes.New(nodes.Options{Upstream: client, Transport: settings, Clock: clock.RealClock{}})
	if err != nil {
		return nil, fmt.Errorf("use the credentials of the kubeconfig for node agents: %w", err)
	}
	return locator, nil
}

// Address is where it listens.
func (g *Gateway) Address() string { return g.listener.Addr().String() }

// Failure is why the API server was not reached the last time, or nil.
func (g *Gateway) Failure() error { return g.failures.get() }

// Kubeconfig leads through the gateway. Whoever can read it can do what the caller can,
// as long as the gateway runs.
func (g *Gateway) Kubeconfig() *clientcmdapi.Config {
	config := clientcmdapi.NewConfig()
	config.Clusters[contextName] = &clientcmdapi.Cluster{Server: "https://" + g.Address(), CertificateAuthorityData: g.authority}
	config.AuthInfos[contextName] = &clientcmdapi.AuthInfo{Token: g.token}
	config.Contexts[contextName] = &clientcmdapi.Context{Cluster: contextName, AuthInfo: contextName, Namespace: g.namespace}
	config.CurrentContext = contextName
	return config
}

// Wait returns when the gateway cannot serve any more, or ctx has ended.
func (g *Gateway) Wait(ctx context.Context) error {
	select {
	case err := <-g.served:
		return fmt.Errorf("serve on %s: %w", g.Address(), err)
	case <-ctx.Done():
		return nil
	}
}

// Close ends it at once, and with it what is open: whoever it was for has ended, or has
// said that it shall.
func (g *Gateway) Close() error {
	if err := g.server.Close(); err != nil {
		return fmt.Errorf("end the gateway: %w", err)
	}
	return nil
}

// accepts returns the authenticator of the one token. Comparing takes as long for a
// wrong one.
func accepts(token string) authenticator.Token {
	return authenticator.TokenFunc(func(_ context.Context, given string) (*authenticator.Response, bool, error) {
		if subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			return nil, false, nil
		}
		return &authenticator.Response{User: &user.DefaultInfo{}}, true, nil
	})
}
