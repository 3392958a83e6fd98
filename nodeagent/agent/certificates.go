package agent

import (
	"context"
	"crypto/tls"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/rotation"
)

// newRotation renews the certificates of this node. Requests go out as the node itself,
// with the certificate of the kubeconfig, which is the one that is renewed.
func newRotation(ctx context.Context, o *Options, s settings, api *api) (*rotation.Rotation, error) {
	clientset, err := kubernetes.NewForConfig(api.config)
	if err != nil {
		return nil, fmt.Errorf("--rotate-certificates: make a client: %w", err)
	}
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithName("certificates"))
	return rotation.New(ctx, rotation.Options{
		Dir: o.CertDir, NodeName: s.name, Client: clientset,
		Addresses: func() []corev1.NodeAddress { return ownAddresses(ctx, api, s.name) },
	})
}

// ownAddresses are those in the status of the own Node, none before it has been read.
func ownAddresses(ctx context.Context, api *api, name string) []corev1.NodeAddress {
	node := &keelsonv1.Node{}
	if err := api.cache.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
		return nil // not there yet, or not read yet: asked again
	}
	return node.Status.Addresses
}

// renewedCertificate returns the server's certificate that is renewed, nil where none is.
func (a *agent) renewedCertificate() func() *tls.Certificate {
	if a.rotation == nil {
		return nil
	}
	return a.rotation.Serving
}
