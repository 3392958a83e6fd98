package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
)

const patience = 30 * time.Second

// authority signs client certificates.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.key, a.certificate = a.sign(template, template, nil)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, certificate
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// client issues a certificate; change may spoil it.
func (a *authority) client(user string, groups []string, change func(*x509.Certificate)) *tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user, Organization: groups},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	key, certificate := a.sign(template, a.certificate, a.key)
	return &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}
}

// node is a server on a fake runtime with one Pod, "web" in "default".
type node struct {
	t        *testing.T
	url      string
	clients  *authority
	options  Options
	runtime  *fake.Runtime
	streamer *fakeStreamer
	pods     *fakePods
	reviews  *fakeReviews
	clock    *testingclock.FakeClock
	pod      *corev1.Pod
	logPath  string
	stop     func()
	// requests numbers the forwarded connections.
	requests int
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, runtime: fake.New(clock.RealClock{}), streamer: &fakeStreamer{}, clock: testingclock.NewFakeClock(time.Now()),
		reviews: &fakeReviews{tokens: map[string]authenticationv1.UserInfo{}}}
	n.clients = newAuthority(t, "clients")
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(caFile, n.clients.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	certificates, err := NewCertificates(CertificateOptions{
		Dir: t.TempDir(), NodeName: "n1", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
		ClientCAFile: caFile, Clock: n.clock, Log: klog.Background(),
	})
	if err != nil {
		t.Fatal(err)
	}
	n.runPod()
	n.options = Options{
		NodeName: "n1", Certificates: certificates, Tokens: n.reviews, Access: n.reviews,
		Pods: n.pods, Containers: n.runtime, Streamer: n.streamer, Statistics: fakeStatistics{},
		PortForward: n.streamer.portForward,
		Metrics:     prometheus.NewRegistry(), LogDir: t.TempDir(), Clock: n.clock,
	}
	return n
}

func (n *node) runPod() {
	n.t.Helper()
	n.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "uid-1"}}
	n.pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	n.pod.Spec.Containers = []corev1.Container{{Name: "main"}, {Name: "ended"}, {Name: "never"}}
	n.pods = &fakePods{pods: []*corev1.Pod{n.pod}}
	id := runtime.PodIdentity{UID: n.pod.UID, Namespace: "default", Name: "web"}
	box, err := n.runtime.RunSandbox(n.t.Context(), runtime.SandboxConfig{PodIdentity: id})
	if err != nil {
		n.t.Fatal(err)
	}
	dir := n.t.TempDir()
	for _, name := range []string{"main", "ended"} {
		path := filepath.Join(dir, name+".log")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			n.t.Fatal(err)
		}
		cid, err := n.runtime.CreateContainer(n.t.Context(), runtime.ContainerConfig{PodIdentity: id, Name: name, SandboxID: box.ID, LogPath: path})
		if err == nil {
			err = n.runtime.StartContainer(n.t.Context(), cid)
		}
		if err != nil {
			n.t.Fatal(err)
		}
		status := corev1.ContainerStatus{Name: name, ContainerID: "fake://" + cid}
		status.State.Running = &corev1.ContainerStateRunning{}
		if name == "ended" {
			if err := n.runtime.Exit(id.UID, name, 0, "Completed"); err != nil {
				n.t.Fatal(err)
			}
			status.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "fake://" + cid}}
		} else {
			n.logPath = path
		}
		n.pod.Status.ContainerStatuses = append(n.pod.Status.ContainerStatuses, status)
	}
	n.pod.Status.ContainerStatuses = append(n.pod.Status.ContainerStatuses, corev1.ContainerStatus{
		Name: "never", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}})
}

func (n *node) write(text string) {
	n.t.Helper()
	file, err := os.OpenFile(n.logPath, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("2026-01-02T03:04:05.000000006Z stdout F " + text + "\n"); err != nil {
		n.t.Fatal(err)
	}
}

// start serves until the test ends, or stop is called.
func (n *node) start() *node {
	n.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.url = "https://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(n.options).Serve(ctx, listener) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("serving ended with %v", err)
		}
	})
	n.t.Cleanup(n.stop)
	return n
}

