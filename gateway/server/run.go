package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/metrics/pkg/apis/metrics"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway"
	"github.com/keelson-dev/keelson/gateway/filters"
	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/tokens"
	"github.com/keelson-dev/keelson/gateway/upstream"
	"github.com/keelson-dev/keelson/version"
)

// Run serves until ctx ends and all clients are gone, or the drain is over.
func Run(ctx context.Context, o Options) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(o.Serving.BindAddress, strconv.Itoa(o.Serving.Port)))
	if err != nil {
		return fmt.Errorf("--bind-address, --secure-port: %w", err)
	}
	defer listener.Close()
	config, err := restConfig(o.Kubeconfig)
	if err != nil {
		return err
	}
	return run(ctx, o, config, listener)
}

func run(ctx context.Context, o Options, config *rest.Config, listener net.Listener) error {
	// What serves outlives ctx: the drain needs it.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	d := newDrain()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var ca *dynamiccertificates.DynamicFileCAContent
	if o.Authentication.ClientCAFile != "" {
		var err error
		if ca, err = dynamiccertificates.NewDynamicCAContentFromFile("client-ca", o.Authentication.ClientCAFile); err != nil {
			return fmt.Errorf("--client-ca-file: %w", err)
		}
	}
	cert, err := dynamiccertificates.NewDynamicServingContentFromFiles("serving", o.Serving.CertFile, o.Serving.PrivateKeyFile)
	if err != nil {
		return fmt.Errorf("--tls-cert-file, --tls-private-key-file: %w", err)
	}
	hooks, err := newHooks(config)
	if err != nil {
		return err
	}
	go watchHooks(serving, hooks)
	handler, health, err := newHandler(o, config, hooks, ca, d, filters.NewMetrics(registry))
	if err != nil {
		return err
	}
	secure, err := tlsConfig(serving, cert, ca)
	if err != nil {
		return err
	}
	server := newHTTPServer(serving, handler, secure)
	plain, err := servePlain(serving, o.HealthBindAddress, withHealth(http.NotFoundHandler(), health))
	if err != nil {
		return fmt.Errorf("--health-bind-address: %w", err)
	}
	defer plain.Close()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	metrics, err := servePlain(serving, o.MetricsBindAddress, mux)
	if err != nil {
		return fmt.Errorf("--metrics-bind-address: %w", err)
	}
	defer metrics.Close()
	klog.FromContext(ctx).Info("Serving", "address", listener.Addr().String(), "apiServer", config.Host)
	return serveSecure(ctx, server, listener, d, o.Shutdown)
}

// restConfig reads the gateway's own credentials.
func restConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	config.UserAgent = "keelson-gateway/" + version.Get().Version
	config.QPS = -1                  // its own limits are for its clients
	config.DisableCompression = true // what comes over the shortest way is not worth packing
	return config, nil
}

// newHandler is everything behind the listener.
func newHandler(o Options, config *rest.Config, hooks gateway.Hooks, ca *dynamiccertificates.DynamicFileCAContent, d *drain, m *filters.Metrics) (http.Handler, *health, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, nil, fmt.Errorf("find the API server's address: %w", err)
	}
	transport, err := newIdentities(config, d)
	if err != nil {
		return nil, nil, err
	}
	client := upstream.New(&url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path}, transport)
	rows := table.Keelson()
	agents, err := newLocator(config, client, o.NodeAgent)
	if err != nil {
		return nil, nil, err
	}
	if agents == nil {
		klog.Background().Info("Serves no logs, streams, node proxies and metrics: the kubeconfig has no client certificate, and --node-agent-client-certificate names none")
	}
	inner, err := gateway.New(gateway.Config{Table: rows, Upstream: client, Nodes: agents, Hooks: hooks, Clock: clock.RealClock{}})
	if err != nil {
		return nil, nil, err
	}
	reviews, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client for reviews: %w", err)
	}
	c := chain{
		limits: filters.Limits{
			ReadOnly: o.Limits.MaxRequestsInFlight, Mutating: o.Limits.MaxMutatingRequestsInFlight,
			UserRate: o.Limits.UserQPS, UserBurst: o.Limits.UserBurst,
		},
		timeout: o.Limits.RequestTimeout.Duration,
		served:  servedFrom(rows),
		metrics: m, drain: d, clock: clock.RealClock{},
		health: &health{client: client, drain: d, clock: clock.RealClock{}},
	}
	var authority dynamiccertificates.CAContentProvider
	if ca != nil {
		authority = ca
	}
	if c.authenticator, err = newAuthenticator(reviews, &tokens.Verifier{Upstream: client, Clock: clock.RealClock{}}, authority, o.Authentication); err != nil {
		return nil, nil, err
	}
	if c.authorizer, err = newAuthorizer(reviews, o.Authorization); err != nil {
		return nil, nil, err
	}
	return c.build(inner), c.health, nil
}

// newLocator reaches agents with the gateway's own client certificate, or the one that is
// for them. All files are read again when they change. It returns nil without either: an
// agent that is shown a token has it, and the gateway's would make one bad node the owner
// of the cluster.
func newLocator(config *rest.Config, client *upstream.Client, o NodeAgent) (*nodes.Locator, error) {
	agents := rest.AnonymousClientConfig(config)
	agents.NextProtos, agents.ServerName = nil, ""
	agents.CertFile, agents.CertData, agents.KeyFile, agents.KeyData = config.CertFile, config.CertData, config.KeyFile, config.KeyData
	if o.CertificateAuthority != "" {
		agents.Insecure, agents.CAData, agents.CAFile = false, nil, o.CertificateAuthority
	}
	if o.ClientCertificate != "" {
		agents.CertData, agents.KeyData = nil, nil
		agents.CertFile, agents.KeyFile = o.ClientCertificate, o.ClientKey
	}
	settings, err := agents.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("--node-agent-client-certificate, --kubeconfig: %w", err)
	}
	if !settings.HasCertAuth() {
		return nil, nil
	}
	settings.TLS.ReloadTLSFiles = settings.TLS.CertFile != ""
	settings.TLS.ReloadCAFiles = settings.TLS.CAFile != ""
	locator, err := nodes.New(nodes.Options{Upstream: client, Transport: settings, Clock: clock.RealClock{}})
	if err != nil {
		return nil, fmt.Errorf("--node-agent-certificate-authority, --node-agent-client-certificate, --kubeconfig: %w", err)
	}
	return locator, nil
}

// servedFrom says which requests are authorized here.
func servedFrom(rows *table.Table) func(*request.RequestInfo) bool {
	return func(info *request.RequestInfo) bool {
		if info.IsResourceRequest && info.APIGroup == metrics.GroupName {
			return true
		}
		_, ok := rows.ForRequest(info)
		return ok
	}
}
