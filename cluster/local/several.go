package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

// maxNodes is beyond what one machine carries, and below what one bridge has ports for.
const maxNodes = 200

// NodeSettings are what was decided of one of several nodes.
type NodeSettings struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	// Boot counts its starts.
	Boot int `json:"boot"`
	// Stopped says that it is switched off, Deleting that it is on its way out.
	Stopped  bool `json:"stopped,omitempty"`
	Deleting bool `json:"deleting,omitempty"`
	// Cut says what of its traffic gets lost.
	Cut nodes.Cut `json:"cut,omitzero"`
}

// on says that it is to run.
func (n NodeSettings) on() bool { return !n.Stopped && !n.Deleting }

// several says that the nodes are in namespaces, even if one is left by now.
func (s Settings) several() bool { return s.NodeNetwork.IsValid() }

func (o *Options) addNodesFlags(fs *pflag.FlagSet) {
	fs.Func("nodes", "How many nodes a new cluster gets: 1 is this machine itself; of more, each is in network and mount namespaces of its own, called HOSTNAME-1 and so on. Default: 1. See also 'keelson node add'.", func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		o.Nodes = &n
		return nil
	})
	fs.StringVar(&o.NodeNetwork, "node-network", o.NodeNetwork, "IPv4 range of the addresses of several nodes, and after a comma one of IPv6. The first address is this machine's, where the API server listens. Nodes whose Pods have IPv6 get addresses in "+defaultNodeNetwork6.String()+" unless told otherwise.")
	fs.StringVar(&o.RegistryConfigDir, "registry-config-dir", o.RegistryConfigDir, "Folder with containerd's registry configurations (REGISTRY/hosts.toml) for all nodes. Default: what the cluster had before, at first /etc/containerd/certs.d.")
}

func (o *Options) validateNodes() []error {
	var errs []error
	network, network6, err := parseNodeNetwork(o.NodeNetwork)
	if err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, checkNodeNetwork(o.ServiceCIDR, o.ClusterCIDR, network, secondNetwork(*o, network6)))
	}
	if o.RegistryConfigDir != "" && o.RegistryConfigDir[0] != '/' {
		errs = append(errs, fmt.Errorf("--registry-config-dir: %q is not an absolute path", o.RegistryConfigDir))
	}
	if o.Nodes == nil {
		return errs
	}
	if n := *o.Nodes; n < 1 || n > maxNodes {
		return append(errs, fmt.Errorf("--nodes: %d is not between 1 and %d", n, maxNodes))
	}
	if *o.Nodes == 1 {
		return errs
	}
	if network.IsValid() && *o.Nodes > nodes.Capacity(network) {
		errs = append(errs, fmt.Errorf("--nodes: %s (--node-network) has addresses for %d nodes, not for %d", network, nodes.Capacity(network), *o.Nodes))
	}
	if o.NodeName != "" {
		errs = append(errs, errors.New("--node-name: names the only node, and --nodes asks for several: leave one of them out"))
	}
	if o.NodeIP != "" {
		errs = append(errs, errors.New("--node-ip: is the address of the only node, and --nodes asks for several: give --node-network instead"))
	}
	return errs
}

// newSeveral completes the settings of a new cluster of several nodes.
func newSeveral(s Settings, o Options) Settings {
	s.NodeName, _, _ = strings.Cut(s.NodeName, ".")
	network, network6, _ := parseNodeNetwork(o.NodeNetwork) // validated
	s.NodeNetwork, s.NodeNetwork6 = network, secondNetwork(o, network6)
	s.ContainerdAddress, s.OwnContainerd = "", true
	s.LoadBalancerPool = o.LoadBalancerPool // which the nodes' addresses make way for
	for number := range *o.Nodes {
		s.addNode(fmt.Sprintf("%s-%d", s.NodeName, number+1), netip.Addr{})
	}
	return s
}

