package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	cliflag "k8s.io/component-base/cli/flag"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
)

// Options are the settings of keelson-node; the JSON names are those of its config
// file.
type Options struct {
	// Kubeconfig names the file that says how to reach the API server, and as whom.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// NodeName is the name of the Node object; the machine's name by default.
	NodeName string `json:"nodeName,omitempty"`
	// NodeIP is the node's IPv4 address, or one of each family, separated by a comma;
	// by default the first IPv4 one of the interface with the default route.
	NodeIP string `json:"nodeIP,omitempty"`
	// MaxPods bounds the Pods of this node.
	MaxPods int `json:"maxPods"`

	// Agent and Proxy switch the two halves of this program.
	Agent bool `json:"agent"`
	Proxy bool `json:"proxy"`

	// ContainerdAddress is containerd's socket, PauseBinary the static pause program,
	// LoggerBinary the static program that writes containers' logs; empty means "pause"
	// and "keelson-logger" beside this executable.
	ContainerdAddress string `json:"containerdAddress"`
	PauseBinary       string `json:"pauseBinary,omitempty"`
	LoggerBinary      string `json:"loggerBinary,omitempty"`
	// RegistryConfigDir is containerd's folder of registry configurations; empty: ask
	// registries themselves.
	RegistryConfigDir string `json:"registryConfigDir"`

	// AllowPrivileged lets Pods have privileged containers. AllowedUnsafeSysctls are those
	// that Pods may set beside the safe ones; a * at the end stands for any rest.
	AllowPrivileged      bool     `json:"allowPrivileged"`
	AllowedUnsafeSysctls []string `json:"allowedUnsafeSysctls,omitempty"`

	// CgroupRoot is the cgroup above those of all Pods; two agents of one machine need two.
	CgroupRoot string `json:"cgroupRoot"`
	// CgroupDriver is who makes cgroups; only the agent itself, cgroupfs, does.
	CgroupDriver string `json:"cgroupDriver"`
	// PodPidsLimit is the most processes and threads of one Pod; -1 is no limit.
	PodPidsLimit int64 `json:"podPidsLimit"`
	// KubeReserved and SystemReserved are amounts of cpu, memory, ephemeral-storage and
	// pid that Pods do not get; EnforceNodeAllocatable says who is held to that: pods.
	KubeReserved           map[string]string `json:"kubeReserved,omitempty"`
	SystemReserved         map[string]string `json:"systemReserved,omitempty"`
	EnforceNodeAllocatable []string          `json:"enforceNodeAllocatable"`

	// RootDir holds what survives a reboot, RunDir what does not, LogDir the logs.
	RootDir string `json:"rootDir"`
	RunDir  string `json:"runDir"`
	LogDir  string `json:"logDir"`

	// ClusterCIDR is the range of all Pods, ServiceCIDR that of cluster addresses: one, or
	// one of each family, separated by a comma, the primary one first.
	ClusterCIDR string `json:"clusterCIDR"`
	ServiceCIDR string `json:"serviceCIDR"`

	OverlayOptions
	ProxyOptions
	// ClusterDNS lists the addresses of the cluster's DNS service; empty when there is
	// none. ClusterDomain is the domain that it serves.
	ClusterDNS    []string `json:"clusterDNS,omitempty"`
	ClusterDomain string   `json:"clusterDomain"`
	// ResolvConf is the file with the machine's name servers; empty means /etc/resolv.conf,
	// or systemd-resolved's where that names only the machine itself.
	ResolvConf string `json:"resolvConf,omitempty"`

	// ServerAddress and ServerPort are where the node's API is served, port 0 for nowhere.
	ServerAddress string `json:"serverAddress"`
	ServerPort    int    `json:"serverPort"`
	// TLSCertFile and TLSPrivateKeyFile are the certificate of the node's API; without
	// them the node signs one itself. ClientCAFile holds the authorities whose client
	// certificates count there.
	TLSCertFile       string `json:"tlsCertFile,omitempty"`
	TLSPrivateKeyFile string `json:"tlsPrivateKeyFile,omitempty"`
	ClientCAFile      string `json:"clientCAFile,omitempty"`
	// RotateCertificates lets the agent renew the certificates in CertDir: its own, which
	// must be there, and its server's.
	RotateCertificates bool   `json:"rotateCertificates,omitempty"`
	CertDir            string `json:"certDir,omitempty"`

	// PodManifestPath is a folder of manifests of static Pods, or one such file, read every
	// FileCheckFrequency even if nothing seems to change; ManifestURL is asked for more,
	// with ManifestURLHeader, every HTTPCheckFrequency.
	PodManifestPath    string            `json:"podManifestPath,omitempty"`
	FileCheckFrequency metav1.Duration   `json:"fileCheckFrequency"`
	ManifestURL        string            `json:"manifestURL,omitempty"`
	ManifestURLHeader  map[string]string `json:"manifestURLHeader,omitempty"`
	HTTPCheckFrequency metav1.Duration   `json:"httpCheckFrequency"`

	StorageOptions
	PullOptions

	// HealthAddress is where /healthz, /readyz and /metrics are served; empty switches
	// them off.
	HealthAddress string `json:"healthAddress"`
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		MaxPods: 110,
		Agent:   true, Proxy: true,
		ContainerdAddress: "/run/containerd/containerd.sock",
		RegistryConfigDir: "/etc/containerd/certs.d",
		AllowPrivileged:   true,
		CgroupRoot:        cgroups.DefaultRoot, CgroupDriver: cgroupfsDriver, PodPidsLimit: cgroups.Unlimited, EnforceNodeAllocatable: []string{enforcePods},
		RootDir: "/var/lib/keelson", RunDir: "/run/keelson", LogDir: "/var/log",
		ClusterCIDR: "10.244.0.0/16", ServiceCIDR: "10.254.0.0/16",
		ClusterDomain: "cluster.local",
		ServerAddress: "0.0.0.0", ServerPort: 10250,
		HealthAddress: "127.0.0.1:10248",

		OverlayOptions: newOverlayOptions(),
		ProxyOptions:   newProxyOptions(),
		StorageOptions: newStorageOptions(),
		PullOptions:    newPullOptions(),

		FileCheckFrequency: metav1.Duration{Duration: 20 * time.Second},
		HTTPCheckFrequency: metav1.Duration{Duration: 20 * time.Second},
	}
}

