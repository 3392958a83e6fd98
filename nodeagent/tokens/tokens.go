// Package tokens gets the tokens of service accounts that Pods mount, and renews them
// before they end.
//
// Tokens are in memory only, never on a disk or in a log; an agent that starts asks
// anew. A token that cannot be renewed while it is still good is used on: an API server
// that is away takes no token from a running Pod. Tokens name the Pod that they are bound
// to in an audience, because the API server knows no Pods of ours (docs/adr/0046).
package tokens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/keelson-dev/keelson/internal/boundtoken"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

const (
	// patience is how long a request waits for the right to ask, which is granted after
	// the Pod was bound.
	patience = 5 * time.Second
	// maxAge is when a token that lives long is renewed, as upstream.
	maxAge = 24 * time.Hour
	// retry is how soon a renewal that failed is tried again.
	retry = time.Minute
	// ownAge is how long the API server's own audiences are believed; a change of them takes
	// a restart of it.
	ownAge = 10 * time.Minute
)

// Issuer asks for one token; the API server is one.
type Issuer interface {
	Issue(ctx context.Context, namespace, account string, request *authenticationv1.TokenRequest) error
}

// Manager gives each Pod its tokens.
type Manager struct {
	issuer Issuer
	clock  clock.Clock

	mu sync.Mutex
	// held are the tokens by Pod.
	held map[types.UID]map[volumes.TokenRequest]token
	// own are the API server's own audiences, known until ownUntil.
	own      []string
	ownUntil time.Time
}

type token struct {
	text            string
	refresh, expiry time.Time
}

// NewManager returns an empty Manager.
func NewManager(issuer Issuer, c clock.Clock) *Manager {
	return &Manager{issuer: issuer, clock: c, held: map[types.UID]map[volumes.TokenRequest]token{}}
}

var _ volumes.Tokens = (*Manager)(nil)

// Token implements volumes.Tokens.
func (m *Manager) Token(ctx context.Context, request volumes.TokenRequest) (string, time.Time, error) {
	have := m.recall(request)
	now := m.clock.Now()
	if have.text != "" && now.Before(have.refresh) {
		return have.text, have.refresh, nil
	}
	fresh, err := m.issue(ctx, request)
	switch {
	case err == nil:
		m.remember(request, fresh)
		return fresh.text, fresh.refresh, nil
	case have.text != "" && now.Before(have.expiry):
		klog.FromContext(ctx).Error(err, "Cannot renew a token, will retry and use the old one until then",
			"account", request.Account, "expires", have.expiry)
		return have.text, now.Add(retry), nil
	default:
		return "", time.Time{}, fmt.Errorf("failed to fetch token: %w", err)
	}
}

// Forget implements volumes.Tokens.
func (m *Manager) Forget(pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, pod)
}

func (m *Manager) recall(request volumes.TokenRequest) token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[request.Pod][request]
}

func (m *Manager) remember(request volumes.TokenRequest, t token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[request.Pod] == nil {
		m.held[request.Pod] = map[volumes.TokenRequest]token{}
	}
	m.held[request.Pod][request] = t
}

// issue asks until the answer is another than a refusal, or patience ends.
// issue asks for a token that is bound to its Pod (ADR 0046).
func (m *Manager) issue(ctx context.Context, request volumes.TokenRequest) (token, error) {
	audiences := []string{request.Audience}
	if request.Audience == "" {
		var err error
		if audiences, err = m.ownAudiences(ctx, request); err != nil {
			return token{}, err
		}
	}
	bound := boundtoken.Audience(boundtoken.Object{Kind: boundtoken.KindPod, Name: request.PodName, UID: request.Pod})
	answer, asked, err := m.ask(ctx, request, append(slices.Clone(audiences), bound))
	if err != nil {
		return token{}, err
	}
	return tokenOf(answer, asked), nil
}

// ownAudiences are whom the API server's tokens are for when nobody says so. It tells that
// with a token only; one request is enough for many Pods.
func (m *Manager) ownAudiences(ctx context.Context, request volumes.TokenRequest) ([]string, error) {
	m.mu.Lock()
	own, known := m.own, m.clock.Now().Before(m.ownUntil)
	m.mu.Unlock()
	if known {
		return own, nil
	}
	answer, asked, err := m.ask(ctx, request, nil)
	if err != nil {
		return nil, err
	}
	if len(answer.Spec.Audiences) == 0 {
		return nil, errors.New("the API server does not say whom its tokens are for")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own, m.ownUntil = answer.Spec.Audiences, asked.Add(ownAge)
	return m.own, nil
}

// ask sends a request, again while the right to ask has not come, and returns the answer and
// when it was asked for.
func (m *Manager) ask(ctx context.Context, request volumes.TokenRequest, audiences []string) (*authenticationv1.TokenRequest, time.Time, error) {
	deadline := m.clock.Now().Add(patience)
	backoff := wait.Backoff{Duration: 25 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 20, Cap: time.Second}
	for {
		asked := m.clock.Now()
		answer := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: audiences, ExpirationSeconds: new(request.ExpirationSeconds),
		}}
		err := m.issuer.Issue(ctx, request.Namespace, request.Account, answer)
		if err == nil {
			return answer, asked, nil
		}
		pause := backoff.Step()
		if !apierrors.IsForbidden(err) || m.clock.Now().Add(pause).After(deadline) {
			return nil, asked, err
		}
		timer := m.clock.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, asked, ctx.Err()
		case <-timer.C():
		}
	}
}

// tokenOf renews when a fifth of the life is left, or after a day, as upstream.
func tokenOf(answer *authenticationv1.TokenRequest, asked time.Time) token {
	expiry := answer.Status.ExpirationTimestamp.Time
	life := expiry.Sub(asked)
	refresh := asked.Add(min(life*4/5, maxAge))
	return token{text: answer.Status.Token, refresh: refresh, expiry: expiry}
}

// API is the API server as Issuer.
type API struct{ Client client.Client }

// Issue implements Issuer.
func (a API) Issue(ctx context.Context, namespace, account string, request *authenticationv1.TokenRequest) error {
	owner := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	return a.Client.SubResource("token").Create(ctx, owner, request)
}
