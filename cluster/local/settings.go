package local

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

// Settings are what was decided when the cluster was started, kept in the data
// directory so that every later command acts on the same cluster.
type Settings struct {
	NodeName    string     `json:"nodeName"`
	NodeIP      netip.Addr `json:"nodeIP"`
	NodeIP6     netip.Addr `json:"nodeIP6,omitzero"`
	ServiceCIDR string     `json:"serviceCIDR"`
	ClusterCIDR string     `json:"clusterCIDR"`
	RunDir      string     `json:"runDir"`
	NoFsync     bool       `json:"noFsync,omitempty"`
	Ports       Ports      `json:"ports"`
	// ContainerdAddress is the socket; OwnContainerd says that we run it.
	ContainerdAddress string `json:"containerdAddress"`
	OwnContainerd     bool   `json:"ownContainerd"`
	// KubernetesService says what the Service kubernetes leads to; empty, as in the
	// settings of versions without a gateway, is the gateway.
	KubernetesService string `json:"kubernetesService,omitempty"`
	// RegistryConfigDir is the agents' --registry-config-dir; empty is their default.
	RegistryConfigDir string `json:"registryConfigDir,omitempty"`

	// LoadBalancerPool are the addresses of Services of type LoadBalancer.
	LoadBalancerPool []string `json:"loadBalancerPool,omitempty"`

	// Systemd says that systemd keeps the supervisor up.
	Systemd bool `json:"systemd,omitempty"`
	// APIServerArgs are more flags of the API server, with their dashes.
	APIServerArgs []string `json:"apiServerArgs,omitempty"`

	// Nodes are those of a cluster of several, each in namespaces of its own; without
	// them the node is this machine. NodeName is what their names begin with then, and
	// NodeIP and NodeIP6 this machine's addresses on NodeNetwork and NodeNetwork6. Nodes
	// have IPv6 addresses if there is the second one.
	Nodes        []NodeSettings `json:"nodes,omitempty"`
	NodeNetwork  netip.Prefix   `json:"nodeNetwork,omitzero"`
	NodeNetwork6 netip.Prefix   `json:"nodeNetwork6,omitzero"`
	// Generation counts the changes of Nodes.
	Generation int `json:"generation,omitempty"`
	// NoDNS says that the cluster runs no DNS server.
	NoDNS bool `json:"noDNS,omitempty"`
}

// Values of Settings.KubernetesService and --kubernetes-service.
const (
	behindGateway   = "gateway"
	behindAPIServer = "apiserver"
)

// Ports on which the components listen: those tagged so on the node's address, and
// everything else on loopback. One that is 0, because the settings are those of a
// version that did not have it, is preferredPorts'.
type Ports struct {
	APIServer      int `json:"apiServer" listen:"node"`
	Etcd           int `json:"etcd"`
	EtcdPeer       int `json:"etcdPeer"`
	EtcdHealth     int `json:"etcdHealth"`
	Webhook        int `json:"webhook"`
	ManagerHealth  int `json:"managerHealth"`
	ManagerMetrics int `json:"managerMetrics"`
	NodeHealth     int `json:"nodeHealth"`
	NodeServer     int `json:"nodeServer" listen:"node"`
	Gateway        int `json:"gateway" listen:"node"`
	GatewayHealth  int `json:"gatewayHealth"`
	GatewayMetrics int `json:"gatewayMetrics"`
}

// preferredPorts are outside the ranges of NodePorts and of ephemeral ports.
var preferredPorts = Ports{
	APIServer: 6443, Etcd: 12379, EtcdPeer: 12380, EtcdHealth: 12381,
	Webhook: 19443, ManagerHealth: 18081, ManagerMetrics: 18080, NodeHealth: 10248, NodeServer: 10250,
	Gateway: 6444, GatewayHealth: 18082, GatewayMetrics: 18083,
}

// machineSocket is where a containerd of the distribution listens.
const machineSocket = "/run/containerd/containerd.sock"

func readSettings(path string) (s Settings, ok bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Settings{}, false, nil
	}
	if err != nil {
		return Settings{}, false, fmt.Errorf("read the cluster's settings: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return Settings{}, false, fmt.Errorf("decode the cluster's settings in %s: %w (correct the file, or end the cluster with 'keelson down', which knows a copy until the machine restarts)", path, err)
	}
	return s, true, nil
}

func (s Settings) write(path string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the cluster's settings: %w", err)
	}
	return files.Replace(path, append(data, '\n'), 0o644)
}

// surroundings is what newSettings needs to know of the machine.
type surroundings struct {
	hostname   string
	detectIP   func() (netip.Addr, error)
	free       func(addr netip.Addr, port int) bool
	choose     func(addr netip.Addr) (int, error)
	containerd bool // the machine's own answers
	// networks are the ranges of the machine's interfaces.
	networks func() ([]netip.Prefix, error)
}

