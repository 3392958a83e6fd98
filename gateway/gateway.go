package gateway

import (
	"errors"
	"net/http"

	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway/passthrough"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// Config is what a gateway needs to know.
type Config struct {
	// Table names the kinds that are stored as custom resources.
	Table *table.Table
	// Upstream reaches the API server.
	Upstream *upstream.Client
	// Clock is real time but in tests.
	Clock clock.WithTicker
}

// New returns the handler behind the filters. It expects the RequestInfo of each
// request in its context.
func New(config Config) (http.Handler, error) {
	switch {
	case config.Table == nil:
		return nil, errors.New("gateway: Config.Table is missing: give it table.Keelson()")
	case config.Upstream == nil:
		return nil, errors.New("gateway: Config.Upstream is missing: nothing says where the API server is")
	}
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	return &router{
		table: config.Table,
		rest:  passthrough.New(config.Upstream),
	}, nil
}

// router chooses who answers a request.
type router struct {
	table *table.Table
	rest  http.Handler
}

// ServeHTTP answers one request.
func (g *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, ok := request.RequestInfoFrom(r.Context()); !ok {
		http.Error(w, "no RequestInfo in the context: the gateway's filters are not in front of it", http.StatusInternalServerError)
		return
	}
	g.rest.ServeHTTP(w, r)
}
