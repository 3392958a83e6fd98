package local

import (
	"strconv"
	"strings"
	"time"

	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/cluster/supervisor"
)

// Names of the components, as `status` prints them and logs are called.
const (
	nameContainerd = "containerd"
	nameEtcd       = "etcd"
	nameAPIServer  = "kube-apiserver"
	nameManifests  = "manifests"
	nameManager    = "keelson-manager"
	nameGateway    = "keelson-gateway"
	nameAdmission  = "admission"
	nameNode       = "keelson-node"
	nameDNS        = "keelson-dns"
)

// startOrder lists them in the order in which they start.
var startOrder = []string{nameContainerd, nameEtcd, nameAPIServer, nameManifests, nameManager, nameGateway, nameAdmission, nameDNS, nameNode}

// plan is what the command lines of a cluster follow from.
type plan struct {
	layout   Layout
	settings Settings
	programs Programs
	store    *pki.Store
	// memory of the machine in bytes.
	memory uint64
	// garbage is GOGC of this process's own environment, which then counts for all.
	garbage string
	// machine is that of a cluster of several nodes, else nil.
	machine *machine
	// dnsImage is the name of the DNS server's image.
	dnsImage string
}

// commands renders the command line of every program that is supervised.
func (p plan) commands() map[string]*supervisor.Command {
	commands := map[string]*supervisor.Command{
		nameEtcd:      {Path: p.programs.Etcd, Args: p.etcdArgs(), Env: p.memoryLimit(8)},
		nameAPIServer: {Path: p.programs.APIServer, Args: p.apiServerArgs(), Env: p.apiServerMemory()},
		nameManager:   {Path: p.programs.Manager, Args: p.managerArgs()},
		nameGateway:   {Path: p.programs.Gateway, Args: p.gatewayArgs(), Env: p.memoryLimit(8)},
	}
	if p.settings.several() {
		commands[nameHostProxy] = &supervisor.Command{Path: p.programs.Node, Args: p.hostProxyArgs()}
		return commands
	}
	site := p.thisMachine()
	commands[nameNode] = &supervisor.Command{Path: p.programs.Node, Args: append(p.nodeArgs(site), p.nodeServerArgs(site)...)}
	if p.settings.OwnContainerd {
		commands[nameContainerd] = &supervisor.Command{Path: p.programs.Containerd, Args: []string{"--config", p.layout.containerdConfig()}}
	}
	return commands
}

// memoryLimit makes the garbage collector work harder when a program nears a part
// of the machine's memory. It is a guard against bursts, not a hard limit.
func (p plan) memoryLimit(part uint64) []string {
	return []string{"GOMEMLIMIT=" + strconv.FormatUint(p.memory/part, 10)}
}

// apiServerGarbage is GOGC of the API server: it is by far the largest program, and most
// of what it holds, the schemas of our kinds, is there from the start and stays.
const apiServerGarbage = "50"

// apiServerMemory makes the API server hold less garbage than Go's default, which is as
// much as is in use; what that costs and spares is in docs/design/benchmarks.md.
func (p plan) apiServerMemory() []string {
	env := p.memoryLimit(4)
	if p.garbage != "" {
		return env
	}
	return append(env, "GOGC="+apiServerGarbage)
}

func (p plan) etcdArgs() []string {
	cert, client := p.store.LeafFile(certEtcd), "https://"+onLoopback(p.settings.Ports.Etcd)
	peer := "https://" + onLoopback(p.settings.Ports.EtcdPeer)
	args := []string{
		"--name=keelson",
		"--data-dir=" + p.layout.etcdDir(),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=keelson=" + peer,
		"--listen-metrics-urls=http://" + onLoopback(p.settings.Ports.EtcdHealth),
		"--client-cert-auth", "--trusted-ca-file=" + p.store.AuthorityFile(etcdCA), "--cert-file=" + cert, "--key-file=" + cert,
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + p.store.AuthorityFile(etcdCA), "--peer-cert-file=" + cert, "--peer-key-file=" + cert,
		"--log-level=warn",
	}
	if p.settings.NoFsync {
		args = append(args, "--unsafe-no-fsync")
	}
	return args
}

