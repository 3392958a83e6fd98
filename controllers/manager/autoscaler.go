package manager

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/keelson-dev/keelson/controllers/podautoscaler"
)

// Autoscaler is how HorizontalPodAutoscalers measure and decide; durations are upstream's.
type Autoscaler struct {
	// SyncPeriod is the time between two looks at one autoscaler.
	SyncPeriod metav1.Duration `json:"syncPeriod,omitempty"`
	// Tolerance is the share of the target by which the use may differ from it.
	Tolerance float64 `json:"tolerance,omitempty"`
	// DownscaleStabilization is how long a recommendation holds a scale-down back.
	DownscaleStabilization metav1.Duration `json:"downscaleStabilization,omitempty"`
	// CPUInitializationPeriod is how long after its start a Pod's CPU counts only while
	// it is ready.
	CPUInitializationPeriod metav1.Duration `json:"cpuInitializationPeriod,omitempty"`
	// InitialReadinessDelay is within what a Pod that is not ready never was.
	InitialReadinessDelay metav1.Duration `json:"initialReadinessDelay,omitempty"`
	// PrometheusURL is where metrics are read that agents do not measure; empty means
	// that there are none.
	PrometheusURL string `json:"prometheusURL,omitempty"`
}

// NodeAgent is how the agents on the nodes are reached for what Pods use.
type NodeAgent struct {
	// CertificateAuthority signs the agents' certificates; empty means the authority of
	// the kubeconfig.
	CertificateAuthority string `json:"certificateAuthority,omitempty"`
	// ClientCertificate and ClientKey are for agents; empty means those of the kubeconfig.
	// Without either nothing is known of what Pods use.
	ClientCertificate string `json:"clientCertificate,omitempty"`
	ClientKey         string `json:"clientKey,omitempty"`
}

func newAutoscaler() Autoscaler {
	return Autoscaler{
		SyncPeriod:              metav1.Duration{Duration: 15 * time.Second},
		Tolerance:               0.1,
		DownscaleStabilization:  metav1.Duration{Duration: 5 * time.Minute},
		CPUInitializationPeriod: metav1.Duration{Duration: 5 * time.Minute},
		InitialReadinessDelay:   metav1.Duration{Duration: 30 * time.Second},
	}
}

func (o *Options) addAutoscalerFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("autoscaling")
	a := &o.Autoscaler
	fs.DurationVar(&a.SyncPeriod.Duration, "horizontal-pod-autoscaler-sync-period", a.SyncPeriod.Duration, "Time between two looks at one HorizontalPodAutoscaler.")
	fs.Float64Var(&a.Tolerance, "horizontal-pod-autoscaler-tolerance", a.Tolerance, "Share of the target by which the use may differ from it before anything is scaled.")
	fs.DurationVar(&a.DownscaleStabilization.Duration, "horizontal-pod-autoscaler-downscale-stabilization", a.DownscaleStabilization.Duration, "For how long a recommendation holds a scale-down back.")
	fs.DurationVar(&a.CPUInitializationPeriod.Duration, "horizontal-pod-autoscaler-cpu-initialization-period", a.CPUInitializationPeriod.Duration, "How long after its start a Pod's use of CPU counts only while it is ready.")
	fs.DurationVar(&a.InitialReadinessDelay.Duration, "horizontal-pod-autoscaler-initial-readiness-delay", a.InitialReadinessDelay.Duration, "Time after its start within which a Pod that is not ready counts as never having been ready.")
	fs.StringVar(&a.PrometheusURL, "horizontal-pod-autoscaler-prometheus-url", a.PrometheusURL, "Address of the Prometheus that has the metrics of type Pods, Object and External (http://prometheus.monitoring:9090). Empty: only CPU and memory are known.")
	n := &o.NodeAgent
	fs.StringVar(&n.CertificateAuthority, "node-agent-certificate-authority", n.CertificateAuthority, "Authority that signs the serving certificates of node agents. Empty: that of the kubeconfig.")
	fs.StringVar(&n.ClientCertificate, "node-agent-client-certificate", n.ClientCertificate, "Client certificate for node agents. Empty: that of the kubeconfig; agents are never shown a token.")
	fs.StringVar(&n.ClientKey, "node-agent-client-key", n.ClientKey, "Key of --node-agent-client-certificate.")
}

func (o *Options) validateAutoscaler() error {
	a := o.Autoscaler
	errs := []error{
		positive("--horizontal-pod-autoscaler-sync-period", a.SyncPeriod),
		positive("--horizontal-pod-autoscaler-downscale-stabilization", a.DownscaleStabilization),
		positive("--horizontal-pod-autoscaler-cpu-initialization-period", a.CPUInitializationPeriod),
		positive("--horizontal-pod-autoscaler-initial-readiness-delay", a.InitialReadinessDelay),
	}
	if !(a.Tolerance > 0 && a.Tolerance < 1) {
		errs = append(errs, fmt.Errorf("--horizontal-pod-autoscaler-tolerance: %v is not between 0 and 1", a.Tolerance))
	}
	if a.PrometheusURL != "" {
		if _, err := podautoscaler.NewPrometheus(a.PrometheusURL); err != nil {
			errs = append(errs, fmt.Errorf("--horizontal-pod-autoscaler-prometheus-url: %w", err))
		}
	}
	if (o.NodeAgent.ClientCertificate == "") != (o.NodeAgent.ClientKey == "") {
		errs = append(errs, errors.New("--node-agent-client-certificate and --node-agent-client-key: give both or none"))
	}
	return errors.Join(errs...)
}

func addAutoscaler(mgr ctrl.Manager, o Options) error {
	agents, err := agentTransport(mgr.GetConfig(), o.NodeAgent)
	if err != nil {
		return err
	}
	options := podautoscaler.Options{
		Resources:              podautoscaler.NewAgents(mgr.GetClient(), agents, clock.RealClock{}),
		Period:                 o.Autoscaler.SyncPeriod.Duration,
		Tolerance:              o.Autoscaler.Tolerance,
		DownscaleStabilization: o.Autoscaler.DownscaleStabilization.Duration,
		CPUInitialization:      o.Autoscaler.CPUInitializationPeriod.Duration,
		InitialReadinessDelay:  o.Autoscaler.InitialReadinessDelay.Duration,
	}
	if o.Autoscaler.PrometheusURL != "" {
		if options.Custom, err = podautoscaler.NewPrometheus(o.Autoscaler.PrometheusURL); err != nil {
			return fmt.Errorf("--horizontal-pod-autoscaler-prometheus-url: %w", err)
		}
	}
	return podautoscaler.Add(mgr, options)
}

// agentTransport reaches agents with the manager's own client certificate, or the one
// that is for them; files are read again when they change. It returns nil without either:
// an agent that is shown a token has it, and the manager's is worth the whole cluster.
func agentTransport(config *rest.Config, o NodeAgent) (http.RoundTripper, error) {
	agents := rest.AnonymousClientConfig(config)
	agents.NextProtos, agents.ServerName = nil, ""
	agents.CertFile, agents.CertData, agents.KeyFile, agents.KeyData = config.CertFile, config.CertData, config.KeyFile, config.KeyData
	agents.Dial, agents.WrapTransport = nil, nil // those of the API server
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
	reached, err := transport.New(settings)
	if err != nil {
		return nil, fmt.Errorf("--node-agent-certificate-authority, --node-agent-client-certificate, --kubeconfig: %w", err)
	}
	return reached, nil
}