// AddFlags adds a flag for every setting.
func (o *Options) AddFlags(fss *cliflag.NamedFlagSets) {
	fs := fss.FlagSet("node")
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "File that says how to reach the API server, and as whom. Required.")
	fs.StringVar(&o.NodeName, "node-name", o.NodeName, "Name of this node. Default: the machine's name.")
	fs.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "IPv4 address of this node; or two addresses, one of IPv4 and one of IPv6, separated by a comma. Default: the first IPv4 one of the interface with the default route.")
	fs.IntVar(&o.MaxPods, "max-pods", o.MaxPods, "Most Pods that this node takes.")
	fs.BoolVar(&o.Agent, "agent", o.Agent, "Run Pods on this machine.")
	fs.BoolVar(&o.Proxy, "proxy", o.Proxy, "Make Services work on this machine.")
	fs.StringVar(&o.HealthAddress, "health-address", o.HealthAddress, "Where to serve /healthz, /readyz and /metrics. Empty: nowhere.")

	fs = fss.FlagSet("containers")
	fs.StringVar(&o.ContainerdAddress, "containerd-address", o.ContainerdAddress, "Socket of containerd.")
	fs.StringVar(&o.PauseBinary, "pause-binary", o.PauseBinary, "Static program that holds a Pod's namespaces. Default: \"pause\" beside this program.")
	fs.StringVar(&o.LoggerBinary, "logger-binary", o.LoggerBinary, "Static program that writes the log of a container; containerd must find it under the same path. Default: \"keelson-logger\" beside this program.")
	fs.StringVar(&o.RegistryConfigDir, "registry-config-dir", o.RegistryConfigDir, "Folder with containerd's registry configurations (REGISTRY/hosts.toml): mirrors and authorities. It need not exist. Empty: ask registries themselves.")
	fs.BoolVar(&o.AllowPrivileged, "allow-privileged", o.AllowPrivileged, "Let Pods have privileged containers.")
	fs.StringSliceVar(&o.AllowedUnsafeSysctls, "allowed-unsafe-sysctls", o.AllowedUnsafeSysctls, "Sysctls that Pods may set beside the safe ones. A * at the end stands for any rest.")
	fs.StringVar(&o.CgroupRoot, "cgroup-root", o.CgroupRoot, "Cgroup above those of all Pods. It is made; two agents of one machine need two.")
	fs.StringVar(&o.CgroupDriver, "cgroup-driver", o.CgroupDriver, "Who makes cgroups: cgroupfs, the agent itself. The other driver of the kubelet, systemd, is not there.")
	fs.Int64Var(&o.PodPidsLimit, "pod-pids-limit", o.PodPidsLimit, "Most processes and threads of one Pod. -1: no limit.")
	fs.StringToStringVar(&o.KubeReserved, "kube-reserved", o.KubeReserved, "What Pods do not get because Keelson's own programs need it, such as cpu=200m,memory=500Mi,ephemeral-storage=1Gi,pid=1000.")
	fs.StringToStringVar(&o.SystemReserved, "system-reserved", o.SystemReserved, "What Pods do not get because the rest of the machine needs it, written as in --kube-reserved.")
	fs.StringSliceVar(&o.EnforceNodeAllocatable, "enforce-node-allocatable", o.EnforceNodeAllocatable, "Who is held to what is left: pods, or none.")
	fs.StringVar(&o.RootDir, "root-dir", o.RootDir, "Folder for what has to survive a reboot.")
	fs.StringVar(&o.RunDir, "run-dir", o.RunDir, "Folder for what does not.")
	fs.StringVar(&o.LogDir, "log-dir", o.LogDir, "Folder whose pods/ and containers/ get the containers' logs.")

	o.addStaticFlags(fss.FlagSet("static pods"))

	o.addStorageFlags(fss.FlagSet("storage"))
	o.addPullFlags(fss.FlagSet("images"))

	fs = fss.FlagSet("server")
	fs.StringVar(&o.ServerAddress, "server-address", o.ServerAddress, "Address to serve the node's API at: logs, exec, statistics.")
	fs.IntVar(&o.ServerPort, "server-port", o.ServerPort, "Port to serve it at. 0: nowhere.")
	fs.StringVar(&o.TLSCertFile, "tls-cert-file", o.TLSCertFile, "Certificate to serve it with, and those above it. Default: one that the node signs itself, kept in the root folder.")
	fs.StringVar(&o.TLSPrivateKeyFile, "tls-private-key-file", o.TLSPrivateKeyFile, "Key of --tls-cert-file.")
	fs.StringVar(&o.ClientCAFile, "client-ca-file", o.ClientCAFile, "Authorities whose client certificates count there. Without it only tokens do.")
	fs.BoolVar(&o.RotateCertificates, "rotate-certificates", o.RotateCertificates, "Renew the node's certificates in --cert-dir before they end: its own, which must be there, and its server's, which takes the place of --tls-cert-file.")
	fs.StringVar(&o.CertDir, "cert-dir", o.CertDir, "Folder of the certificates that are renewed.")

	fs = fss.FlagSet("network")
	fs.StringVar(&o.ClusterCIDR, "cluster-cidr", o.ClusterCIDR, "Address range of all Pods of the cluster; or two, one of IPv4 and one of IPv6, separated by a comma, the primary one first.")
	fs.StringVar(&o.ServiceCIDR, "service-cidr", o.ServiceCIDR, "Address range of Services; or two, as in --cluster-cidr.")
	o.addOverlayFlags(fs)
	o.addProxyFlags(fs)
	fs.StringSliceVar(&o.ClusterDNS, "cluster-dns", o.ClusterDNS, "Addresses of the cluster's DNS service. Empty: Pods use the machine's resolver.")
	fs.StringVar(&o.ResolvConf, "resolv-conf", o.ResolvConf, "File with the name servers and search domains that Pods get from this machine. Default: /etc/resolv.conf, or /run/systemd/resolve/resolv.conf where that names only the machine itself.")
	fs.StringVar(&o.ClusterDomain, "cluster-domain", o.ClusterDomain, "Domain that the cluster's DNS serves.")
}

