package join

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/keelson-dev/keelson/cluster/internal/systemd"
	"github.com/keelson-dev/keelson/cluster/tokens"
)

// Options of Join and Leave.
type Options struct {
	// Server is the API server as HOST:PORT, Token and CAHash are what its owner printed.
	Server, Token, CAHash string
	// DataDir and RunDir are the node's folders; RunDir need not outlive a reboot.
	DataDir, RunDir string
	// NodeName and NodeIP are found out when empty.
	NodeName, NodeIP string
	// ContainerdAddress is the socket of a containerd; empty: that of the distribution if
	// it answers, else one of our own.
	ContainerdAddress string
	// CgroupRoot is the agent's; empty is its default.
	CgroupRoot string
	// RegistryConfigDir is the agent's folder of registry configurations; empty is its
	// default.
	RegistryConfigDir string
	// NodeConfig is the agent's config file; empty is none.
	NodeConfig string
	// Replace takes a name that another node had.
	Replace bool
	// Systemd lets systemd start the node's supervisor, now and at boot.
	Systemd bool
	// systemd is that of this machine.
	systemd systemd.Manager
	// Timeout limits how long Join waits for the node to be ready.
	Timeout time.Duration
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{DataDir: "/var/lib/keelson/joined", RunDir: "/run/keelson", Timeout: 3 * time.Minute, systemd: systemd.Machine()}
}

// AddDirFlags binds the flags that join and leave share.
func (o *Options) AddDirFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.DataDir, "data-dir", o.DataDir, "Folder for the node's data, credentials and logs.")
}

// AddJoinFlags binds the flags of join.
func (o *Options) AddJoinFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Token, "token", o.Token, "Bootstrap token of the cluster, ID.SECRET.")
	fs.StringVar(&o.CAHash, "ca-hash", o.CAHash, "Hash of the public key of the cluster's authority, sha256:….")
	fs.StringVar(&o.RunDir, "run-dir", o.RunDir, "Folder for locks and sockets, which need not outlive a reboot.")
	fs.StringVar(&o.NodeName, "node-name", o.NodeName, "Name of the node. Default: the host name.")
	fs.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "IPv4 address of the node, where the others reach it. Default: that from which this machine reaches the cluster.")
	fs.StringVar(&o.ContainerdAddress, "containerd-address", o.ContainerdAddress, "Socket of containerd. Default: that of the distribution if it answers, else one that is started for the node.")
	fs.StringVar(&o.CgroupRoot, "cgroup-root", o.CgroupRoot, "Cgroup above those of all Pods. Default: that of keelson-node.")
	fs.StringVar(&o.RegistryConfigDir, "registry-config-dir", o.RegistryConfigDir, "Folder with containerd's registry configurations (REGISTRY/hosts.toml). Default: /etc/containerd/certs.d.")
	fs.StringVar(&o.NodeConfig, "node-config", o.NodeConfig, "Config file of keelson-node, for what else is particular about this machine. Default: none.")
	fs.BoolVar(&o.Replace, "replace", o.Replace, "Take the name of a node although another machine has it, or had it.")
	fs.BoolVar(&o.Systemd, "systemd", o.Systemd, "Make the node a service of systemd, "+unitName+", which starts at boot. On a machine that has joined without it, it takes the node's programs over.")
	fs.DurationVar(&o.Timeout, "timeout", o.Timeout, "How long to wait until the node is ready.")
}

// maxRunDir leaves room for containerd's longest socket: it refuses paths beyond 104
// characters.
const maxRunDir = 104 - len("/containerd/containerd.sock.ttrpc")

// Validate returns every problem at once, naming the flags.
func (o *Options) Validate() error {
	var errs []error
	if o.Server == "" {
		errs = append(errs, errors.New("HOST:PORT of the cluster's API server is missing: 'keelson token create --print-join-command' on the cluster's machine prints the whole command"))
	} else {
		errs = append(errs, checkServer(o.Server))
	}
	if o.Token == "" {
		errs = append(errs, errors.New("--token: is required: 'keelson token create' on the cluster's machine prints one"))
	} else if _, err := tokens.Parse(o.Token); err != nil {
		errs = append(errs, fmt.Errorf("--token: %w", err))
	}
	errs = append(errs, checkHash(o.CAHash))
	if o.Timeout <= 0 {
		errs = append(errs, errors.New("--timeout: must be more than 0"))
	}
	errs = append(errs, o.validateNode()...)
	return errors.Join(append(errs, o.validatePaths()...)...)
}

func (o *Options) validateNode() []error {
	var errs []error
	if o.NodeName != "" {
		for _, reason := range validation.IsDNS1123Subdomain(o.NodeName) {
			errs = append(errs, fmt.Errorf("--node-name: %q: %s", o.NodeName, reason))
		}
	}
	if o.NodeIP != "" {
		if ip, err := netip.ParseAddr(o.NodeIP); err != nil || !ip.Is4() || !ip.IsGlobalUnicast() {
			errs = append(errs, fmt.Errorf("--node-ip: %q is not an IPv4 address of this machine, such as 192.0.2.10", o.NodeIP))
		}
	}
	return errs
}

func (o *Options) validatePaths() []error {
	var errs []error
	for _, given := range []struct{ flag, path string }{
		{"--containerd-address", o.ContainerdAddress},
		{"--registry-config-dir", o.RegistryConfigDir},
		{"--node-config", o.NodeConfig},
	} {
		if given.path != "" && !filepath.IsAbs(given.path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", given.flag, given.path))
		}
	}
	if !filepath.IsAbs(o.RunDir) || len(o.RunDir) > maxRunDir {
		errs = append(errs, fmt.Errorf("--run-dir: %q is not an absolute path of at most %d characters", o.RunDir, maxRunDir))
	}
	return errs
}

func checkServer(server string) error {
	host, port, err := net.SplitHostPort(server)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not HOST:PORT of an API server, such as 192.0.2.10:6443", server)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q: %q is not a port: use 1 to 65535", server, port)
	}
	return nil
}
