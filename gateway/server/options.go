package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cliflag "k8s.io/component-base/cli/flag"
)

// Options are the settings of keelson-gateway; the JSON names are those of its config
// file.
type Options struct {
	// Kubeconfig is the path of the gateway's own credentials; empty means the account
	// of the Pod it runs in.
	Kubeconfig string `json:"kubeconfig,omitempty"`

	Serving        Serving        `json:"serving,omitempty"`
	Authentication Authentication `json:"authentication,omitempty"`
	Authorization  Authorization  `json:"authorization,omitempty"`
	NodeAgent      NodeAgent      `json:"nodeAgent,omitempty"`
	Limits         Limits         `json:"limits,omitempty"`
	Shutdown       Shutdown       `json:"shutdown,omitempty"`

	// HealthBindAddress serves /healthz, /livez and /readyz over plain HTTP; "0"
	// switches it off. The secure port serves them, too.
	HealthBindAddress string `json:"healthBindAddress,omitempty"`
	// MetricsBindAddress serves /metrics over plain HTTP; "0" switches it off.
	MetricsBindAddress string `json:"metricsBindAddress,omitempty"`
}

// Serving is where clients connect.
type Serving struct {
	BindAddress string `json:"bindAddress,omitempty"`
	Port        int    `json:"port,omitempty"`
	// CertFile and PrivateKeyFile are read again when they change.
	CertFile       string `json:"certFile,omitempty"`
	PrivateKeyFile string `json:"privateKeyFile,omitempty"`
}

// Authentication is how clients prove who they are.
type Authentication struct {
	// ClientCAFile signs client certificates; empty switches them off. It is read again
	// when it changes.
	ClientCAFile string `json:"clientCAFile,omitempty"`
	// TokenCacheTTL is how long the API server's word about a token counts.
	TokenCacheTTL metav1.Duration `json:"tokenCacheTTL,omitempty"`
}

// Authorization is how the API server is asked what they may do.
type Authorization struct {
	// AllowCacheTTL and DenyCacheTTL are how long its answers count.
	AllowCacheTTL metav1.Duration `json:"allowCacheTTL,omitempty"`
	DenyCacheTTL  metav1.Duration `json:"denyCacheTTL,omitempty"`
}

// NodeAgent is how the agents on the nodes are reached for logs, streams and stats.
type NodeAgent struct {
	// CertificateAuthority signs the agents' certificates; empty means the authority of
	// the kubeconfig.
	CertificateAuthority string `json:"certificateAuthority,omitempty"`
	// ClientCertificate and ClientKey are for agents; empty means those of the kubeconfig.
	// Without either the gateway serves nothing that agents answer.
	ClientCertificate string `json:"clientCertificate,omitempty"`
	ClientKey         string `json:"clientKey,omitempty"`
}

// Limits bound what clients can ask for at once; 0 switches one off. Watches and
// streams do not count.
type Limits struct {
	MaxRequestsInFlight         int     `json:"maxRequestsInFlight"`
	MaxMutatingRequestsInFlight int     `json:"maxMutatingRequestsInFlight"`
	UserQPS                     float64 `json:"userQPS"`
	UserBurst                   int     `json:"userBurst"`
	// RequestTimeout ends a request that is no watch and no stream.
	RequestTimeout metav1.Duration `json:"requestTimeout,omitempty"`
}

// Shutdown is how the gateway ends.
type Shutdown struct {
	// Delay is how long it serves on after it has said that it is not ready.
	Delay metav1.Duration `json:"delay,omitempty"`
	// DrainTimeout is how long open requests and streams may take after that.
	DrainTimeout metav1.Duration `json:"drainTimeout,omitempty"`
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	seconds := func(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Second} }
	return &Options{
		Serving:        Serving{BindAddress: "0.0.0.0", Port: 6444},
		Authentication: Authentication{TokenCacheTTL: seconds(10)},
		// A right that was just granted counts at once, as with the API server.
		Authorization:      Authorization{AllowCacheTTL: seconds(10), DenyCacheTTL: seconds(0)},
		Limits:             Limits{MaxRequestsInFlight: 400, MaxMutatingRequestsInFlight: 200, UserQPS: 400, UserBurst: 800, RequestTimeout: seconds(60)},
		Shutdown:           Shutdown{DrainTimeout: seconds(15)},
		HealthBindAddress:  "127.0.0.1:6445",
		MetricsBindAddress: "127.0.0.1:6446",
	}
}

