package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/test/env/machine"
)

// The machine is this benchmark's alone, so names, ranges and ports are fixed.
const (
	clusterCA      = "cluster-ca"
	etcdCA         = "etcd-ca"
	serviceAccount = "service-account"

	adminName = "admin"
	etcdName  = "etcd"
	toEtcd    = "apiserver-etcd-client"
	nodeName  = "bench"

	apiServerURL = "https://" + machine.NodeIP + ":6443"
	etcdURL      = "https://127.0.0.1:2379"
	etcdPeerURL  = "https://127.0.0.1:2380"
	serviceCIDR  = "10.254.0.0/16"
	podCIDR      = "10.244.0.0/24"

	containerdSocket = "/run/bench/containerd.sock"
)

// stockUsers are the identities of the parts that talk to the API server.
var stockUsers = []pki.Leaf{
	{Name: adminName, User: "admin", Groups: []string{"system:masters"}},
	{Name: "kube-controller-manager", User: "system:kube-controller-manager"},
	{Name: "kube-scheduler", User: "system:kube-scheduler"},
	{Name: "kubelet", User: "system:node:" + nodeName, Groups: []string{"system:nodes"}},
	{Name: "kube-proxy", User: "system:kube-proxy"},
}

func stockLeaves(node netip.Addr) []pki.Leaf {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	service := netip.MustParsePrefix(serviceCIDR).Addr().Next()
	leaves := []pki.Leaf{
		{
			Name: "apiserver", Authority: clusterCA, User: "kube-apiserver", Usage: pki.Server,
			DNSNames:  []string{"localhost", "kubernetes", "kubernetes.default.svc"},
			Addresses: []netip.Addr{loopback, node, service},
		},
		{Name: toEtcd, Authority: etcdCA, User: "kube-apiserver", Usage: pki.Client},
		{Name: etcdName, Authority: etcdCA, User: "etcd", Usage: pki.Peer, DNSNames: []string{"localhost"}, Addresses: []netip.Addr{loopback}},
	}
	for _, user := range stockUsers {
		user.Authority, user.Usage = clusterCA, pki.Client
		leaves = append(leaves, user)
	}
	return leaves
}

// args is the command line of one program.
func (s *stock) args(name string) []string {
	switch name {
	case "containerd":
		return []string{"--config", s.configFile("containerd.toml")}
	case "etcd":
		return s.etcdArgs()
	case "kube-apiserver":
		return s.apiServerArgs()
	case "kube-controller-manager":
		private, _ := s.store.SigningKeyFiles(serviceAccount)
		return []string{
			"--kubeconfig=" + s.kubeconfig(name), "--use-service-account-credentials",
			"--service-account-private-key-file=" + private, "--root-ca-file=" + s.store.AuthorityFile(clusterCA),
			"--flex-volume-plugin-dir=" + filepath.Join(s.dir, "volume-plugins"),
		}
	case "kube-scheduler":
		return []string{"--kubeconfig=" + s.kubeconfig(name)}
	case "kubelet":
		return []string{
			"--config=" + s.configFile("kubelet.yaml"), "--kubeconfig=" + s.kubeconfig(name),
			"--root-dir=" + s.kubeletDir(), "--hostname-override=" + nodeName, "--node-ip=" + machine.NodeIP,
		}
	default:
		return []string{"--config=" + s.configFile("kube-proxy.yaml")}
	}
}

func (s *stock) etcdArgs() []string {
	cert, ca := s.store.LeafFile(etcdName), s.store.AuthorityFile(etcdCA)
	return []string{
		"--name=bench", "--data-dir=" + filepath.Join(s.dir, "etcd"),
		"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=" + etcdPeerURL, "--initial-advertise-peer-urls=" + etcdPeerURL, "--initial-cluster=bench=" + etcdPeerURL,
		"--client-cert-auth", "--trusted-ca-file=" + ca, "--cert-file=" + cert, "--key-file=" + cert,
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + ca, "--peer-cert-file=" + cert, "--peer-key-file=" + cert,
		"--log-level=warn",
	}
}

