package local

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/keelson-dev/keelson/cluster/internal/systemd"
	"github.com/keelson-dev/keelson/internal/addrpool"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// Options of Up, Down and Status.
type Options struct {
	DataDir string
	RunDir  string
	// NodeName and NodeIP are found out when empty. NodeIP may be two addresses, one of
	// each family, separated by a comma.
	NodeName string
	NodeIP   string
	// ServiceCIDR and ClusterCIDR are the ranges of Services and Pods: one, or one of
	// each family, separated by a comma, the primary one first.
	ServiceCIDR string
	ClusterCIDR string
	// Nodes is how many nodes a new cluster gets, each in namespaces of its own; nil and
	// 1 are this machine itself, for a new cluster.
	Nodes *int
	// NodeNetwork is the range of the addresses of several nodes: of IPv4, or one of each
	// family, separated by a comma.
	NodeNetwork string
	// RegistryConfigDir is the agents' folder of registry configurations; empty leaves it
	// as it was, at first their own default.
	RegistryConfigDir string
	// Timeout limits how long Up waits for the cluster to be ready.
	Timeout time.Duration
	// NoFsync makes etcd faster and a power cut fatal to its data.
	NoFsync bool
	// KubernetesService says what the Service kubernetes leads to, "gateway" or
	// "apiserver"; empty leaves it as it was, and is the gateway at first.
	KubernetesService string
	// DNS runs a DNS server in the cluster; nil leaves it as it was, and is true at first.
	DNS *bool
	// LoadBalancerPool are the addresses of Services of type LoadBalancer; nil leaves them
	// as they were, at first none.
	LoadBalancerPool []string
	// APIServerPort is that of a new cluster's API server; 0 is 6443, or another one where
	// that is taken.
	APIServerPort int
	// APIServerArgs are more flags of the API server, NAME=VALUE; nil leaves them as they
	// were, at first none.
	APIServerArgs []string
	// Systemd lets systemd keep the supervisor up, now and at boot; false leaves it as it
	// was, at first not.
	Systemd bool
	// AsService makes Supervise the main process of that service.
	AsService bool
	// systemd is that of this machine.
	systemd systemd.Manager
	// KeepData makes Down leave the data directory.
	KeepData bool
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		DataDir: ".keelson", RunDir: "/run/keelson",
		ServiceCIDR: "10.254.0.0/16", ClusterCIDR: "10.244.0.0/16",
		NodeNetwork: "198.19.0.0/24",
		Timeout:     3 * time.Minute,
		systemd:     systemd.Machine(),
	}
}

// AddDirFlags binds the flags that all commands share.
func (o *Options) AddDirFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.DataDir, "data-dir", o.DataDir, "Folder for the cluster's data, credentials and logs.")
	fs.StringVar(&o.RunDir, "run-dir", o.RunDir, "Folder for locks and sockets, which need not outlive a reboot.")
}

// AddUpFlags binds the flags of up.
func (o *Options) AddUpFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.NodeName, "node-name", o.NodeName, "Name of the node. Default: the host name.")
	fs.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "IPv4 address of the node, on which the API server listens, and after a comma the node's IPv6 address. Default: the IPv4 address of the default route's interface.")
	o.addNodesFlags(fs)
	fs.BoolVar(&o.Systemd, "systemd", o.Systemd, "Make the cluster a service of systemd, "+unitName+", which starts at boot; 'keelson down' ends that. A cluster that runs without it is handed over.")
	fs.StringVar(&o.ServiceCIDR, "service-cidr", o.ServiceCIDR, "Range of Service addresses; or two, one of IPv4 and one of IPv6, separated by a comma, the primary one first.")
	fs.StringVar(&o.ClusterCIDR, "cluster-cidr", o.ClusterCIDR, "Range of Pod addresses; or two, as in --service-cidr.")
	fs.StringVar(&o.KubernetesService, "kubernetes-service", o.KubernetesService, "What Pods find behind the Service kubernetes: 'gateway' (the plain Kubernetes API) or 'apiserver' (where Pods, Services and so on are custom resources). Default: what the cluster had before, at first the gateway.")
	fs.BoolFunc("dns", "Run a DNS server for the names of Services, and let Pods use it; without it they use the machine's. Default: what the cluster had before, at first true.", func(text string) error {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		o.DNS = &on
		return nil
	})
	fs.StringSliceVar(&o.LoadBalancerPool, "load-balancer-pool", o.LoadBalancerPool, "Addresses for Services of type LoadBalancer, which the nodes announce in their network and nobody else has: ranges such as 198.51.100.10-198.51.100.50 and prefixes such as fd00:5::/112. Default: what the cluster had before, at first none.")
	fs.IntVar(&o.APIServerPort, "apiserver-port", o.APIServerPort, "Port of the API server of a new cluster. Default: 6443, or another one where that is taken.")
	fs.StringArrayVar(&o.APIServerArgs, "apiserver-arg", o.APIServerArgs, "Flag of kube-apiserver, such as enable-admission-plugins=AlwaysPullImages or v=4; for each one more --apiserver-arg. An empty one takes all back. Default: what the cluster had before, at first none.")
	o.AddTimeoutFlag(fs)
	fs.BoolVar(&o.NoFsync, "unsafe-no-fsync", o.NoFsync, "Let etcd skip fsync: faster, and a power cut destroys the data.")
}

