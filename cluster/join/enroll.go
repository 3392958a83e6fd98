package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/keyutil"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/tokens"
)

// clientSigner signs the certificates by which nodes show who they are (ADR 0025).
const clientSigner = "keelson.dev/node-client"

// approvalWait is how long the manager may take to sign.
const approvalWait = time.Minute

// bootstrapper acts with the rights of the token.
type bootstrapper struct {
	server string
	token  tokens.Token
	client kubernetes.Interface
}

func newBootstrapper(server string, ca []byte, token tokens.Token) (*bootstrapper, error) {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: "https://" + server, BearerToken: token.String(), UserAgent: "keelson-join", QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: ca},
	})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &bootstrapper{server: server, token: token, client: client}, nil
}

// explain says what is wrong with the token, if that is it.
func (b *bootstrapper) explain(err error) error {
	switch {
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("--token: the cluster at %s does not accept the token with ID %s: it is mistyped, has expired, was deleted, or may not be used for authentication; 'keelson token list' on the cluster's machine shows those there are, 'keelson token create --print-join-command' makes another", b.server, b.token.ID)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("--token: the token with ID %s may not let machines join (is its group %s?): %w", b.token.ID, tokens.Group, err)
	}
	return err
}

// clusterConfig reads what nodes have to know.
func (b *bootstrapper) clusterConfig(ctx context.Context) (ClusterConfig, error) {
	configMap, err := b.client.CoreV1().ConfigMaps(ConfigNamespace).Get(ctx, ConfigName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ClusterConfig{}, fmt.Errorf("the cluster at %s has no ConfigMap %s/%s, which 'keelson up' writes: machines can join clusters of 'keelson up' only", b.server, ConfigNamespace, ConfigName)
	}
	if err != nil {
		return ClusterConfig{}, b.explain(err)
	}
	return decodeConfig(configMap.Data)
}

// node returns the Node of that name, nil if there is none.
func (b *bootstrapper) node(ctx context.Context, name string) (*keelsonv1.Node, error) {
	return getNode(ctx, b.client, name)
}

// getNode asks without discovery, which costs several requests.
func getNode(ctx context.Context, client kubernetes.Interface, name string) (*keelsonv1.Node, error) {
	path := "/apis/" + keelsonv1.GroupVersion.String() + "/nodes/" + name
	data, err := client.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get Node %s: %w", name, err)
	}
	node := &keelsonv1.Node{}
	if err := json.Unmarshal(data, node); err != nil {
		return nil, fmt.Errorf("decode Node %s: %w", name, err)
	}
	return node, nil
}

// checkName refuses the name of a machine that works, or that is another one.
func checkName(node *keelsonv1.Node, machineID string) error {
	if node == nil {
		return nil
	}
	const way = "choose another name with --node-name, or take this one with --replace"
	if isReady(node) {
		return fmt.Errorf("--node-name: the cluster has a node %s already, and it is ready: %s", node.Name, way)
	}
	if id := node.Status.NodeInfo.MachineID; id != "" && id != machineID {
		return fmt.Errorf("--node-name: the node %s of the cluster is another machine (its machine ID is %s, this one's %s): %s", node.Name, id, machineID, way)
	}
	return nil
}

func isReady(node *keelsonv1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// clientCertificate makes a key and lets the cluster sign a certificate for the node. The
// key leaves this machine in no form.
func (b *bootstrapper) clientCertificate(ctx context.Context, name string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key: %w", err)
	}
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: keyutil.ECPrivateKeyBlockType, Bytes: der})
	request, err := certutil.MakeCSRFromTemplate(key, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: keelsonv1.NodeUserPrefix + name, Organization: []string{keelsonv1.NodesGroup}},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request: %w", err)
	}
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	requestName, uid, err := csr.RequestCertificateWithContext(ctx, b.client, request, "", clientSigner, nil, usages, key)
	if err != nil {
		return nil, nil, b.explain(err)
	}
	ctx, cancel := context.WithTimeout(ctx, approvalWait)
	defer cancel()
	certPEM, err = csr.WaitForCertificate(ctx, b.client, requestName, uid)
	if err != nil {
		return nil, nil, fmt.Errorf("wait for the node's certificate (CertificateSigningRequest %s), which the cluster's manager approves and signs: %w", requestName, err)
	}
	return certPEM, keyPEM, nil
}
