package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/test/env/machine"
)

// nodePins is where `keelson up` pins the namespaces of several nodes.
const nodePins = "/run/keelson/nodes"

// NewNodes prepares a cluster of several nodes. The registry is on the machine's own
// address, where all nodes reach it, and they are told that it speaks plain HTTP. flags
// are added to those of `keelson up`.
func NewNodes(root string, count int, flags ...string) (*Cluster, error) {
	c, err := newCluster(root, machine.NodeIP+":0")
	if err != nil {
		return nil, err
	}
	c.upFlags = []string{"--nodes", strconv.Itoa(count), "--load-balancer-pool", "198.19.0.200-198.19.0.220", "--registry-config-dir", c.registries()}
	c.upFlags = append(c.upFlags, flags...)
	return c, c.Mirror(c.Registry.Host)
}

// DualStackFlags give Pods and Services addresses of both families, IPv4 first.
func DualStackFlags() []string {
	return []string{"--cluster-cidr", "10.244.0.0/16,fd00:10:244::/56", "--service-cidr", "10.254.0.0/16,fd00:10:254::/112"}
}

// NewAt prepares a cluster of one node with the given address, and a registry on it, which
// other machines reach.
func NewAt(root, address string) (*Cluster, error) {
	c, err := newCluster(root, address+":0")
	if err != nil {
		return nil, err
	}
	c.upFlags = []string{"--node-ip", address, "--registry-config-dir", c.Registries()}
	return c, c.Mirror(c.Registry.Host)
}

// Registries is the folder of registry configurations for machines that join.
func (c *Cluster) Registries() string { return c.registries() }

// registries is the folder of registry configurations of several nodes.
func (c *Cluster) registries() string { return filepath.Join(c.DataDir, "registries") }

// Mirror makes the cluster's registry answer for the one of that name on all nodes of a
// cluster that NewNodes prepared.
func (c *Cluster) Mirror(registry string) error {
	folder := filepath.Join(c.registries(), registry)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	hosts := fmt.Sprintf("server = %q\n", "http://"+c.Registry.Host)
	return os.WriteFile(filepath.Join(folder, "hosts.toml"), []byte(hosts), 0o644)
}

// InNode runs f on a thread that is in the namespaces of a node; sockets that f opens
// there stay the node's. f must not wait for other goroutines.
func (c *Cluster) InNode(name string, f func() error) error {
	return nodes.New(nodes.Options{Dir: nodePins}).Enter(name, f)
}

// NodeClient makes its connections from a node, one for each request.
func (c *Cluster) NodeClient(name string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = c.InNode(name, func() (err error) {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
}
