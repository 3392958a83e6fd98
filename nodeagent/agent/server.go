package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/server"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

const procMount = "/proc"

// pkiDir holds the certificate that the node signs itself.
func pkiDir(o *Options) string { return filepath.Join(o.RootDir, "pki") }

// serveAPI serves the node's API until ctx ends.
func (a *agent) serveAPI(ctx context.Context, metrics prometheus.Gatherer) error {
	o, log := a.options, klog.FromContext(ctx).WithName("server")
	ctx = klog.NewContext(ctx, log)
	address := net.JoinHostPort(o.ServerAddress, strconv.Itoa(o.ServerPort))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--server-address, --server-port: %w; is another node agent or a kubelet at work here?", err)
	}
	certificates, err := server.NewCertificates(server.CertificateOptions{
		Renewed:  a.renewedCertificate(),
		CertFile: o.TLSCertFile, KeyFile: o.TLSPrivateKeyFile, ClientCAFile: o.ClientCAFile,
		Dir: pkiDir(o), NodeName: a.settings.name, Addresses: a.settings.ips, Clock: a.clock, Log: log,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	sampling := make(chan struct{})
	go func() {
		defer close(sampling)
		a.sampler.Run(ctx)
	}()
	defer func() { cancel(); <-sampling }()
	log.Info("Serving the node's API", "address", address)
	return server.New(server.Options{
		NodeName: a.settings.name, Certificates: certificates, Tokens: reviews{a.api.client}, Access: reviews{a.api.client},
		Pods: podView{a}, Containers: a.runtime, Streamer: a.streamer, PortForward: a.portForward,
		RunningPods: a.runningPods, Configuration: func() any { return kubeletConfiguration(o) },
		Statistics: a.sampler, Metrics: metrics, LogDir: o.LogDir, Clock: a.clock,
	}).Serve(ctx, listener)
}

// reviews asks the API server who somebody is and what they may do.
type reviews struct{ client client.Client }

// ReviewToken implements server.TokenReviewer.
func (r reviews) ReviewToken(ctx context.Context, token string) (authenticationv1.TokenReviewStatus, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := r.client.Create(ctx, review); err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	return review.Status, nil
}

// ReviewAccess implements server.AccessReviewer.
func (r reviews) ReviewAccess(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: spec}
	if err := r.client.Create(ctx, review); err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	return review.Status, nil
}

// podView shows the Pods of this node with their newest status, which the API may not
// have yet.
type podView struct{ agent *agent }

// List implements server.Pods.
func (v podView) List(ctx context.Context) ([]*corev1.Pod, error) {
	if err := v.agent.synced(); err != nil {
		return nil, err
	}
	var list keelsonv1.PodList
	if err := v.agent.api.cache.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing the Pods of this node: %w", err)
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		if !v.agent.isMirror(&list.Items[i]) {
			pods = append(pods, withNewest(&list.Items[i], v.agent.writer))
		}
	}
	for _, pod := range v.agent.static.set.List() {
		pods = append(pods, withNewest(pod, v.agent.writer))
	}
	return pods, nil
}

// Get implements server.Pods.
func (v podView) Get(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	if pod, _ := v.agent.static.set.Get(types.NamespacedName{Namespace: namespace, Name: name}); pod != nil {
		return withNewest(pod, v.agent.writer), nil // a mirror stands for it in the API
	}
	if err := v.agent.synced(); err != nil {
		return nil, err
	}
	pod := &keelsonv1.Pod{}
	err := v.agent.api.cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pod)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the Pod: %w", err)
	}
	return withNewest(pod, v.agent.writer), nil
}

func withNewest(pod *keelsonv1.Pod, writer *status.Writer) *corev1.Pod {
	upstream := pod.Upstream()
	if newest, ok := writer.Get(pod.UID); ok {
		upstream.Status = newest
	}
	return upstream
}

// synced returns an error until the Pods of this node were read once.
func (a *agent) synced() error {
	a.condition.mu.Lock()
	defer a.condition.mu.Unlock()
	if !a.condition.synced {
		return errNotSynced
	}
	return nil
}
