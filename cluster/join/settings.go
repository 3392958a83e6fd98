package join

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// settings are what was decided when the machine joined. Their file says that it did.
type settings struct {
	Server   string     `json:"server"`
	NodeName string     `json:"nodeName"`
	NodeIP   netip.Addr `json:"nodeIP"`
	// NodeIPGiven says that NodeIP was asked for, and stays whatever the machine has.
	NodeIPGiven       bool   `json:"nodeIPGiven,omitempty"`
	RunDir            string `json:"runDir"`
	ContainerdAddress string `json:"containerdAddress"`
	OwnContainerd     bool   `json:"ownContainerd"`
	CgroupRoot        string `json:"cgroupRoot,omitempty"`
	RegistryConfigDir string `json:"registryConfigDir,omitempty"`
	NodeConfig        string `json:"nodeConfig,omitempty"`
	// Systemd says that the supervisor is a service of systemd.
	Systemd bool          `json:"systemd,omitempty"`
	Cluster ClusterConfig `json:"cluster"`
}

// layout is where the node keeps its files.
type layout struct{ data, run string }

func newLayout(dataDir, runDir string) (layout, error) {
	data, err := filepath.Abs(dataDir)
	if err != nil {
		return layout{}, fmt.Errorf("--data-dir: %w", err)
	}
	if resolved, err := filepath.EvalSymlinks(data); err == nil {
		data = resolved
	}
	return layout{data: data, run: filepath.Clean(runDir)}, nil
}

func (l layout) settingsFile() string     { return filepath.Join(l.data, "node.json") }
func (l layout) commandLock() string      { return filepath.Join(l.data, "command.lock") }
func (l layout) stateFile() string        { return filepath.Join(l.data, "supervisor.json") }
func (l layout) logDir() string           { return filepath.Join(l.data, "logs") }
func (l layout) pkiDir() string           { return filepath.Join(l.data, "pki") }
func (l layout) caFile() string           { return filepath.Join(l.pkiDir(), "cluster-ca.crt") }
func (l layout) clientCert() string       { return filepath.Join(l.pkiDir(), clientPair+"-current.pem") }
func (l layout) kubeconfig() string       { return filepath.Join(l.data, "node.kubeconfig") }
func (l layout) rootDir() string          { return filepath.Join(l.data, "node") }
func (l layout) containerdRoot() string   { return filepath.Join(l.data, "containerd") }
func (l layout) containerdConfig() string { return filepath.Join(l.data, "containerd.toml") }
func (l layout) containerdDir() string    { return filepath.Join(l.run, "containerd") }
func (l layout) containerdSocket() string { return filepath.Join(l.containerdDir(), "containerd.sock") }
func (l layout) supervisorLock() string   { return filepath.Join(l.run, "supervisor.lock") }

// tenantFile names the data directory of the cluster that 'keelson up' runs here.
func (l layout) tenantFile() string { return filepath.Join(l.run, "data-dir") }

// clientPair is what the files of the node's own certificate begin with; the agent renews
// them there.
const clientPair = "keelson-client"

// owned are the files and folders in the data directory, settings last, so that an
// interrupted leave can be run again.
func (l layout) owned() []string {
	return []string{
		l.rootDir(), l.containerdRoot(), l.containerdConfig(), l.kubeconfig(), l.pkiDir(), l.logDir(), l.stateFile(), l.settingsFile(), l.commandLock(),
	}
}

// unfinished are those that a join makes before the settings.
func (l layout) unfinished() []string { return []string{l.kubeconfig(), l.pkiDir()} }

func readSettings(path string) (s settings, ok bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return settings{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return settings{}, false, fmt.Errorf("read the node's settings: %w", err)
	}
	return s, true, nil
}

func (s settings) write(path string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the node's settings: %w", err)
	}
	return files.Replace(path, append(data, '\n'), 0o644)
}

// writeKubeconfig writes how the agent reaches the cluster. Its certificate is named by
// file: it is renewed there.
func writeKubeconfig(l layout, server string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["keelson"] = &clientcmdapi.Cluster{Server: "https://" + server, CertificateAuthority: l.caFile()}
	config.AuthInfos["node"] = &clientcmdapi.AuthInfo{ClientCertificate: l.clientCert(), ClientKey: l.clientCert()}
	config.Contexts["keelson"] = &clientcmdapi.Context{Cluster: "keelson", AuthInfo: "node"}
	config.CurrentContext = "keelson"
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode the node's kubeconfig: %w", err)
	}
	return files.Replace(l.kubeconfig(), data, 0o600)
}

// network is one of this machine's own.
type network struct {
	link   string
	prefix netip.Prefix
}

// machineNetworks are those of all interfaces but the node's own.
func machineNetworks() ([]network, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var all []network
	for _, link := range links {
		if strings.HasPrefix(link.Name, "kls") || strings.HasPrefix(link.Name, "keelson") || link.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := link.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", link.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				all = append(all, network{link.Name, p.Masked()})
			}
		}
	}
	return all, nil
}

// checkNetworks refuses ranges of the cluster that this machine uses for something else.
func checkNetworks(c ClusterConfig, networks []network) error {
	var errs []error
	for _, r := range []struct{ what, cidrs string }{{"Services", c.ServiceCIDR}, {"Pods", c.ClusterCIDR}} {
		list, err := ranges.ParseList(r.cidrs)
		if err != nil {
			return fmt.Errorf("the cluster's range of %s: %w", r.what, err)
		}
		for _, p := range list {
			for _, n := range networks {
				if n.prefix.Overlaps(p) {
					errs = append(errs, fmt.Errorf("the cluster's range of %s, %s, overlaps with the network %s of this machine's interface %s: traffic for one would reach the other; move the machine to another network, or make the cluster anew with other ranges (keelson up --service-cidr, --cluster-cidr)", r.what, p, n.prefix, n.link))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// Joined says whether the folder holds a node.
func Joined(o Options) bool {
	l, err := newLayout(o.DataDir, o.RunDir)
	if err != nil {
		return false
	}
	_, joined, err := readSettings(l.settingsFile())
	return joined && err == nil
}