// addNode appends a node; without an address it gets the lowest that is free.
func (s *Settings) addNode(name string, address netip.Addr) {
	if !address.IsValid() {
		pool, _ := addrpool.Parse(s.LoadBalancerPool) // validated
		for a := range nodes.Addresses(s.NodeNetwork) {
			if _, taken := s.inPool(pool, a); !taken && !slices.ContainsFunc(s.Nodes, func(n NodeSettings) bool { return n.Address == a }) {
				address = a
				break
			}
		}
	}
	s.Nodes = append(s.Nodes, NodeSettings{Name: name, Address: address, Boot: 1})
}

// checkNodeName says why a machine cannot be called so.
func checkNodeName(name string) error {
	if reasons := validation.IsDNS1123Label(name); len(reasons) > 0 {
		return fmt.Errorf("%q cannot be a node's name: %s", name, strings.Join(reasons, "; "))
	}
	return nil
}

// decideSeveral decides what depends on the machine.
func decideSeveral(s Settings, o Options, l Layout, m surroundings) (Settings, error) {
	for _, n := range s.Nodes {
		if err := checkNodeName(n.Name); err != nil {
			return Settings{}, fmt.Errorf("the nodes are called after this machine (%s), and %w: change the host name", m.hostname, err)
		}
	}
	if o.NodeIP != "" {
		return Settings{}, errors.New("--node-ip: is the address of the only node, and this cluster has several")
	}
	if err := checkNodeNetwork(s.ServiceCIDR, s.ClusterCIDR, s.NodeNetwork, s.NodeNetwork6); err != nil {
		return Settings{}, err
	}
	for _, shared := range []struct{ flag, path string }{{"--data-dir", l.Data}, {"--registry-config-dir", s.RegistryConfigDir}} {
		if dir := nodes.Covered(shared.path); dir != "" {
			return Settings{}, fmt.Errorf("%s: %s is below %s, of which every node has its own: choose a folder elsewhere", shared.flag, shared.path, dir)
		}
	}
	used, err := m.networks()
	if err != nil {
		return Settings{}, err
	}
	for _, p := range used {
		for _, network := range []netip.Prefix{s.NodeNetwork, s.NodeNetwork6} {
			if network.IsValid() && p.Overlaps(network) {
				return Settings{}, fmt.Errorf("--node-network: %s overlaps %s, which this machine is in: choose another range", network, p)
			}
		}
	}
	s.NodeIP = nodes.Gateway(s.NodeNetwork)
	s.NodeIP6 = s.second(s.NodeIP)
	if err := s.checkPool(); err != nil {
		return Settings{}, err
	}
	// The bridge with that address need not be there yet: a port must be free on all.
	if err := checkAPIServerPort(o, netip.IPv4Unspecified(), m); err != nil {
		return Settings{}, err
	}
	s.Ports, err = decidePorts(s.Ports, netip.IPv4Unspecified(), m)
	return s, err
}

// machineNetworks are those of all interfaces but the bridge of nodes.
func machineNetworks() ([]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var used []netip.Prefix
	for _, i := range interfaces {
		if i.Name == nodes.Bridge {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				used = append(used, p.Masked())
			}
		}
	}
	return used, nil
}

// sameNodes refuses flags that contradict the nodes that a cluster has.
func sameNodes(s Settings, o Options) []error {
	var errs []error
	have := max(1, len(s.Nodes))
	switch {
	case o.Nodes == nil || *o.Nodes == have && s.several() == (have > 1):
	case s.several():
		errs = append(errs, fmt.Errorf("--nodes: the cluster has %d nodes, not %d: change that with 'keelson node add' and 'keelson node delete'", have, *o.Nodes))
	default:
		errs = append(errs, fmt.Errorf("--nodes: the only node of this cluster is this machine itself, which cannot be joined by %d others: run 'keelson down' first", *o.Nodes-1))
	}
	if o.NodeNetwork != NewOptions().NodeNetwork && o.NodeNetwork != s.nodeNetworks() {
		if s.several() {
			errs = append(errs, fmt.Errorf("--node-network: the cluster was made with %s, not %s: run 'keelson down' first", s.nodeNetworks(), o.NodeNetwork))
		} else {
			errs = append(errs, errors.New("--node-network: the only node of this cluster is this machine itself: run 'keelson down' first"))
		}
	}
	return errs
}
