package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"k8s.io/client-go/tools/clientcmd"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/internal/files"
	"github.com/keelson-dev/keelson/cluster/pki"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// Names in the store of certificates.
const (
	clusterCA      = "cluster-ca"
	etcdCA         = "etcd-ca"
	frontProxyCA   = "front-proxy-ca"
	serviceAccount = "service-account"

	certAPIServer     = "apiserver"
	certAPIServerEtcd = "apiserver-etcd-client"
	certFrontProxy    = "front-proxy-client"
	certEtcd          = "etcd"
	certAdmin         = "admin"
	certManager       = "manager"
	certNode          = "node"
	certNodeServer    = "node-server"
	certHostProxy     = "host-proxy"
	certGateway       = "gateway"
	certGatewayClient = "gateway-client"
)

// gatewayUser is bound to its role in config/rbac/gateway.
const gatewayUser = "keelson:gateway"

// hostProxyUser is a member of the group of nodes that is no node.
const hostProxyUser = "keelson:host-proxy"

// builtinServiceCIDR is the range in which the API server itself gives out
// addresses for the built-in kind Service. Nobody routes them: it only has to
// differ from every range in use. RFC 2544 reserves it for benchmarks.
const builtinServiceCIDR = "198.19.255.0/24"

const clusterDomain = "cluster.local"

// leaves are the certificates of a cluster with such settings.
func leaves(s Settings) ([]pki.Leaf, error) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	addresses := []netip.Addr{loopback, s.NodeIP}
	for _, cidrs := range []string{s.ServiceCIDR, builtinServiceCIDR} {
		list, err := ranges.Parse("service range", cidrs)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			addresses = append(addresses, p.Addr().Next())
		}
	}
	// The Service kubernetes may lead to the API server or to the gateway.
	names := []string{
		"localhost", s.NodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain,
	}
	list := []pki.Leaf{
		{Name: certAPIServer, Authority: clusterCA, User: "kube-apiserver", Usage: pki.Server, Addresses: addresses, DNSNames: names, Chain: true},
		{Name: certGateway, Authority: clusterCA, User: "keelson-gateway", Usage: pki.Server, Addresses: addresses, DNSNames: names},
		{Name: certAPIServerEtcd, Authority: etcdCA, User: "kube-apiserver", Usage: pki.Client},
		// By it an aggregated API server knows that a request comes from the API server,
		// which has authenticated the user that it names. An authority of its own: no
		// certificate of the cluster's may pass for it.
		{Name: certFrontProxy, Authority: frontProxyCA, User: certFrontProxy, Usage: pki.Client},
		{Name: certEtcd, Authority: etcdCA, User: "etcd", Usage: pki.Peer, DNSNames: []string{"localhost"}, Addresses: []netip.Addr{loopback}},
		{Name: certAdmin, Authority: clusterCA, User: "keelson:admin", Groups: []string{"system:masters"}, Usage: pki.Client},
		{Name: certManager, Authority: clusterCA, User: keelsonv1.ManagerUser, Usage: pki.Client},
		{Name: certGatewayClient, Authority: clusterCA, User: gatewayUser, Usage: pki.Client},
	}
	if s.several() {
		// It proxies, and runs no Pods: it reads what nodes read, and has no Node to write.
		list = append(list, pki.Leaf{Name: certHostProxy, Authority: clusterCA, User: hostProxyUser, Groups: []string{keelsonv1.NodesGroup}, Usage: pki.Client})
	}
	for _, at := range s.identities() {
		user := keelsonv1.NodeUserPrefix + at.name
		list = append(list,
			pki.Leaf{Name: at.client, Authority: clusterCA, User: user, Groups: []string{keelsonv1.NodesGroup}, Usage: pki.Client},
			pki.Leaf{
				Name: at.server, Authority: clusterCA, User: user, Usage: pki.Server,
				DNSNames: []string{at.name}, Addresses: []netip.Addr{at.address},
			})
	}
	return list, nil
}

// ensureCredentials issues what is missing or about to expire and writes the
// kubeconfig files. The components read certificates again by themselves when the
// files change, so it may run while they do.
func ensureCredentials(store *pki.Store, l Layout, s Settings) ([]pki.Issued, error) {
	want, err := leaves(s)
	if err != nil {
		return nil, err
	}
	issued, err := store.Ensure([]string{clusterCA, etcdCA, frontProxyCA}, []string{serviceAccount}, want)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.configDir(), 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of configuration: %w", err)
	}
	components := []string{certManager, certGatewayClient}
	if s.several() {
		components = append(components, certHostProxy)
	}
	for _, at := range s.identities() {
		components = append(components, at.client)
	}
	for _, component := range components {
		config := kubeconfig(s.apiServerAddress(), component)
		config.Clusters[clusterName].CertificateAuthority = store.AuthorityFile(clusterCA)
		config.AuthInfos[component].ClientCertificate = store.LeafFile(component)
		config.AuthInfos[component].ClientKey = store.LeafFile(component)
		if err := writeKubeconfig(l.kubeconfig(component), config); err != nil {
			return nil, err
		}
	}
	return issued, errors.Join(
		writeAdminKubeconfig(store, l.AdminKubeconfig(), s.apiServerAddress()),
		writeAdminKubeconfig(store, l.Kubeconfig(), s.gatewayAddress()),
	)
}

// writeAdminKubeconfig writes a file with the administrator's credentials for the
// server at address. It holds everything, so that it can be copied.
func writeAdminKubeconfig(store *pki.Store, path, address string) error {
	ca, err := os.ReadFile(store.AuthorityFile(clusterCA))
	if err != nil {
		return fmt.Errorf("read the authority: %w", err)
	}
	both, err := os.ReadFile(store.LeafFile(certAdmin))
	if err != nil {
		return fmt.Errorf("read the administrator's certificate: %w", err)
	}
	config := kubeconfig(address, certAdmin)
	config.Clusters[clusterName].CertificateAuthorityData = ca
	config.AuthInfos[certAdmin].ClientCertificateData = both
	config.AuthInfos[certAdmin].ClientKeyData = both
	return writeKubeconfig(path, config)
}

const clusterName = "keelson"

func kubeconfig(address, user string) *clientcmdapi.Config {
	config := clientcmdapi.NewConfig()
	config.Clusters[clusterName] = &clientcmdapi.Cluster{Server: "https://" + address}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{}
	config.Contexts[clusterName] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: user}
	config.CurrentContext = clusterName
	return config
}

func writeKubeconfig(path string, config *clientcmdapi.Config) error {
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return files.Replace(path, data, 0o600)
}

func (s Settings) apiServerAddress() string {
	return net.JoinHostPort(s.NodeIP.String(), strconv.Itoa(s.Ports.APIServer))
}

func (s Settings) gatewayAddress() string {
	return net.JoinHostPort(s.NodeIP.String(), strconv.Itoa(s.Ports.Gateway))
}

// kubernetesServiceAddress is what the Service kubernetes leads to.
func (s Settings) kubernetesServiceAddress() string {
	if s.KubernetesService == behindAPIServer {
		return s.apiServerAddress()
	}
	return s.gatewayAddress()
}

// webhookURL names the host, not the address: the manager's certificate does too.
func (s Settings) webhookURL() string {
	return "https://" + net.JoinHostPort("localhost", strconv.Itoa(s.Ports.Webhook))
}

func onLoopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