func (s *stock) apiServerArgs() []string {
	serving, client := s.store.LeafFile("apiserver"), s.store.LeafFile(toEtcd)
	private, public := s.store.SigningKeyFiles(serviceAccount)
	return []string{
		"--bind-address=" + machine.NodeIP, "--advertise-address=" + machine.NodeIP, "--secure-port=6443",
		"--etcd-servers=" + etcdURL, "--etcd-cafile=" + s.store.AuthorityFile(etcdCA), "--etcd-certfile=" + client, "--etcd-keyfile=" + client,
		"--tls-cert-file=" + serving, "--tls-private-key-file=" + serving,
		"--client-ca-file=" + s.store.AuthorityFile(clusterCA),
		"--anonymous-auth=false", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + private, "--service-account-key-file=" + public,
		"--service-cluster-ip-range=" + serviceCIDR,
		"--allow-privileged=true", "--profiling=false",
	}
}

func (s *stock) configFile(name string) string { return filepath.Join(s.dir, "config", name) }
func (s *stock) kubeconfig(user string) string { return s.configFile(user + ".kubeconfig") }
func (s *stock) cniDir() string                { return filepath.Join(s.dir, "cni") }
func (s *stock) kubeletDir() string            { return filepath.Join(s.dir, "kubelet") }

// writeConfigs writes every file that args names.
func (s *stock) writeConfigs() error {
	for _, dir := range []string{filepath.Join(s.dir, "config"), s.cniDir(), filepath.Dir(containerdSocket)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, user := range stockUsers {
		if err := clientcmd.WriteToFile(*s.renderKubeconfig(user.Name), s.kubeconfig(user.Name)); err != nil {
			return fmt.Errorf("write kubeconfig of %s: %w", user.Name, err)
		}
	}
	files := map[string]any{
		s.configFile("kubelet.yaml"):                    s.kubeletConfig(),
		s.configFile("kube-proxy.yaml"):                 s.proxyConfig(),
		filepath.Join(s.cniDir(), "10-bridge.conflist"): cniConfig(),
	}
	for path, content := range files {
		text, err := json.MarshalIndent(content, "", "  ") // JSON is YAML, too
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(s.configFile("containerd.toml"), []byte(s.containerdConfig()), 0o600)
}

func (s *stock) renderKubeconfig(user string) *clientcmdapi.Config {
	config := clientcmdapi.NewConfig()
	config.Clusters["bench"] = &clientcmdapi.Cluster{Server: apiServerURL, CertificateAuthority: s.store.AuthorityFile(clusterCA)}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: s.store.LeafFile(user), ClientKey: s.store.LeafFile(user)}
	config.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: user}
	config.CurrentContext = "bench"
	return config
}

func (s *stock) kubeletConfig() map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"cgroupDriver":             "cgroupfs",
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"serializeImagePulls":      false,
		"volumePluginDir":          filepath.Join(s.dir, "volume-plugins"),
		"address":                  "127.0.0.1",
		"authentication":           map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":            map[string]any{"mode": "AlwaysAllow"},
		// A disk that is nearly full is the machine's affair: by default the node would take
		// a taint below 15 % of free space and its Pods wait for ever.
		"evictionHard":                map[string]any{"memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
		"imageGCHighThresholdPercent": 100,
	}
}

func (s *stock) proxyConfig() map[string]any {
	return map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode":             "iptables",
		"clusterCIDR":      podCIDR,
		"hostnameOverride": nodeName,
		"conntrack":        map[string]any{"maxPerCore": 0},
		"clientConnection": map[string]any{"kubeconfig": s.kubeconfig("kube-proxy")},
	}
}

func cniConfig() map[string]any {
	return map[string]any{
		"cniVersion": "1.0.0", "name": "bench",
		"plugins": []any{map[string]any{
			"type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
			"ipam": map[string]any{
				"type": "host-local", "dataDir": "/run/bench/cni",
				"ranges": []any{[]any{map[string]any{"subnet": podCIDR}}},
				"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
			},
		}},
	}
}

// containerdConfig restricts OOM scores, since a machine without CAP_SYS_RESOURCE
// cannot lower them and every sandbox would fail.
func (s *stock) containerdConfig() string {
	return `version = 2
root = ` + strconv.Quote(filepath.Join(s.dir, "containerd")) + `
state = "/run/bench/containerd"

[grpc]
  address = "` + containerdSocket + `"

[debug]
  level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = ` + strconv.Quote(s.Image(pauseImage)) + `
  restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "` + cniPlugins + `"
  conf_dir = ` + strconv.Quote(s.cniDir()) + `
`
}
