package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/agentmetrics"
)

const (
	agentTimeout  = 5 * time.Second
	agentParallel = 32
	// shared is how long the answer of an agent, or that it did not answer, serves all
	// autoscalers: an agent measures every ten seconds.
	shared = 5 * time.Second
)

// Agents asks the agents of the nodes on which the Pods run.
type Agents struct {
	reader    client.Reader
	transport http.RoundTripper
	clock     clock.PassiveClock

	mu    sync.Mutex
	known map[string]*answer
}

// answer is what an agent last said; mu is held while it is asked.
type answer struct {
	mu      sync.Mutex
	at      time.Time
	summary *statsv1alpha1.Summary
	err     error
}

// NewAgents returns a reader of the agents on the Nodes that reader has. transport bears
// the credentials; without one nothing can be measured, and errors say so.
func NewAgents(reader client.Reader, transport http.RoundTripper, c clock.PassiveClock) *Agents {
	return &Agents{reader: reader, transport: transport, clock: c, known: map[string]*answer{}}
}

var errNoCredentials = errors.New("unable to fetch metrics from resource metrics API: keelson-manager has no client certificate for node agents; start it with --node-agent-client-certificate and --node-agent-client-key")

// PodMetrics implements ResourceMetrics. A Pod whose agent does not answer is left out;
// it is an error where no agent does.
func (a *Agents) PodMetrics(ctx context.Context, pods []*keelsonv1.Pod) ([]metricsv1beta1.PodMetrics, error) {
	if a.transport == nil {
		return nil, errNoCredentials
	}
	var nodes []string
	var wanted []metav1.ObjectMeta
	for _, pod := range pods {
		if pod.Spec.NodeName != "" {
			nodes = append(nodes, pod.Spec.NodeName)
			wanted = append(wanted, metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID})
		}
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	summaries, failures := make([]*statsv1alpha1.Summary, len(nodes)), make([]error, len(nodes))
	var group errgroup.Group
	group.SetLimit(agentParallel)
	for i, node := range nodes {
		group.Go(func() error {
			summaries[i], failures[i] = a.summary(ctx, node)
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
	answered := slices.DeleteFunc(summaries, func(s *statsv1alpha1.Summary) bool { return s == nil })
	if err := errors.Join(failures...); err != nil {
		if len(answered) == 0 {
			return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
		}
		klog.FromContext(ctx).Info("Left Pods out of the metrics because agents did not answer", "err", err)
	}
	return agentmetrics.Pods(wanted, answered, a.clock.Now()).Items, nil
}

// summary is what the agent of a node says, or said a moment ago.
func (a *Agents) summary(ctx context.Context, node string) (*statsv1alpha1.Summary, error) {
	known := a.answerOf(node)
	known.mu.Lock()
	defer known.mu.Unlock()
	if now := a.clock.Now(); !known.at.IsZero() && now.Sub(known.at) < shared && !now.Before(known.at) {
		return known.summary, known.err
	}
	summary, err := a.ask(ctx, node)
	if ctx.Err() != nil {
		return nil, ctx.Err() // the asker left: it says nothing about the agent
	}
	known.at, known.summary, known.err = a.clock.Now(), summary, err
	return summary, err
}

// answerOf finds the place of a node's answer. Places of nodes that nobody asks about any
// more are dropped on the way.
func (a *Agents) answerOf(node string) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.known[node]; ok {
		return known
	}
	for other, known := range a.known {
		if known.mu.TryLock() {
			if a.clock.Since(known.at) > time.Minute {
				delete(a.known, other)
			}
			known.mu.Unlock()
		}
	}
	fresh := &answer{}
	a.known[node] = fresh
	return fresh
}

func (a *Agents) ask(ctx context.Context, name string) (*statsv1alpha1.Summary, error) {
	node := &keelsonv1.Node{}
	if err := a.reader.Get(ctx, client.ObjectKey{Name: name}, node); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("node %q is gone", name)
		}
		return nil, fmt.Errorf("read node %q: %w", name, err)
	}
	address, err := agentmetrics.Address(node.Upstream())
	if err != nil {
		return nil, fmt.Errorf("node %q: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	return agentmetrics.Summary(ctx, a.transport, agentmetrics.Location(address))
}
