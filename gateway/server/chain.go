package server

import (
	"context"
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway/filters"
)

// chain is everything between the listener and the gateway's handler, outermost last.
type chain struct {
	authenticator authenticator.Request
	authorizer    authorizer.Authorizer
	// served says which requests the gateway answers by itself.
	served  func(*request.RequestInfo) bool
	limits  filters.Limits
	timeout time.Duration
	metrics *filters.Metrics
	health  *health
	drain   *drain
	clock   clock.PassiveClock
}

func (c chain) build(handler http.Handler) http.Handler {
	handler = withDeadline(handler, c.timeout)
	handler = withAuthorization(handler, c.authorizer, c.served)
	handler = filters.WithLimits(handler, c.limits, c.metrics, c.clock)
	handler = withImpersonation(handler, c.authorizer)
	handler = withAuthentication(handler, c.authenticator)
	handler = c.drain.track(handler)
	handler = withHealth(handler, c.health)
	return filters.Chain(handler, filters.Options{Metrics: c.metrics, Clock: c.clock})
}

// withDeadline ends the context of requests that are no watches and no streams, and with
// it the patience with clients that neither send nor read.
func withDeadline(next http.Handler, timeout time.Duration) http.Handler {
	const toAnswer = 5 * time.Second
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if filters.LongRunning(r) {
			filters.LogStream(r)
			next.ServeHTTP(w, r)
			return
		}
		// The server takes the deadlines off again. That some kinds of connections have
		// none is no reason to fail.
		connection := http.NewResponseController(w)
		_ = connection.SetReadDeadline(time.Now().Add(timeout))
		_ = connection.SetWriteDeadline(time.Now().Add(timeout + toAnswer))
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
