package gateway

import (
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway/codec"
	"github.com/keelson-dev/keelson/gateway/discovery"
	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/passthrough"
	"github.com/keelson-dev/keelson/gateway/resourcemetrics"
	"github.com/keelson-dev/keelson/gateway/resources"
	"github.com/keelson-dev/keelson/gateway/streams"
	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/tokens"
	"github.com/keelson-dev/keelson/gateway/translate"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// Config is what a gateway needs to know.
type Config struct {
	// Table names the kinds that are stored as custom resources.
	Table *table.Table
	// Upstream reaches the API server.
	Upstream *upstream.Client
	// Nodes finds the agents of nodes, for streams and metrics. A gateway without it
	// answers those with 503.
	Nodes *nodes.Locator
	// Hooks are webhooks and policies for what only the gateway sees; nil for none.
	Hooks Hooks
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
	translator := translate.New(config.Table)
	coder := codec.New(translator)
	g := &router{
		table: config.Table,
		coder: coder,
		rows: resources.New(resources.Options{
			Table: config.Table, Upstream: config.Upstream, Translator: translator, Codec: coder, Clock: config.Clock,
			Admit: admitter{config.Hooks}.admit,
		}),
		rest: passthrough.New(passthrough.Options{Table: config.Table, Upstream: config.Upstream, Translator: translator, Codec: coder}),
	}
	g.tokens = &tokens.Handler{
		Verifier: &tokens.Verifier{Upstream: config.Upstream, Clock: config.Clock},
		Upstream: config.Upstream, Codec: coder, Next: g.rest,
	}
	if err := g.reachNodes(config); err != nil {
		return nil, err
	}
	return g, nil
}

// reachNodes sets up what the agents of nodes answer.
func (g *router) reachNodes(config Config) error {
	g.streams, g.metrics = noNodes{g.coder}, noNodes{g.coder}
	if config.Nodes == nil {
		return nil
	}
	var err error
	g.streams, err = streams.New(streams.Options{Upstream: config.Upstream, Nodes: config.Nodes, WriteError: g.coder.WriteError, Admit: admitter{config.Hooks}.admit})
	if err != nil {
		return err
	}
	g.metrics, err = resourcemetrics.New(resourcemetrics.Options{Upstream: config.Upstream, Nodes: config.Nodes, Codec: g.coder, Clock: config.Clock})
	if err != nil {
		return err
	}
	g.documents, err = discovery.New(discovery.Options{
		Upstream: config.Upstream, Codec: g.coder, Next: g.rest,
		Added: discovery.Group{Group: resourcemetrics.Group(), Resources: resourcemetrics.Resources()},
	})
	return err
}

// router chooses who answers a request.
type router struct {
	table   *table.Table
	coder   *codec.Codec
	rows    http.Handler
	streams http.Handler
	metrics http.Handler
	// documents is nil where the gateway adds nothing to them.
	documents *discovery.Handler
	tokens    http.Handler
	rest      http.Handler
}

// ServeHTTP answers one request.
func (g *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	if !ok {
		g.coder.WriteError(w, r, apierrors.NewInternalError(errors.New("no RequestInfo in the context: the gateway's filters are not in front of it")))
		return
	}
	g.choose(info).ServeHTTP(w, r)
}

func (g *router) choose(info *request.RequestInfo) http.Handler {
	_, ok := g.table.ForRequest(info)
	switch {
	case ok && streams.Serves(info):
		return g.streams
	case ok:
		return g.rows
	case resourcemetrics.Serves(info):
		return g.metrics
	case tokens.Serves(info):
		return g.tokens
	case !info.IsResourceRequest && g.documents != nil && g.documents.Serves(info.Path):
		return g.documents
	}
	return g.rest
}

// noNodes answers for what only a gateway with access to the nodes can serve.
type noNodes struct{ coder *codec.Codec }

func (n noNodes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.coder.WriteError(w, r, apierrors.NewServiceUnavailable("this gateway has no access to the nodes: give it credentials for their agents"))
}
