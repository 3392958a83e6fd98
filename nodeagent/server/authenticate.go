package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

const (
	groupAuthenticated = "system:authenticated"

	// reviewTimeout bounds one question to the API server.
	reviewTimeout = 10 * time.Second
	// Answers are kept as long as the kubelet keeps them; refused tokens for less.
	tokenTTL        = 2 * time.Minute
	refusedTokenTTL = 10 * time.Second
	reviewsKept     = 1024
)

// TokenReviewer asks the API server whose token it is.
type TokenReviewer interface {
	ReviewToken(ctx context.Context, token string) (authenticationv1.TokenReviewStatus, error)
}

// authenticator finds out who sends a request. The small libraries of the API server
// for it come with their metrics, feature gates and audit: some MB of every agent.
type authenticator struct {
	clients *Certificates
	tokens  TokenReviewer
	clock   clock.Clock
	cache   *cache.LRUExpireCache
}

func newAuthenticator(clients *Certificates, tokens TokenReviewer, c clock.Clock) *authenticator {
	return &authenticator{clients: clients, tokens: tokens, clock: c, cache: cache.NewLRUExpireCacheWithClock(reviewsKept, c)}
}

// authenticate returns the sender; false means that the request names none that counts,
// an error why its certificate or token does not.
func (a *authenticator) authenticate(r *http.Request) (authenticationv1.UserInfo, bool, error) {
	user, ok, certificateErr := a.byCertificate(r)
	if !ok {
		var err error
		if user, ok, err = a.byToken(r); !ok {
			return authenticationv1.UserInfo{}, false, errors.Join(certificateErr, err)
		}
	}
	user.Groups = append(user.Groups[:len(user.Groups):len(user.Groups)], groupAuthenticated)
	return user, true, nil
}

// byCertificate takes the common name for the user and organizations for groups.
func (a *authenticator) byCertificate(r *http.Request) (authenticationv1.UserInfo, bool, error) {
	roots := a.clients.clientRoots()
	if roots == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return authenticationv1.UserInfo{}, false, nil
	}
	certificates := r.TLS.PeerCertificates
	options := x509.VerifyOptions{
		Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: a.clock.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range certificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := certificates[0].Verify(options); err != nil {
		return authenticationv1.UserInfo{}, false, fmt.Errorf("verifying the client's certificate: %w", err)
	}
	subject := certificates[0].Subject
	if subject.CommonName == "" {
		return authenticationv1.UserInfo{}, false, errors.New("the client's certificate has no common name")
	}
	return authenticationv1.UserInfo{Username: subject.CommonName, Groups: subject.Organization}, true, nil
}

func (a *authenticator) byToken(r *http.Request) (authenticationv1.UserInfo, bool, error) {
	token := bearerToken(r.Header.Get("Authorization"))
	if token == "" || a.tokens == nil {
		return authenticationv1.UserInfo{}, false, nil
	}
	key := sha256.Sum256([]byte(token))
	if known, ok := a.cache.Get(key); ok {
		status := known.(authenticationv1.TokenReviewStatus)
		return status.User, status.Authenticated, refusal(status)
	}
	ctx, cancel := context.WithTimeout(r.Context(), reviewTimeout)
	defer cancel()
	status, err := a.tokens.ReviewToken(ctx, token)
	if err != nil {
		return authenticationv1.UserInfo{}, false, fmt.Errorf("asking the API server whose token it is: %w", err)
	}
	ttl := refusedTokenTTL
	if status.Authenticated {
		ttl = tokenTTL
	}
	a.cache.Add(key, status, ttl)
	return status.User, status.Authenticated, refusal(status)
}

func refusal(status authenticationv1.TokenReviewStatus) error {
	if status.Authenticated {
		return nil
	}
	return fmt.Errorf("the API server refuses the token: %s", status.Error)
}

// bearerToken returns the token of an Authorization header, empty without one.
func bearerToken(header string) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	token = strings.TrimSpace(token)
	if strings.Contains(token, " ") {
		return ""
	}
	return token
}