func (p plan) apiServerArgs() []string {
	serving, toEtcd := p.store.LeafFile(certAPIServer), p.store.LeafFile(certAPIServerEtcd)
	signingKey, verifyKey := p.store.SigningKeyFiles(serviceAccount)
	return withAPIServerArgs([]string{
		// The node's address, and no other, because Pods must reach it: from their
		// network namespaces loopback is not this machine.
		"--bind-address=" + p.settings.NodeIP.String(),
		"--advertise-address=" + p.settings.NodeIP.String(),
		"--secure-port=" + strconv.Itoa(p.settings.Ports.APIServer),
		"--etcd-servers=https://" + onLoopback(p.settings.Ports.Etcd),
		"--etcd-cafile=" + p.store.AuthorityFile(etcdCA), "--etcd-certfile=" + toEtcd, "--etcd-keyfile=" + toEtcd,
		"--tls-cert-file=" + serving, "--tls-private-key-file=" + serving,
		"--client-ca-file=" + p.store.AuthorityFile(clusterCA),
		"--requestheader-client-ca-file=" + p.store.AuthorityFile(frontProxyCA), "--requestheader-allowed-names=" + certFrontProxy,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + p.store.LeafFile(certFrontProxy), "--proxy-client-key-file=" + p.store.LeafFile(certFrontProxy),
		"--anonymous-auth=false",
		"--enable-bootstrap-token-auth", // keelson token, keelson join
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
		"--service-account-signing-key-file=" + signingKey, "--service-account-key-file=" + verifyKey,
		"--service-cluster-ip-range=" + builtinServiceCIDR,
		// The built-in Service kubernetes is nobody's: ours has its own Endpoints.
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
		"--profiling=false",
	}, p.settings.APIServerArgs)
}

func (p plan) managerArgs() []string {
	ports := p.settings.Ports
	signingKey, _ := p.store.SigningKeyFiles(serviceAccount)
	return append([]string{
		"--kubeconfig=" + p.layout.kubeconfig(certManager),
		"--mode=standalone",
		"--service-cidr=" + p.settings.ServiceCIDR,
		"--cluster-cidr=" + p.settings.ClusterCIDR,
		"--root-ca-file=" + p.store.AuthorityFile(clusterCA),
		"--cluster-signing-cert-file=" + p.store.AuthorityFile(clusterCA), "--cluster-signing-key-file=" + p.store.AuthorityKeyFile(clusterCA),
		"--service-account-private-key-file=" + signingKey,
		"--kubernetes-service-endpoints=" + p.settings.kubernetesServiceAddress(),
		"--webhook-bind-address=127.0.0.1",
		"--webhook-port=" + strconv.Itoa(ports.Webhook),
		"--webhook-url=" + p.settings.webhookURL(),
		"--health-bind-address=" + onLoopback(ports.ManagerHealth),
		"--metrics-bind-address=" + onLoopback(ports.ManagerMetrics),
		// There is one manager, and nobody to wait for after its death but its past self.
		"--leader-elect-identity=keelson-up",
	}, p.poolArgs()...)
}

// poolArgs are the same for the manager and for agents.
func (p plan) poolArgs() []string {
	if len(p.settings.LoadBalancerPool) == 0 {
		return nil
	}
	return []string{"--load-balancer-pool=" + strings.Join(p.settings.LoadBalancerPool, ",")}
}

// gatewayArgs let it serve on the node's address, where Pods reach it, as the API
// server does.
func (p plan) gatewayArgs() []string {
	ports, serving := p.settings.Ports, p.store.LeafFile(certGateway)
	return []string{
		"--kubeconfig=" + p.layout.kubeconfig(certGatewayClient),
		"--bind-address=" + p.settings.NodeIP.String(),
		"--secure-port=" + strconv.Itoa(ports.Gateway),
		"--tls-cert-file=" + serving, "--tls-private-key-file=" + serving,
		"--client-ca-file=" + p.store.AuthorityFile(clusterCA),
		"--health-bind-address=" + onLoopback(ports.GatewayHealth),
		"--metrics-bind-address=" + onLoopback(ports.GatewayMetrics),
		"--drain-timeout=5s",
	}
}

