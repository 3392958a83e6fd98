package server

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway/upstream"
)

const (
	// readyTTL is how long one look at the API server counts: anybody may ask.
	readyTTL     = time.Second
	readyTimeout = 3 * time.Second
)

// health answers /healthz, /livez and /readyz, to anybody.
type health struct {
	client *upstream.Client
	drain  *drain
	clock  clock.PassiveClock

	mu     sync.Mutex
	looked time.Time
	last   error
}

// withHealth answers the three paths and passes on the rest.
func withHealth(next http.Handler, h *health) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		switch r.URL.Path {
		case "/healthz", "/livez":
			answerHealth(w, nil)
		case "/readyz":
			answerHealth(w, h.ready(r.Context()))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func answerHealth(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache, private")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "[-]%v\n", err)
		return
	}
	fmt.Fprint(w, "ok")
}

// ready says what is missing.
func (h *health) ready(ctx context.Context) error {
	if h.drain.notReady.Load() {
		return fmt.Errorf("shutdown: the gateway is ending")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.clock.Since(h.looked) < readyTTL {
		return h.last
	}
	h.last = h.look(context.WithoutCancel(ctx))
	h.looked = h.clock.Now()
	return h.last
}

func (h *health) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(upstream.AsGateway(ctx), readyTimeout)
	defer cancel()
	response, err := h.client.Do(ctx, upstream.Request{Method: http.MethodGet, Path: "/readyz"})
	if err != nil {
		return fmt.Errorf("apiserver: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("apiserver: /readyz answers %s", response.Status)
	}
	return nil
}
