// Package podcerts gets the certificates that Pods mount: it makes a key, asks a signer
// for a certificate through a PodCertificateRequest, and renews it before it ends.
//
// Keys are in memory and in the Pod's volume only; they are never sent, and never in a
// log. An agent that starts asks anew, and the Pod runs on with its old files until the
// answer is there. A renewal that takes long takes no certificate away. Requests are
// deleted some time after they were made, also those of an earlier process.
package podcerts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

const (
	// patience is how long a Pod's start waits for its signer before it says so.
	patience = 5 * time.Second
	// retry is how soon a renewal that could not be asked for is tried again.
	retry = time.Minute
)

// errNotIssued is upstream's.
var errNotIssued = errors.New("credential bundle is not issued yet")

// API is what the Manager asks of the API server.
type API interface {
	// Requests lists and watches the requests of this node.
	Requests() toolscache.ListerWatcher
	Create(ctx context.Context, request *certificatesv1.PodCertificateRequest) error
	Delete(ctx context.Context, request *certificatesv1.PodCertificateRequest) error
	// Account returns the UID of a service account.
	Account(ctx context.Context, namespace, name string) (types.UID, error)
}

// Options are what a Manager works with.
type Options struct {
	API   API
	Clock clock.WithTicker
	// Node is this node as the API knows it.
	Node func() (name types.NodeName, uid types.UID)
	// Jitter returns a new random time below most.
	Jitter func(most time.Duration) time.Duration
	// Record writes an event about a Pod; Changed says that its files may change.
	Record  func(pod *keelsonv1.Pod, eventType, reason, message string)
	Changed func(uid types.UID)
}

// Manager gives each Pod its certificates. Calls for one Pod must not overlap.
type Manager struct {
	Options
	//nolint:containedctx // the watch lives as long as the Pods, not as one call
	ctx context.Context

	mu    sync.Mutex
	held  map[types.UID]map[place]*record
	watch *watch // nil while no Pod has a certificate
	group sync.WaitGroup
}

// place is where in a Pod a certificate is projected.
type place struct {
	volume string
	index  int
}

var _ volumes.Certificates = (*Manager)(nil)

// New returns a Manager whose watch ends with ctx.
func New(ctx context.Context, o Options) *Manager {
	return &Manager{Options: o, ctx: ctx, held: map[types.UID]map[place]*record{}}
}

// Wait returns when no watch runs; call it after the context has ended.
func (m *Manager) Wait() { m.group.Wait() }

// Bundle implements volumes.Certificates.
func (m *Manager) Bundle(ctx context.Context, request volumes.CertificateRequest) (key, chain []byte, again time.Time, err error) {
	r, w := m.recall(request) //nolint:contextcheck // the watch outlives the call
	if err := m.waitSynced(ctx, w); err != nil {
		return nil, nil, time.Time{}, err
	}
	m.bringUpToDate(w, request, r)
	var asked error
	if r.wantsRequest(m.Clock.Now()) {
		if asked = m.ask(ctx, request, r); asked != nil && r.current == nil {
			return nil, nil, time.Time{}, asked
		}
	}
	if r.current == nil && r.refusal == nil {
		if err := m.await(ctx, w, request, r); err != nil {
			return nil, nil, time.Time{}, err
		}
	}
	switch {
	case r.refusal != nil:
		return nil, nil, time.Time{}, r.refusal
	case r.current == nil:
		return nil, nil, time.Time{}, errNotIssued
	case asked != nil:
		klog.FromContext(ctx).Error(asked, "Cannot ask for a new certificate of a Pod, will retry and use the old one until then",
			"signer", request.Source.SignerName, "expires", r.current.notAfter)
		return r.current.key, r.current.chain, m.Clock.Now().Add(retry), nil
	}
	return r.current.key, r.current.chain, r.again(m.Clock.Now()), nil
}