// as returns a client with this certificate, nil for none.
func (n *node) as(certificate *tls.Certificate) *http.Client {
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the server's own certificate is looked at elsewhere
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	transport := &http.Transport{TLSClientConfig: config}
	n.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (n *node) admin() *http.Client {
	return n.as(n.clients.client("admin", []string{"system:masters"}, nil))
}

// restConfig is for client-go's streaming.
func (n *node) restConfig(token string) *rest.Config {
	return &rest.Config{Host: n.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func (n *node) do(client *http.Client, method, path, token string) (int, string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, n.url+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

type fakePods struct {
	pods []*corev1.Pod
	err  error
}

func (p *fakePods) List(context.Context) ([]*corev1.Pod, error) { return p.pods, p.err }

func (p *fakePods) Get(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	i := slices.IndexFunc(p.pods, func(pod *corev1.Pod) bool { return pod.Name == name && pod.Namespace == namespace })
	if i < 0 {
		return nil, p.err
	}
	return p.pods[i], p.err
}

// fakeReviews answers for the API server, and counts.
type fakeReviews struct {
	mu     sync.Mutex
	tokens map[string]authenticationv1.UserInfo
	// allowed are "user verb subresource".
	allowed      []string
	err          error
	asked        []string
	tokensAsked  int
	lastQuestion authorizationv1.SubjectAccessReviewSpec
}

func (f *fakeReviews) ReviewToken(_ context.Context, token string) (authenticationv1.TokenReviewStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokensAsked++
	user, ok := f.tokens[token]
	if !ok {
		return authenticationv1.TokenReviewStatus{Error: "unknown token"}, f.err
	}
	return authenticationv1.TokenReviewStatus{Authenticated: true, User: user}, f.err
}

func (f *fakeReviews) ReviewAccess(_ context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	question := spec.User + " " + spec.ResourceAttributes.Verb + " " + spec.ResourceAttributes.Subresource
	f.asked, f.lastQuestion = append(f.asked, question), spec
	return authorizationv1.SubjectAccessReviewStatus{Allowed: slices.Contains(f.allowed, question)}, f.err
}

type fakeStatistics struct{}

func (fakeStatistics) Summary(_ context.Context, only bool) (*statsv1alpha1.Summary, error) {
	summary := &statsv1alpha1.Summary{Node: statsv1alpha1.NodeStats{NodeName: "n1"}, Pods: []statsv1alpha1.PodStats{}}
	if !only {
		summary.Node.Network = &statsv1alpha1.NetworkStats{}
	}
	return summary, nil
}

func (fakeStatistics) Resource(context.Context) prometheus.Gatherer  { return gauge("resource_up") }
func (fakeStatistics) Container(context.Context) prometheus.Gatherer { return gauge("container_up") }

func gauge(name string) prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: name}))
	return registry
}

// fakeStreamer runs "commands" that are functions of the test.
type fakeStreamer struct {
	mu      sync.Mutex
	exec    func(ctx context.Context, command []string, s runtime.Streams) error
	attach  func(ctx context.Context, s runtime.Streams) error
	forward func(ctx context.Context, port int32, stream io.ReadWriteCloser) error
	ids     []string
}

var errNotExpected = errors.New("the test does not expect this call")

func (f *fakeStreamer) Exec(ctx context.Context, id string, command []string, s runtime.Streams) error {
	f.mu.Lock()
	f.ids = append(f.ids, id)
	exec := f.exec
	f.mu.Unlock()
	if exec == nil {
		return errNotExpected
	}
	return exec(ctx, command, s)
}

func (f *fakeStreamer) Attach(ctx context.Context, _ string, s runtime.Streams) error {
	if f.attach == nil {
		return errNotExpected
	}
	return f.attach(ctx, s)
}

func (f *fakeStreamer) portForward(ctx context.Context, uid types.UID, port int32, stream io.ReadWriteCloser) error {
	if f.forward == nil || uid != "uid-1" {
		return errNotExpected
	}
	return f.forward(ctx, port, stream)
}
