package join

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Where a cluster says what its nodes have to know. Machines with a bootstrap token may
// read it (config/rbac/node/joining.yaml).
const (
	ConfigNamespace = "kube-system"
	ConfigName      = "keelson-config"
	ConfigKey       = "node.json"
)

// ClusterConfig is what all nodes of a cluster have to agree on.
type ClusterConfig struct {
	// ServiceCIDR and ClusterCIDR are the ranges of Services and Pods: one, or one of each
	// family, separated by a comma.
	ServiceCIDR string `json:"serviceCIDR"`
	ClusterCIDR string `json:"clusterCIDR"`
	// ClusterDNS is the address of the DNS service; empty when there is none.
	ClusterDNS    string `json:"clusterDNS,omitempty"`
	ClusterDomain string `json:"clusterDomain"`
	// LoadBalancerPool are the addresses of load balancers that nodes announce.
	LoadBalancerPool []string `json:"loadBalancerPool,omitempty"`
	// Overlay and OverlayPort say how Pods reach those of other nodes; empty and 0 are the
	// agent's defaults.
	Overlay     string `json:"overlay,omitempty"`
	OverlayPort int    `json:"overlayPort,omitempty"`
}

// agentArgs are the agent's flags for it.
func (c ClusterConfig) agentArgs() []string {
	args := []string{
		"--service-cidr=" + c.ServiceCIDR,
		"--cluster-cidr=" + c.ClusterCIDR,
		"--cluster-domain=" + c.ClusterDomain,
	}
	if c.ClusterDNS != "" {
		args = append(args, "--cluster-dns="+c.ClusterDNS)
	}
	if len(c.LoadBalancerPool) > 0 {
		args = append(args, "--load-balancer-pool="+strings.Join(c.LoadBalancerPool, ","))
	}
	if c.Overlay != "" {
		args = append(args, "--overlay="+c.Overlay)
	}
	if c.OverlayPort != 0 {
		args = append(args, "--overlay-port="+strconv.Itoa(c.OverlayPort))
	}
	return args
}

// Encode is what the ConfigMap holds.
func (c ClusterConfig) Encode() (string, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode the settings for nodes: %w", err)
	}
	return string(data), nil
}

func decodeConfig(data map[string]string) (ClusterConfig, error) {
	var c ClusterConfig
	text, ok := data[ConfigKey]
	if !ok {
		return c, fmt.Errorf("ConfigMap %s/%s has no key %s: run 'keelson up' on the cluster's machine, which writes it", ConfigNamespace, ConfigName, ConfigKey)
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("decode %s of ConfigMap %s/%s: %w", ConfigKey, ConfigNamespace, ConfigName, err)
	}
	if c.ServiceCIDR == "" || c.ClusterCIDR == "" || c.ClusterDomain == "" {
		return c, fmt.Errorf("%s of ConfigMap %s/%s lacks serviceCIDR, clusterCIDR or clusterDomain", ConfigKey, ConfigNamespace, ConfigName)
	}
	return c, nil
}

var hashForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// HashOf names an authority by its public key, as kubeadm does.
func HashOf(ca *x509.Certificate) string {
	sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func checkHash(hash string) error {
	if hash == "" {
		return errors.New("--ca-hash: is required: 'keelson token create --print-join-command' on the cluster's machine prints it")
	}
	if !hashForm.MatchString(hash) {
		return fmt.Errorf("--ca-hash: %q is not sha256: and 64 lower-case hexadecimal digits", hash)
	}
	return nil
}