// AddFlags binds flags to the fields; the current values are the defaults.
func (o *Options) AddFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("generic")
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Path of the kubeconfig file that says how the gateway itself reaches the API server, and as whom. Empty: the account of the Pod this runs in.")
	o.addServingFlags(fss)
	o.addAuthFlags(fss)

	fs = fss.FlagSet("node agents")
	fs.StringVar(&o.NodeAgent.CertificateAuthority, "node-agent-certificate-authority", o.NodeAgent.CertificateAuthority, "Authority that signs the serving certificates of node agents. Empty: that of the kubeconfig.")
	fs.StringVar(&o.NodeAgent.ClientCertificate, "node-agent-client-certificate", o.NodeAgent.ClientCertificate, "Client certificate for node agents. Empty: that of the kubeconfig; agents are never shown a token.")
	fs.StringVar(&o.NodeAgent.ClientKey, "node-agent-client-key", o.NodeAgent.ClientKey, "Key of --node-agent-client-certificate.")

	fs = fss.FlagSet("limits")
	fs.IntVar(&o.Limits.MaxRequestsInFlight, "max-requests-inflight", o.Limits.MaxRequestsInFlight, "Most read-only requests that are answered at once; more get 429. 0: no limit.")
	fs.IntVar(&o.Limits.MaxMutatingRequestsInFlight, "max-mutating-requests-inflight", o.Limits.MaxMutatingRequestsInFlight, "Most writing requests that are answered at once; more get 429. 0: no limit.")
	fs.Float64Var(&o.Limits.UserQPS, "user-qps", o.Limits.UserQPS, "Most requests per second of one user; more get 429. 0: no limit.")
	fs.IntVar(&o.Limits.UserBurst, "user-burst", o.Limits.UserBurst, "Most requests of one user at once beyond --user-qps.")
	fs.DurationVar(&o.Limits.RequestTimeout.Duration, "request-timeout", o.Limits.RequestTimeout.Duration, "Longest time of a request that is no watch and no stream.")

	fs = fss.FlagSet("shutdown")
	fs.DurationVar(&o.Shutdown.Delay.Duration, "shutdown-delay", o.Shutdown.Delay.Duration, "How long to serve on after /readyz began to fail, so that load balancers notice.")
	fs.DurationVar(&o.Shutdown.DrainTimeout.Duration, "drain-timeout", o.Shutdown.DrainTimeout.Duration, "How long open requests and streams may take to end after that; watches end at once.")
}

func (o *Options) addServingFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("serving")
	fs.StringVar(&o.Serving.BindAddress, "bind-address", o.Serving.BindAddress, "IP address on which clients connect.")
	fs.IntVar(&o.Serving.Port, "secure-port", o.Serving.Port, "Port on which clients connect, with TLS.")
	fs.StringVar(&o.Serving.CertFile, "tls-cert-file", o.Serving.CertFile, "Serving certificate, with intermediates if any. Read again when it changes. Required.")
	fs.StringVar(&o.Serving.PrivateKeyFile, "tls-private-key-file", o.Serving.PrivateKeyFile, "Key of --tls-cert-file. Required.")
	fs.StringVar(&o.HealthBindAddress, "health-bind-address", o.HealthBindAddress, "Address of /healthz, /livez and /readyz (plain HTTP); 0 switches it off. The secure port serves them, too.")
	fs.StringVar(&o.MetricsBindAddress, "metrics-bind-address", o.MetricsBindAddress, "Address of /metrics (plain HTTP); 0 switches it off.")
}