// nodeArgs are also those of the node's cleanup, which has to look in the same places.
func (p plan) nodeArgs(at site) []string {
	args := []string{
		"--kubeconfig=" + p.layout.kubeconfig(at.client),
		"--node-name=" + at.name,
		"--node-ip=" + at.nodeIPs(),
		"--containerd-address=" + at.containerd,
		"--root-dir=" + at.rootDir,
		"--run-dir=" + at.runDir,
		"--service-cidr=" + p.settings.ServiceCIDR,
		"--cluster-cidr=" + p.settings.ClusterCIDR,
		"--cluster-domain=" + clusterDomain,
		"--pause-binary=" + p.programs.Pause,
		"--logger-binary=" + p.programs.Logger,
		"--health-address=" + onLoopback(p.settings.Ports.NodeHealth),
		"--image-dir=" + p.layout.imagesDir(),
	}
	args = append(args, p.poolArgs()...)
	if at.cgroupRoot != "" {
		args = append(args, "--cgroup-root="+at.cgroupRoot)
	}
	if p.settings.RegistryConfigDir != "" {
		args = append(args, "--registry-config-dir="+p.settings.RegistryConfigDir)
	}
	if p.settings.NoDNS {
		return args
	}
	return append(args, "--cluster-dns="+p.settings.dnsAddress().String())
}

// nodeServerArgs let the agent serve the node's API on the node's address, as a kubelet
// does, and run what the owner puts into a folder.
func (p plan) nodeServerArgs(at site) []string {
	return []string{
		"--server-address=" + at.address.String(),
		"--server-port=" + strconv.Itoa(p.settings.Ports.NodeServer),
		"--tls-cert-file=" + p.store.LeafFile(at.server), "--tls-private-key-file=" + p.store.LeafFile(at.server),
		"--client-ca-file=" + p.store.AuthorityFile(clusterCA),
		"--pod-manifest-path=" + at.staticPods,
		"--config=" + p.layout.nodeConfigFile(),
	}
}

// apiServerNeeds is what there must be before it can listen and work.
func (p plan) apiServerNeeds() []string {
	if p.settings.several() {
		return []string{nameEtcd, nameNetwork}
	}
	return []string{nameEtcd}
}

// components joins the commands with what each depends on and how it shows that it
// is ready.
func (p plan) components(probes *probes) []supervisor.Component {
	commands := p.commands()
	var list []supervisor.Component
	if p.settings.several() {
		list = append(list, supervisor.Component{Name: nameNetwork, Task: p.machine.ensureNetwork})
	}
	nodeNeeds := []string{nameManager}
	if c, own := commands[nameContainerd]; own {
		list = append(list, supervisor.Component{
			Name: nameContainerd, Command: c, Ready: probes.socket(p.settings.ContainerdAddress),
			// Containers outlive their cluster's other parts; `down` ends them.
			Leave: true,
		})
		nodeNeeds = append(nodeNeeds, nameContainerd)
	}
	list = append(list,
		supervisor.Component{
			Name: nameEtcd, Command: commands[nameEtcd],
			Ready: probes.http("http://" + onLoopback(p.settings.Ports.EtcdHealth) + "/readyz"),
		},
		supervisor.Component{
			Name: nameAPIServer, Command: commands[nameAPIServer], DependsOn: p.apiServerNeeds(),
			Ready: probes.apiServer, StopTimeout: 20 * time.Second,
		},
		supervisor.Component{
			Name: nameManifests, Task: probes.installManifests, DependsOn: []string{nameAPIServer},
		},
		supervisor.Component{
			Name: nameManager, Command: commands[nameManager], DependsOn: []string{nameAPIServer, nameManifests},
			Ready: probes.http("http://" + onLoopback(p.settings.Ports.ManagerHealth) + "/readyz"),
		},
		supervisor.Component{
			Name: nameGateway, Command: commands[nameGateway], DependsOn: []string{nameAPIServer, nameManifests},
			Ready: probes.http("http://" + onLoopback(p.settings.Ports.GatewayHealth) + "/readyz"), StopTimeout: 15 * time.Second,
		},
		supervisor.Component{
			Name: nameAdmission, Ready: probes.admission, DependsOn: []string{nameManager},
		},
	)
	list = append(list, p.dns(probes))
	if p.settings.several() {
		return append(list, p.severalComponents(probes)...)
	}
	return append(list, supervisor.Component{
		Name: nameNode, Command: commands[nameNode], DependsOn: nodeNeeds,
		Ready: probes.node(p.settings.NodeName), StopTimeout: 15 * time.Second,
	})
}

// containerdConfig is the configuration of a containerd of our own: only what the
// node agent uses, and nothing shared with another containerd on this machine.
func containerdConfig(l Layout) string {
	return renderContainerdConfig(l.containerdRoot(), l.containerdState(), l.containerdSocket())
}

func renderContainerdConfig(root, state, socket string) string {
	return `# Written by keelson up.
version = 2
root = ` + strconv.Quote(root) + `
state = ` + strconv.Quote(state) + `
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
  address = ` + strconv.Quote(socket) + `

[debug]
  level = "warn"
`
}