// Validate returns every problem at once.
func (o *Options) Validate() error {
	var problems []error
	bad := func(flag, format string, args ...any) {
		problems = append(problems, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if o.Kubeconfig == "" {
		bad("kubeconfig", "is required: name the file that says how to reach the API server")
	}
	if !o.Agent && !o.Proxy {
		bad("agent", "is off and so is --proxy: switch one of them on, else there is nothing to do")
	}
	if o.NodeName != "" {
		if msgs := validation.IsDNS1123Subdomain(o.NodeName); len(msgs) > 0 {
			bad("node-name", "%q cannot name a Node: %s", o.NodeName, strings.Join(msgs, "; "))
		}
	}
	if o.NodeIP != "" {
		if _, err := parseNodeIPs(o.NodeIP); err != nil {
			problems = append(problems, err)
		}
	}
	if o.MaxPods < 1 {
		bad("max-pods", "%d: must be at least 1", o.MaxPods)
	}
	for flag, path := range map[string]string{
		"containerd-address": o.ContainerdAddress, "root-dir": o.RootDir, "run-dir": o.RunDir, "log-dir": o.LogDir,
	} {
		if !filepath.IsAbs(path) {
			bad(flag, "%q is not an absolute path", path)
		}
	}
	if o.RegistryConfigDir != "" && !filepath.IsAbs(o.RegistryConfigDir) {
		bad("registry-config-dir", "%q is not an absolute path", o.RegistryConfigDir)
	}
	problems = append(problems, o.validatePolicy()...)
	problems = append(problems, o.validateStatic()...)
	problems = append(problems, o.validatePulls()...)
	problems = append(problems, o.validateCgroupDriver())
	problems = append(problems, o.validateResources()...)
	problems = append(problems, o.validateStorage()...)
	problems = append(problems, o.validateServer()...)
	problems = append(problems, o.validateNetwork()...)
	return errors.Join(problems...)
}

func (o *Options) validateServer() []error {
	var problems []error
	if _, err := netip.ParseAddr(o.ServerAddress); err != nil {
		problems = append(problems, fmt.Errorf("--server-address: %q is not an IP address of this machine; 0.0.0.0 means all", o.ServerAddress))
	}
	if o.ServerPort < 0 || o.ServerPort > 65535 {
		problems = append(problems, fmt.Errorf("--server-port: %d is not a port: use 1 to 65535, or 0 for none", o.ServerPort))
	}
	if (o.TLSCertFile == "") != (o.TLSPrivateKeyFile == "") {
		problems = append(problems, errors.New("--tls-cert-file and --tls-private-key-file: give both, or none"))
	}
	if o.RotateCertificates && o.TLSCertFile != "" {
		problems = append(problems, errors.New("--rotate-certificates and --tls-cert-file: give one of them; the certificate that is renewed is in --cert-dir"))
	}
	if o.RotateCertificates && !filepath.IsAbs(o.CertDir) {
		problems = append(problems, fmt.Errorf("--cert-dir: %q is not an absolute path, which --rotate-certificates needs", o.CertDir))
	}
	return problems
}

func (o *Options) validateNetwork() []error {
	var problems []error
	pods, err := ranges.Parse("--cluster-cidr", o.ClusterCIDR)
	problems = append(problems, err)
	services, err := ranges.Parse("--service-cidr", o.ServiceCIDR)
	problems = append(problems, err, ranges.CheckPair("--service-cidr", services, "--cluster-cidr", pods), o.validateOverlay(pods), o.validateProxy(), o.validatePool(services, pods))
	for _, dns := range o.ClusterDNS {
		if _, err := netip.ParseAddr(dns); err != nil {
			problems = append(problems, fmt.Errorf("--cluster-dns: %q is not an IP address", dns))
		}
	}
	if msgs := validation.IsDNS1123Subdomain(o.ClusterDomain); len(msgs) > 0 {
		problems = append(problems, fmt.Errorf("--cluster-domain: %q is not a domain: %s", o.ClusterDomain, strings.Join(msgs, "; ")))
	}
	problems = append(problems, o.validateResolvConf())
	if o.HealthAddress != "" {
		if _, _, err := net.SplitHostPort(o.HealthAddress); err != nil {
			problems = append(problems, fmt.Errorf("--health-address: %q is not host:port: %w", o.HealthAddress, err))
		}
	}
	return problems
}

// parseNodeIPs reads --node-ip: an IPv4 address, or one of each family in any order.
func parseNodeIPs(text string) ([]netip.Addr, error) {
	var ips []netip.Addr
	has4 := false
	for part := range strings.SplitSeq(text, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || ip.Is4In6() || ip.Zone() != "" || !ip.IsGlobalUnicast() && !ip.IsLoopback() {
			return nil, fmt.Errorf("--node-ip: %q is not an address of this machine, such as 192.0.2.10", part)
		}
		ips, has4 = append(ips, ip), has4 || ip.Is4()
	}
	if !has4 || len(ips) > 2 || len(ips) == 2 && ips[0].Is4() == ips[1].Is4() {
		return nil, fmt.Errorf("--node-ip: %q is neither an IPv4 address nor one of IPv4 and one of IPv6, such as 192.0.2.10,2001:db8::10", text)
	}
	return ips, nil
}

// nodeName is the name given, or the machine's.
func (o *Options) nodeName() (string, error) {
	if o.NodeName != "" {
		return o.NodeName, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("reading the machine's name: %w; give one with --node-name", err)
	}
	name = strings.ToLower(name)
	if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		return "", fmt.Errorf("the machine's name %q cannot name a Node (%s): give one with --node-name", name, strings.Join(msgs, "; "))
	}
	return name, nil
}