// Forget implements volumes.Certificates.
func (m *Manager) Forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.held[uid]; !known {
		return
	}
	delete(m.held, uid)
	if len(m.held) == 0 {
		m.watch.stop()
		m.watch = nil
	}
}

func (m *Manager) recall(request volumes.CertificateRequest) (*record, *watch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watch == nil {
		m.watch = m.begin()
	}
	of := m.held[request.Pod.UID]
	if of == nil {
		of = map[place]*record{}
		m.held[request.Pod.UID] = of
	}
	at := place{request.Volume, request.Index}
	if of[at] == nil {
		of[at] = &record{}
	}
	return of[at], m.watch
}

func (m *Manager) waitSynced(ctx context.Context, w *watch) error {
	timeout := m.Clock.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-w.synced.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C():
		return errors.New("PodCertificateRequests have not yet been read at least once")
	}
}

// bringUpToDate takes the answer to the record's request where there is one.
func (m *Manager) bringUpToDate(w *watch, request volumes.CertificateRequest, r *record) {
	if r.pending == nil {
		return
	}
	found := w.find(request.Pod.Namespace, r.pending.name)
	for _, n := range r.take(found, m.Clock.Now(), m.Jitter(maxJitter)) {
		m.Record(request.Pod, n.eventType, n.reason, n.message)
	}
}

// await waits a moment for the first answer.
func (m *Manager) await(ctx context.Context, w *watch, request volumes.CertificateRequest, r *record) error {
	timeout := m.Clock.NewTimer(patience)
	defer timeout.Stop()
	for {
		news := w.news()
		m.bringUpToDate(w, request, r)
		if r.pending == nil {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C():
			return errNotIssued
		}
	}
}

// ask makes a key and a request for its certificate.
func (m *Manager) ask(ctx context.Context, request volumes.CertificateRequest, r *record) error {
	pod, source := request.Pod, request.Source
	var account types.UID
	err := m.whileRefused(ctx, func() (err error) {
		account, err = m.API.Account(ctx, pod.Namespace, pod.Spec.ServiceAccountName)
		return err
	})
	if err != nil {
		return fmt.Errorf("while fetching service account: %w", err)
	}
	key, proof, err := newKey(source.KeyType)
	if err != nil {
		return fmt.Errorf("while generating keypair: %w", err)
	}
	node, nodeUID := m.Node()
	ask := &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, GenerateName: "req-",
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: keelsonv1.GroupVersion.String(), Kind: "Pod", Name: pod.Name, UID: pod.UID,
			}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: source.SignerName, PodName: pod.Name, PodUID: pod.UID,
			ServiceAccountName: pod.Spec.ServiceAccountName, ServiceAccountUID: account,
			NodeName: node, NodeUID: nodeUID, MaxExpirationSeconds: source.MaxExpirationSeconds,
			StubPKCS10Request: proof, UnverifiedUserAnnotations: source.UserAnnotations,
		},
	}
	if err := m.whileRefused(ctx, func() error { return m.API.Create(ctx, ask) }); err != nil {
		return fmt.Errorf("while creating on API: %w", err)
	}
	r.pending = &pending{name: ask.Name, key: key, abandonAt: m.Clock.Now().Add(abandonAfter + m.Jitter(maxJitter))}
	klog.FromContext(ctx).V(2).Info("Asked for a certificate of a Pod", "pod", klog.KObj(pod), "request", ask.Name, "signer", source.SignerName)
	return nil
}

// whileRefused calls do until its answer is another than a refusal, or patience ends: the
// right is granted after the Pod was bound.
func (m *Manager) whileRefused(ctx context.Context, do func() error) error {
	deadline := m.Clock.Now().Add(patience)
	backoff := wait.Backoff{Duration: 25 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 20, Cap: time.Second}
	for {
		err := do()
		pause := backoff.Step()
		if !apierrors.IsForbidden(err) || m.Clock.Now().Add(pause).After(deadline) {
			return err
		}
		timer := m.Clock.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C():
		}
	}
}