// decideSettings returns the settings of a cluster that is about to start: those it
// had before, except for what the machine does not allow any more.
func decideSettings(old *Settings, o Options, l Layout, m surroundings) (Settings, error) {
	var s Settings
	if old != nil {
		s = *old
		if err := sameCluster(s, o); err != nil {
			return Settings{}, err
		}
	} else {
		s = newSettings(o, l, m)
	}
	s = s.with(o, l)
	if reasons := validation.IsDNS1123Subdomain(s.NodeName); len(reasons) > 0 {
		return Settings{}, fmt.Errorf("the host name %q cannot be a node's name (%s): give --node-name", s.NodeName, strings.Join(reasons, "; "))
	}
	if !s.several() && !s.OwnContainerd && !m.containerd {
		return Settings{}, fmt.Errorf("this cluster's containers are in the machine's containerd, which does not answer at %s: start it (systemctl start containerd)", s.ContainerdAddress)
	}
	var err error
	if s.several() {
		return decideSeveral(s, o, l, m)
	}
	if s.NodeIP, s.NodeIP6, err = decideNodeIP(o, m); err != nil {
		return Settings{}, err
	}
	if err := s.checkPool(); err != nil {
		return Settings{}, err
	}
	if err := checkAPIServerPort(o, s.NodeIP, m); err != nil {
		return Settings{}, err
	}
	s.Ports, err = decidePorts(s.Ports, s.NodeIP, m)
	return s, err
}

// with is what flags make of the settings of a cluster that is about to start.
func (s Settings) with(o Options, l Layout) Settings {
	if o.RegistryConfigDir != "" {
		s.RegistryConfigDir = o.RegistryConfigDir
	}
	if o.LoadBalancerPool != nil {
		s.LoadBalancerPool = o.LoadBalancerPool
	}
	if o.APIServerArgs != nil {
		s.APIServerArgs = normalizeAPIServerArgs(o.APIServerArgs)
	}
	s.RunDir, s.NoFsync, s.Systemd = l.Run, o.NoFsync, s.Systemd || o.Systemd
	if o.DNS != nil {
		s.NoDNS = !*o.DNS
	}
	if o.KubernetesService != "" {
		s.KubernetesService = o.KubernetesService
	}
	return s
}

// newSettings are those of a cluster that is made now.
func newSettings(o Options, l Layout, m surroundings) Settings {
	s := Settings{
		NodeName: o.NodeName, ServiceCIDR: o.ServiceCIDR, ClusterCIDR: o.ClusterCIDR,
		ContainerdAddress: machineSocket, OwnContainerd: !m.containerd, Ports: preferredPorts,
	}
	if s.NodeName == "" {
		s.NodeName = strings.ToLower(m.hostname)
	}
	s.Ports.APIServer = cmp.Or(o.APIServerPort, s.Ports.APIServer)
	if o.Nodes != nil && *o.Nodes > 1 {
		return newSeveral(s, o)
	}
	if s.OwnContainerd {
		s.ContainerdAddress = l.containerdSocket()
	}
	return s
}

// sameCluster refuses flags that contradict what the cluster was made with.
func sameCluster(s Settings, o Options) error {
	var errs []error
	defaults := NewOptions()
	for _, c := range []struct{ flag, given, unset, have string }{
		{"--node-name", o.NodeName, "", s.NodeName},
		{"--run-dir", o.RunDir, defaults.RunDir, s.RunDir},
		{"--service-cidr", o.ServiceCIDR, defaults.ServiceCIDR, s.ServiceCIDR},
		{"--cluster-cidr", o.ClusterCIDR, defaults.ClusterCIDR, s.ClusterCIDR},
	} {
		if c.given != c.unset && c.given != c.have {
			errs = append(errs, fmt.Errorf("%s: the cluster was made with %s, not %s: run 'keelson down' first", c.flag, c.have, c.given))
		}
	}
	if o.APIServerPort != 0 && o.APIServerPort != s.Ports.APIServer {
		errs = append(errs, fmt.Errorf("--apiserver-port: the cluster has %d, not %d: run 'keelson down' first", s.Ports.APIServer, o.APIServerPort))
	}
	errs = append(errs, sameNodes(s, o)...)
	return errors.Join(errs...)
}

// sameWhileRunning refuses flags that would take a restart.
func sameWhileRunning(s Settings, o Options) error {
	const how = "end it with 'keelson down --keep-data' first"
	var errs []error
	if ip, ip6, err := parseNodeIP(o.NodeIP); o.NodeIP != "" && (err != nil || ip != s.NodeIP || ip6 != s.NodeIP6) {
		errs = append(errs, fmt.Errorf("--node-ip: the cluster runs on %s: %s", joinAddresses(s.NodeIP, s.NodeIP6), how))
	}
	if o.NoFsync && !s.NoFsync {
		errs = append(errs, fmt.Errorf("--unsafe-no-fsync: the cluster runs without: %s", how))
	}
	if o.DNS != nil && *o.DNS == s.NoDNS {
		errs = append(errs, fmt.Errorf("--dns: the cluster runs with %t: %s", !s.NoDNS, how))
	}
	if o.LoadBalancerPool != nil && !slices.Equal(o.LoadBalancerPool, s.LoadBalancerPool) {
		errs = append(errs, fmt.Errorf("--load-balancer-pool: the cluster runs with %s: %s", cmp.Or(strings.Join(s.LoadBalancerPool, ","), "none"), how))
	}
	errs = append(errs, sameAPIServer(s, o, how))
	if have := cmp.Or(s.KubernetesService, behindGateway); o.KubernetesService != "" && o.KubernetesService != have {
		errs = append(errs, fmt.Errorf("--kubernetes-service: the cluster runs with %s: %s", have, how))
	}
	if o.RegistryConfigDir != "" && o.RegistryConfigDir != s.RegistryConfigDir {
		errs = append(errs, fmt.Errorf("--registry-config-dir: the cluster runs with %s: %s", cmp.Or(s.RegistryConfigDir, "the default"), how))
	}
	return errors.Join(errs...)
}

