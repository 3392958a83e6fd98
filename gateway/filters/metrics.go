package filters

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// Metrics are the gateway's, named like those of the API server with a prefix of
// their own.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	inflight prometheus.Gauge
	open     *prometheus.GaugeVec
	dropped  *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keelson_gateway_request_total", Help: "Requests by verb, resource and code.",
		}, []string{"verb", "group", "version", "resource", "subresource", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keelson_gateway_request_duration_seconds", Help: "Time until the last byte of the answer, of requests that do not stay open.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"verb", "group", "resource", "subresource"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keelson_gateway_response_bytes_total", Help: "Bytes of answers, without those of upgraded connections.",
		}, []string{"verb", "group", "resource", "subresource"}),
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keelson_gateway_current_inflight_requests", Help: "Requests that are being answered, watches and streams included.",
		}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "keelson_gateway_longrunning_requests", Help: "Open watches and streams.",
		}, []string{"verb", "group", "resource", "subresource"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keelson_gateway_dropped_requests_total", Help: "Requests refused because of a limit.",
		}, []string{"limit"}),
	}
	registry.MustRegister(m.requests, m.duration, m.bytes, m.inflight, m.open, m.dropped)
	return m
}

// enter counts a request in, and returns what counts it out.
func (m *Metrics) enter(_ *record) func(*record, *answerWriter, time.Duration) {
	m.inflight.Inc()
	return func(rec *record, answer *answerWriter, took time.Duration) {
		m.inflight.Dec()
		l := labelsOf(rec.info, answer.status())
		m.requests.WithLabelValues(l.verb, l.group, l.version, l.resource, l.subresource, strconv.Itoa(answer.status())).Inc()
		m.bytes.WithLabelValues(l.verb, l.group, l.resource, l.subresource).Add(float64(answer.bytes))
		if !rec.long {
			m.duration.WithLabelValues(l.verb, l.group, l.resource, l.subresource).Observe(took.Seconds())
		}
	}
}

// openStream counts a request that was let through and stays open.
func (m *Metrics) openStream(info *request.RequestInfo) (leave func()) {
	if m == nil {
		return func() {}
	}
	l := labelsOf(info, 0)
	gauge := m.open.WithLabelValues(l.verb, l.group, l.resource, l.subresource)
	gauge.Inc()
	return gauge.Dec
}

func (m *Metrics) drop(limit string) {
	if m != nil {
		m.dropped.WithLabelValues(limit).Inc()
	}
}

type labels struct{ verb, group, version, resource, subresource string }

var knownVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy"}

// labelsOf describes a request in words that a client cannot invent: a resource is
// named when it exists, which an answer that is no error shows.
func labelsOf(info *request.RequestInfo, code int) labels {
	if info == nil {
		return labels{verb: "other"}
	}
	l := labels{verb: info.Verb}
	if !slices.Contains(knownVerbs, l.verb) {
		l.verb = "other"
	}
	if info.IsResourceRequest && code < 400 {
		l.group, l.version, l.resource, l.subresource = info.APIGroup, info.APIVersion, info.Resource, info.Subresource
	}
	return l
}