func (o *Options) addAuthFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("authentication")
	fs.StringVar(&o.Authentication.ClientCAFile, "client-ca-file", o.Authentication.ClientCAFile, "Authority that signs client certificates: common name is the user, organizations are groups. Read again when it changes. Empty: tokens only.")
	fs.DurationVar(&o.Authentication.TokenCacheTTL.Duration, "authentication-token-webhook-cache-ttl", o.Authentication.TokenCacheTTL.Duration, "How long the API server's word about a token counts.")
	fs = fss.FlagSet("authorization")
	fs.DurationVar(&o.Authorization.AllowCacheTTL.Duration, "authorization-webhook-cache-authorized-ttl", o.Authorization.AllowCacheTTL.Duration, "How long the API server's 'allowed' counts.")
	fs.DurationVar(&o.Authorization.DenyCacheTTL.Duration, "authorization-webhook-cache-unauthorized-ttl", o.Authorization.DenyCacheTTL.Duration, "How long its 'denied' counts.")
}

// Validate returns every problem at once, each naming its flag.
func (o *Options) Validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if _, err := netip.ParseAddr(o.Serving.BindAddress); err != nil {
		bad("bind-address", "%q is not an IP address", o.Serving.BindAddress)
	}
	if o.Serving.Port < 1 || o.Serving.Port > 65535 {
		bad("secure-port", "%d is outside 1-65535", o.Serving.Port)
	}
	if o.Serving.CertFile == "" {
		bad("tls-cert-file", "is required: name the certificate that clients shall see")
	}
	if o.Serving.PrivateKeyFile == "" {
		bad("tls-private-key-file", "is required: name the key of --tls-cert-file")
	}
	if (o.NodeAgent.ClientCertificate == "") != (o.NodeAgent.ClientKey == "") {
		bad("node-agent-client-certificate", "and --node-agent-client-key: give both or none")
	}
	for flag, address := range map[string]string{"health-bind-address": o.HealthBindAddress, "metrics-bind-address": o.MetricsBindAddress} {
		if _, _, err := net.SplitHostPort(address); err != nil && address != "0" {
			bad(flag, "%q is neither host:port nor 0: %v", address, err)
		}
	}
	errs = append(errs, o.validateNumbers())
	return errors.Join(errs...)
}

func (o *Options) validateNumbers() error {
	var errs []error
	for _, n := range []struct {
		flag  string
		value float64
	}{
		{"max-requests-inflight", float64(o.Limits.MaxRequestsInFlight)},
		{"max-mutating-requests-inflight", float64(o.Limits.MaxMutatingRequestsInFlight)},
		{"user-qps", o.Limits.UserQPS},
		{"user-burst", float64(o.Limits.UserBurst)},
		{"authentication-token-webhook-cache-ttl", o.Authentication.TokenCacheTTL.Seconds()},
		{"authorization-webhook-cache-authorized-ttl", o.Authorization.AllowCacheTTL.Seconds()},
		{"authorization-webhook-cache-unauthorized-ttl", o.Authorization.DenyCacheTTL.Seconds()},
		{"shutdown-delay", o.Shutdown.Delay.Seconds()},
	} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("--%s: %v must not be less than 0", n.flag, n.value))
		}
	}
	if o.Limits.UserQPS > 0 && o.Limits.UserBurst < 1 {
		errs = append(errs, errors.New("--user-burst: must be at least 1 with --user-qps"))
	}
	if o.Limits.RequestTimeout.Duration <= 0 {
		errs = append(errs, fmt.Errorf("--request-timeout: %s must be more than 0", o.Limits.RequestTimeout.Duration))
	}
	if o.Shutdown.DrainTimeout.Duration <= 0 {
		errs = append(errs, fmt.Errorf("--drain-timeout: %s must be more than 0", o.Shutdown.DrainTimeout.Duration))
	}
	return errors.Join(errs...)
}
