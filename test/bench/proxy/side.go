package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/keelson-dev/keelson/test/bench/internal/program"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	keelson = "keelson"
	stock   = "stock"

	clusterCIDR = "10.244.0.0/16"
	serviceCIDR = "10.254.0.0/16"
)

// side is an API server and the proxy of one of the two.
type side struct {
	name, folder, dir string
	node              *namespace
	server            *envtest.Environment
	client            dynamic.Interface
	program           *program.Program
}

func newSide(name, folder, dir string, n *namespace) (*side, error) {
	s := &side{name: name, folder: folder, dir: dir, node: n}
	s.server = &envtest.Environment{BinaryAssetsDirectory: filepath.Join(folder, "k8s"), ControlPlaneStartTimeout: time.Minute}
	s.server.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", serviceCIDR).Set("bind-address", "0.0.0.0")
	if name == keelson {
		s.server.CRDDirectoryPaths, s.server.ErrorIfCRDPathMissing = []string{"config/crd/bases"}, true
	}
	config, err := s.server.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start an API server: %w", err), s.server.Stop())
	}
	config.QPS, config.Burst = -1, -1
	if s.client, err = dynamic.NewForConfig(config); err == nil {
		err = s.writeKubeconfig(config)
	}
	if err != nil {
		return nil, errors.Join(err, s.server.Stop())
	}
	return s, nil
}

func (s *side) kubeconfig() string { return filepath.Join(s.dir, "kubeconfig") }

// writeKubeconfig leads from the namespace to the server, whose certificate does not have
// that address.
func (s *side) writeKubeconfig(config *rest.Config) error {
	port := s.server.ControlPlane.GetAPIServer().SecureServing.Port
	c := clientcmdapi.NewConfig()
	c.Clusters["bench"] = &clientcmdapi.Cluster{Server: "https://" + net.JoinHostPort(s.node.serverIP, port), InsecureSkipTLSVerify: true}
	c.AuthInfos["bench"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	c.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	c.CurrentContext = "bench"
	return clientcmd.WriteToFile(*c, s.kubeconfig())
}

func (s *side) resource(group, name string) schema.GroupVersionResource {
	if s.name == keelson {
		group = map[string]string{"": "core", "discovery.k8s.io": "discovery"}[group] + ".keelson.dev"
	}
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: name}
}

func (s *side) services() dynamic.ResourceInterface {
	return s.client.Resource(s.resource("", "services")).Namespace(benchNamespace)
}

func (s *side) slices() dynamic.ResourceInterface {
	return s.client.Resource(s.resource("discovery.k8s.io", "endpointslices")).Namespace(benchNamespace)
}

func (s *side) apiVersion(group string) string { return s.resource(group, "").GroupVersion().String() }

// parallelCreations is how many objects are on their way at once.
const parallelCreations = 16

// fill creates the Node, the Services and their slices.
func (s *side) fill(ctx context.Context, services, endpoints int) error {
	namespaces := s.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	if _, err := namespaces.Create(ctx, object("v1", "Namespace", benchNamespace, nil), metav1.CreateOptions{}); err != nil {
		return err
	}
	nodes := s.client.Resource(s.resource("", "nodes"))
	node, err := nodes.Create(ctx, object(s.apiVersion(""), "Node", nodeName, map[string]any{"spec": map[string]any{}}), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	node.Object["status"] = map[string]any{"addresses": []any{map[string]any{"type": "InternalIP", "address": s.node.nodeIP}}}
	if _, err := nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelCreations)
	for i := range services {
		group.Go(func() error {
			if _, err := s.services().Create(ctx, service(s.apiVersion(""), i), metav1.CreateOptions{}); err != nil {
				return err
			}
			_, err := s.slices().Create(ctx, slice(s.apiVersion("discovery.k8s.io"), i, endpointsOf(i, services, endpoints)), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("create Services: %w", err)
	}
	return nil
}

// setEndpoint gives a Service one other endpoint.
func (s *side) setEndpoint(ctx context.Context, i int, ip netip.Addr) error {
	old, err := s.slices().Get(ctx, serviceName(i)+"-abcde", metav1.GetOptions{})
	if err != nil {
		return err
	}
	now := slice(s.apiVersion("discovery.k8s.io"), i, []netip.Addr{ip})
	endpoints, _, _ := unstructured.NestedSlice(now.Object, "endpoints")
	old.Object["endpoints"] = endpoints
	_, err = s.slices().Update(ctx, old, metav1.UpdateOptions{})
	return err
}

// startProxy starts the process in the namespace, with its defaults but for what has to
// do with where it runs.
func (s *side) startProxy(ctx context.Context) (err error) {
	path, args := filepath.Join(s.folder, "keelson-node"), []string{
		"--agent=false", "--kubeconfig", s.kubeconfig(), "--node-name", nodeName, "--node-ip", s.node.nodeIP,
		"--cluster-cidr", clusterCIDR, "--service-cidr", serviceCIDR, "--health-address=",
		"--root-dir", filepath.Join(s.dir, "root"), "--run-dir", filepath.Join(s.dir, "run"), "--log-dir", filepath.Join(s.dir, "log"),
	}
	if s.name == stock {
		path, args = filepath.Join(s.folder, "stock", "kube-proxy"), []string{
			"--proxy-mode=iptables", "--kubeconfig", s.kubeconfig(), "--hostname-override", nodeName, "--cluster-cidr", clusterCIDR,
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
		}
	}
	s.program, err = program.Start(s.node.command(context.WithoutCancel(ctx), path, args...), filepath.Join(s.dir, "proxy.log"))
	return err
}

// rss returns the resident memory of the proxy in MiB.
func (s *side) rss() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.program.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024, err
		}
	}
	return 0, errors.New("no VmRSS in /proc")
}

func (s *side) stop() error {
	s.program.Stop()
	return s.server.Stop()
}
