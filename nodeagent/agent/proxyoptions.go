package agent

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/network"
	"github.com/keelson-dev/keelson/nodeagent/proxy"
)

// ProxyOptions say how Services are made to work; the flags are kube-proxy's.
type ProxyOptions struct {
	// MasqueradeAll gives all traffic to cluster addresses the node's address.
	MasqueradeAll bool `json:"masqueradeAll"`
	// NodePortAddresses are the ranges in which the machine's addresses are open for node
	// ports, or "primary" for the node's own; empty means all.
	NodePortAddresses []string `json:"nodePortAddresses,omitempty"`
	// LocalhostNodePorts opens node ports on 127.0.0.0/8, too.
	LocalhostNodePorts bool `json:"localhostNodePorts"`
	// LoadBalancerPool are the addresses of load balancers that this node may announce,
	// written as in the manager's setting of that name; empty means none.
	LoadBalancerPool []string `json:"loadBalancerPool,omitempty"`
}

func newProxyOptions() ProxyOptions { return ProxyOptions{LocalhostNodePorts: true} }

func (o *ProxyOptions) addProxyFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.MasqueradeAll, "masquerade-all", o.MasqueradeAll, "Give all traffic to cluster addresses of Services the node's address, also that of Pods.")
	fs.StringSliceVar(&o.NodePortAddresses, "nodeport-addresses", o.NodePortAddresses, "Ranges in which this machine's addresses are open for node ports, or 'primary' for the node's own. Empty: all addresses.")
	fs.BoolVar(&o.LocalhostNodePorts, "iptables-localhost-nodeports", o.LocalhostNodePorts, "Open node ports on 127.0.0.0/8, too.")
	fs.StringSliceVar(&o.LoadBalancerPool, "load-balancer-pool", o.LoadBalancerPool, "Addresses of Services of type LoadBalancer that this node may announce on the interface of its own address: those of the manager's flag. Empty: none.")
}

func (o *ProxyOptions) validateProxy() error {
	if err := proxy.ValidateNodePortAddresses(o.NodePortAddresses); err != nil {
		return fmt.Errorf("--nodeport-addresses: %w", err)
	}
	return nil
}

// newProxy returns the proxy of this machine.
func newProxy(ctx context.Context, o *Options, s settings, a *api, registry prometheus.Registerer) (*proxy.Proxy, error) {
	events := newRecorder(ctx, a, s.name)
	return proxy.New(proxy.Options{
		Cache: a.cache, NodeName: s.name, Facts: s.proxyFacts(nil), AwaitHostPorts: o.Agent, Registerer: registry,
		PodInterfaces: network.PodInterfacePrefix,
		MasqueradeAll: o.MasqueradeAll, NodePortAddresses: o.NodePortAddresses, NoLoopbackNodePorts: !o.LocalhostNodePorts,
		NameServers: nameServers(o.ClusterDNS),
		HealthPortFailed: func(service types.NamespacedName, port uint16, err error) {
			events.healthPortFailed(s.name, service, port, err)
		},
	})
}

// nameServers parses the addresses of the cluster's DNS; validation has refused what is
// none.
func nameServers(clusterDNS []string) []netip.Addr {
	servers := make([]netip.Addr, 0, len(clusterDNS))
	for _, text := range clusterDNS {
		if address, err := netip.ParseAddr(text); err == nil {
			servers = append(servers, address)
		}
	}
	return servers
}

// healthPortFailed tells on a Service that load balancers cannot ask this node.
func (r recorder) healthPortFailed(node string, service types.NamespacedName, port uint16, err error) {
	reference := &corev1.ObjectReference{
		APIVersion: keelsonv1.GroupVersion.String(), Kind: "Service", Namespace: service.Namespace, Name: service.Name,
	}
	r.Eventf(reference, corev1.EventTypeWarning, "FailedToStartServiceHealthcheck",
		"node %s failed to start healthcheck %q on port %d: %v", node, service, port, err)
}
