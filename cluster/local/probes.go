package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/join"
	"github.com/keelson-dev/keelson/cluster/pki"
)

// probes ask the components whether they do their work.
type probes struct {
	plain *http.Client
	admin *rest.Config
	// webhookURL is where the API server asks the manager for admission.
	webhookURL string
	// joining is what machines that join have to know.
	joining join.ClusterConfig

	mu     sync.Mutex
	client client.Client
}

// newProbes acts as the administrator. Its certificate is named by file, not read
// here, so that a renewed one is taken up.
func newProbes(store *pki.Store, s Settings) *probes {
	return &probes{
		plain:      &http.Client{},
		webhookURL: s.webhookURL(),
		joining:    s.joinConfig(),
		admin: &rest.Config{
			Host:      "https://" + s.apiServerAddress(),
			UserAgent: "keelson-up",
			QPS:       -1, // one caller on this machine, in bursts: no throttling
			TLSClientConfig: rest.TLSClientConfig{
				CAFile: store.AuthorityFile(clusterCA), CertFile: store.LeafFile(certAdmin), KeyFile: store.LeafFile(certAdmin),
			},
		},
	}
}

func (p *probes) socket(path string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

func (p *probes) http(url string) func(context.Context) error {
	return func(ctx context.Context) error { return get(ctx, p.plain, url) }
}

func (p *probes) apiServer(ctx context.Context) error {
	httpClient, err := rest.HTTPClientFor(p.admin)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return get(ctx, httpClient, p.admin.Host+"/readyz")
}

func get(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, resp.Status, firstFailure(string(body)))
	}
	return nil
}

// firstFailure picks the line that matters from a verbose health answer.
func firstFailure(body string) string {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			return strings.TrimSpace(line)
		}
	}
	first, _, _ := strings.Cut(body, "\n")
	return first
}

// admission is ready when the API server reaches the webhook and trusts it, which it
// does once the manager has written its certificate authority into the registration.
// A dry run stores nothing.
func (p *probes) admission(ctx context.Context) error {
	c, err := p.apiClient()
	if err != nil {
		return err
	}
	pod := &keelsonv1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: keelsonv1.SystemNamespace, GenerateName: "admission-check-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "check", Image: "check"}}},
	}
	if err := c.Create(ctx, pod, client.DryRunAll); err != nil {
		return fmt.Errorf("create a Pod in a dry run: %w", err)
	}
	return nil
}

// node is ready when its Node says so: agent, container runtime and network work.
func (p *probes) node(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := p.apiClient()
		if err != nil {
			return err
		}
		var node keelsonv1.Node
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
			return fmt.Errorf("get Node %s: %w", name, err)
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type != corev1.NodeReady {
				continue
			}
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("Node %s is not ready: %s: %s", name, condition.Reason, condition.Message)
		}
		return errors.New("Node " + name + " has no Ready condition yet")
	}
}
