package local

import (
	"net/netip"
	"path/filepath"

	"github.com/keelson-dev/keelson/cluster/nodes"
)

// site is where the programs of one node run, and as whom.
type site struct {
	name    string
	address netip.Addr
	// address6 is invalid for a node without IPv6.
	address6 netip.Addr
	// client and server name its certificates.
	client, server string
	// containerd is its socket.
	containerd string
	// rootDir, runDir and staticPods are folders, as the node sees them.
	rootDir, runDir, staticPods string
	// cgroupRoot is empty for the agent's default.
	cgroupRoot string
}

// thisMachine is the site of a cluster whose only node is this machine.
func (p plan) thisMachine() site {
	at := p.settings.identities()[0]
	at.containerd = p.settings.ContainerdAddress
	at.rootDir, at.runDir, at.staticPods = p.layout.nodeDir(), p.layout.Run, p.layout.staticPodsDir()
	return at
}

// inNamespaces is the site of one of several nodes.
func (p plan) inNamespaces(n NodeSettings) site {
	at := p.settings.identity(n)
	at.containerd = nodeContainerdSocket
	at.rootDir, at.runDir, at.staticPods = nodes.LibDir, nodeRunDir, p.layout.staticPodsOf(n.Name)
	at.cgroupRoot = nodesOptions(p.layout, p.settings).Cgroup(n.Name)
	return at
}

// Paths inside of one of several nodes.
const (
	nodeRunDir           = nodes.RunDir + "/keelson"
	nodeContainerdState  = nodes.RunDir + "/containerd"
	nodeContainerdSocket = nodeContainerdState + "/containerd.sock"
)

// identities are the sites of all nodes, with what credentials follow from.
func (s Settings) identities() []site {
	if !s.several() {
		return []site{{name: s.NodeName, address: s.NodeIP, address6: s.NodeIP6, client: certNode, server: certNodeServer}}
	}
	var all []site
	for _, n := range s.Nodes {
		all = append(all, s.identity(n))
	}
	return all
}

func (s Settings) identity(n NodeSettings) site {
	return site{name: n.Name, address: n.Address, address6: s.second(n.Address), client: "node-" + n.Name + "-client", server: "node-" + n.Name + "-server"}
}

// staticPodsOf is for manifests that the cluster's owner wants on one of several nodes.
func (l Layout) staticPodsOf(node string) string { return filepath.Join(l.staticPodsDir(), node) }

func (l Layout) nodeContainerdRoot(node string) string {
	return filepath.Join(l.nodeData(node), "containerd")
}

func (l Layout) nodeContainerdConfig(node string) string {
	return filepath.Join(l.configDir(), "containerd-"+node+".toml")
}

func nodesOptions(l Layout, s Settings) nodes.Options {
	return nodes.Options{Dir: l.nodePins(), Network: s.NodeNetwork, Network6: s.NodeNetwork6, CgroupRoot: "/keelson"}
}

// hostProxyArgs run the proxy alone on this machine, so that its programs (the API
// server that calls webhooks, the gateway) reach Services as nodes do.
func (p plan) hostProxyArgs() []string {
	args := p.nodeArgs(site{
		name: p.settings.NodeName, address: p.settings.NodeIP, address6: p.settings.NodeIP6, client: certHostProxy,
		containerd: nodeContainerdSocket, rootDir: p.layout.nodeDir(), runDir: p.layout.Run,
	})
	return append(args, "--agent=false")
}

// Names of the components of several nodes. Those of one node end in @NAME.
const (
	nameNetwork   = "node-network"
	nameHostProxy = "keelson-proxy"
	nameRoutes    = "pod-routes"
	nameMachine   = "machine"
)

func ofNode(component, node string) string { return component + "@" + node }

// nodeComponents are the names of a node's components, in the order of their start.
func nodeComponents(node string) []string {
	return []string{ofNode(nameMachine, node), ofNode(nameContainerd, node), ofNode(nameNode, node)}
}

// startOrder lists the components in the order in which they start.
func (s Settings) startOrder() []string {
	if !s.several() {
		return startOrder
	}
	order := []string{nameNetwork, nameEtcd, nameAPIServer, nameManifests, nameManager, nameGateway, nameAdmission, nameDNS, nameHostProxy, nameRoutes}
	for i := range nodeComponents("") {
		for _, n := range s.Nodes {
			order = append(order, nodeComponents(n.Name)[i])
		}
	}
	return order
}
