package admission

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/keelson-dev/keelson/controllers/internal/podchain"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
)

// Path is where the webhook is served.
const Path = "/admit"

// Options are the settings of the webhook.
type Options struct {
	// ServiceCIDR is the range of cluster addresses.
	ServiceCIDR string
	// NodePortRange is the range of node ports.
	NodePortRange string
	// URL is the address at which the API server reaches this process where it cannot
	// use a Service; its host name goes into the certificate. Empty: the Service.
	URL string
	// Clock decides when certificates are renewed; nil is the real one.
	Clock clock.PassiveClock
}

// Add serves the webhook on every replica of mgr's process.
func Add(mgr ctrl.Manager, o Options) error {
	services, err := o.servicePolicy(mgr)
	if err != nil {
		return err
	}
	names, err := serverNames(o.URL)
	if err != nil {
		return err
	}
	dryRun, err := newAPIOracle(mgr.GetConfig())
	if err != nil {
		return err
	}
	server, ok := mgr.GetWebhookServer().(*webhook.DefaultServer)
	if !ok {
		return fmt.Errorf("the manager's webhook server is a %T, want controller-runtime's own", mgr.GetWebhookServer())
	}
	chain, err := podchain.New(mgr.GetClient(), mgr.GetAPIReader(), true)
	if err != nil {
		return err
	}
	pods := podPolicy{admit: chain.Admit, readmit: chain.Recheck, warn: chain.Warnings, nodes: mgr.GetClient()}
	certificate := &servingCertificate{}
	server.Options.TLSOpts = append(server.Options.TLSOpts, certificate.serve)
	handler := newHandler(dryRun, services, pods)
	hooks, err := addHooks(mgr, server, handler)
	if err != nil {
		return err
	}
	server.Register(Path, &admission.Webhook{Handler: &certificateGate{reader: mgr.GetAPIReader(), next: handler}})
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	ledger := &quotaLedger{live: mgr.GetAPIReader(), writer: mgr.GetClient().Status(), clock: o.Clock}
	server.Register(QuotaPath, &admission.Webhook{Handler: &quotaGate{reserve: ledger.reserve, ours: ourResources()}})
	if err := addCertificateController(mgr, certificate, names, o.Clock, hooks); err != nil {
		return err
	}
	return errors.Join(
		mgr.AddReadyzCheck("admission", func(*http.Request) error { return certificate.ready() }),
		mgr.AddReadyzCheck("admission-hooks", func(*http.Request) error { return hooks.Ready() }),
	)
}

func (o Options) servicePolicy(mgr ctrl.Manager) (servicePolicy, error) {
	addresses, err := svcranges.ParseServiceCIDRs(o.ServiceCIDR)
	if err != nil {
		return servicePolicy{}, fmt.Errorf("--service-cidr: %w", err)
	}
	ports, err := svcranges.ParseNodePortRange(o.NodePortRange)
	if err != nil {
		return servicePolicy{}, fmt.Errorf("--node-port-range: %w", err)
	}
	return servicePolicy{services: mgr.GetClient(), addresses: addresses, nodePorts: ports}, nil
}

// serverNames are the names that the certificate is for.
func serverNames(address string) ([]string, error) {
	names := []string{ServiceName + "." + systemNamespace + ".svc"}
	if address == "" {
		return names, nil
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("--webhook-url: %w", err)
	}
	host := parsed.Hostname()
	if parsed.Scheme != "https" || host == "" {
		return nil, fmt.Errorf("--webhook-url: %q is not of the form https://name:port", address)
	}
	if net.ParseIP(host) != nil {
		return nil, fmt.Errorf("--webhook-url: %q has an address where the certificate needs a name, such as https://localhost:9443", address)
	}
	return append(names, host), nil
}