func sameAPIServer(s Settings, o Options, how string) error {
	if o.APIServerArgs == nil || slices.Equal(normalizeAPIServerArgs(o.APIServerArgs), s.APIServerArgs) {
		return nil
	}
	return fmt.Errorf("--apiserver-arg: the cluster runs with %s: %s", cmp.Or(strings.Join(s.APIServerArgs, " "), "none"), how)
}

// checkPool refuses a pool that has an address of this machine or of a node.
func (s Settings) checkPool() error {
	pool, err := addrpool.Parse(s.LoadBalancerPool)
	if err != nil {
		return fmt.Errorf("--load-balancer-pool: %w", err)
	}
	if s.NodeIP6.IsValid() && pool.Contains(s.NodeIP6) {
		return fmt.Errorf("--load-balancer-pool: %s is the address of a machine: leave it out", s.NodeIP6)
	}
	used := []netip.Addr{s.NodeIP}
	for _, n := range s.Nodes {
		used = append(used, n.Address)
	}
	for _, addr := range used {
		if !addr.IsValid() {
			return fmt.Errorf("--load-balancer-pool: %s leaves no address of %s for a node: make it smaller", pool, s.nodeNetworks())
		}
		if a, taken := s.inPool(pool, addr); taken {
			return fmt.Errorf("--load-balancer-pool: %s is the address of a machine: leave it out", a)
		}
	}
	return nil
}

func decideNodeIP(o Options, m surroundings) (ip, ip6 netip.Addr, err error) {
	if o.NodeIP == "" {
		ip, err = m.detectIP()
		return ip, ip6, err
	}
	ip, ip6, err = parseNodeIP(o.NodeIP)
	if err == nil && ip6.IsValid() && !m.free(ip6, 0) {
		err = fmt.Errorf("--node-ip: cannot listen on %s, which must be an address of this machine", ip6)
	}
	return ip, ip6, err
}

// decidePorts keeps the ports that are free and finds others for those that
// somebody else took meanwhile.
func decidePorts(p Ports, node netip.Addr, m surroundings) (Ports, error) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	v, preferred := reflect.ValueOf(&p).Elem(), reflect.ValueOf(preferredPorts)
	for i := range v.NumField() {
		addr := loopback
		if v.Type().Field(i).Tag.Get("listen") == "node" {
			addr = node
		}
		if v.Field(i).Int() == 0 {
			v.Field(i).Set(preferred.Field(i))
		}
		if m.free(addr, int(v.Field(i).Int())) {
			continue
		}
		port, err := m.choose(addr)
		if err != nil && addr == node {
			return Ports{}, fmt.Errorf("--node-ip: cannot listen on %s, which must be an address of this machine: %w", addr, err)
		}
		if err != nil {
			return Ports{}, fmt.Errorf("find a free port on %s: %w", addr, err)
		}
		v.Field(i).SetInt(int64(port))
	}
	return p, nil
}

// look finds out about this machine.
func look() (surroundings, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return surroundings{}, fmt.Errorf("find the host name: %w", err)
	}
	return surroundings{
		hostname: hostname, detectIP: detectNodeIP,
		free: portFree, choose: choosePort, containerd: answers(machineSocket), networks: machineNetworks,
	}, nil
}

// detectNodeIP asks the kernel which address it would send from; a UDP socket that
// is only connected sends nothing.
func detectNodeIP() (netip.Addr, error) {
	conn, err := net.Dial("udp4", "192.0.2.1:9") // TEST-NET-1: behind the default route
	if err == nil {
		addr := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		if err := conn.Close(); err != nil {
			return netip.Addr{}, fmt.Errorf("close the socket: %w", err)
		}
		return addr, nil
	}
	addrs, addrsErr := net.InterfaceAddrs()
	if addrsErr != nil {
		return netip.Addr{}, fmt.Errorf("list addresses: %w", addrsErr)
	}
	for _, a := range addrs {
		if p, parseErr := netip.ParsePrefix(a.String()); parseErr == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("this machine has no IPv4 address but loopback (%w): give one with --node-ip", err)
}

func portFree(addr netip.Addr, port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(addr.String(), strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func choosePort(addr netip.Addr) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(addr.String(), "0"))
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// answers says whether somebody accepts connections on a socket; a socket file
// whose process is gone refuses them.
func answers(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