// AddSuperviseFlags binds the flags of supervise, beside the folders.
func (o *Options) AddSuperviseFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.AsService, "as-service", o.AsService, "Do first what 'up' does before it starts this, for a service of systemd.")
	fs.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "As for 'up', with --as-service.")
	fs.BoolVar(&o.NoFsync, "unsafe-no-fsync", o.NoFsync, "As for 'up', with --as-service.")
}

// AddTimeoutFlag binds the flag of commands that wait.
func (o *Options) AddTimeoutFlag(fs *pflag.FlagSet) {
	fs.DurationVar(&o.Timeout, "timeout", o.Timeout, "How long to wait until all is ready.")
}

// AddDownFlags binds the flags of down.
func (o *Options) AddDownFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.KeepData, "keep-data", o.KeepData, "Keep the data folder: the objects are there again after the next up.")
}

// maxRunDir leaves room for containerd's longest socket, containerd.sock.ttrpc in a
// folder of its own: it refuses paths beyond 104 characters.
const maxRunDir = 104 - len("/containerd/containerd.sock.ttrpc")

// Validate returns every problem at once, naming the flags.
func (o *Options) Validate() error {
	var errs []error
	if o.DataDir == "" {
		errs = append(errs, errors.New("--data-dir: must not be empty"))
	}
	switch {
	case o.RunDir == "" || o.RunDir[0] != '/':
		errs = append(errs, fmt.Errorf("--run-dir: %q is not an absolute path", o.RunDir))
	case len(o.RunDir) > maxRunDir:
		errs = append(errs, fmt.Errorf("--run-dir: has %d characters, and sockets in it allow %d", len(o.RunDir), maxRunDir))
	}
	if o.NodeName != "" {
		for _, reason := range validation.IsDNS1123Subdomain(o.NodeName) {
			errs = append(errs, fmt.Errorf("--node-name: %q: %s", o.NodeName, reason))
		}
	}
	if o.NodeIP != "" {
		_, _, err := parseNodeIP(o.NodeIP)
		errs = append(errs, err)
	}
	if o.Timeout <= 0 {
		errs = append(errs, errors.New("--timeout: must be more than 0"))
	}
	if o.APIServerPort < 0 || o.APIServerPort > 65535 {
		errs = append(errs, fmt.Errorf("--apiserver-port: %d is not between 1 and 65535", o.APIServerPort))
	}
	errs = append(errs, checkAPIServerArgs(o.APIServerArgs))
	return errors.Join(append(append(errs, o.validateNetwork()...), o.validateNodes()...)...)
}

func (o *Options) validateNetwork() []error {
	var errs []error
	if s := o.KubernetesService; s != "" && s != behindGateway && s != behindAPIServer {
		errs = append(errs, fmt.Errorf("--kubernetes-service: %q is neither %q nor %q", s, behindGateway, behindAPIServer))
	}
	services, err := ranges.Parse("--service-cidr", o.ServiceCIDR)
	errs = append(errs, err)
	pods, err := ranges.Parse("--cluster-cidr", o.ClusterCIDR)
	errs = append(errs, err, ranges.CheckPair("--service-cidr", services, "--cluster-cidr", pods))
	pool, err := addrpool.Parse(o.LoadBalancerPool)
	if err := errors.Join(err, pool.CheckApart("--service-cidr", services), pool.CheckApart("--cluster-cidr", pods)); err != nil {
		errs = append(errs, fmt.Errorf("--load-balancer-pool: %w", err))
	}
	return errs
}
