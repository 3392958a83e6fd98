package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
)

type metrics struct {
	duration  *prometheus.HistogramVec
	failures  prometheus.Counter
	rules     prometheus.Gauge
	lastSync  prometheus.Gauge
	written   prometheus.Counter
	forgotten prometheus.Counter
}

func newMetrics() *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "keelson", Subsystem: "proxy", Name: name, Help: help}
	}
	return &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "keelson", Subsystem: "proxy", Name: "sync_duration_seconds",
			Help:    "Time from the start of a sync until the kernel has the rules.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, []string{"kind"}),
		failures:  prometheus.NewCounter(prometheus.CounterOpts(opts("sync_failures_total", "Syncs that failed."))),
		rules:     prometheus.NewGauge(prometheus.GaugeOpts(opts("rules", "Rules in the proxy's chains."))),
		lastSync:  prometheus.NewGauge(prometheus.GaugeOpts(opts("last_sync_timestamp_seconds", "Time of the last successful sync."))),
		written:   prometheus.NewCounter(prometheus.CounterOpts(opts("chains_written_total", "Chains written to the kernel."))),
		forgotten: prometheus.NewCounter(prometheus.CounterOpts(opts("conntrack_deleted_total", "Stale UDP connections deleted."))),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.duration, m.failures, m.rules, m.lastSync, m.written, m.forgotten} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) observe(r iptables.Result, err error, took time.Duration, rules int, now time.Time) {
	kind := "partial"
	if r.Full {
		kind = "full"
	}
	m.duration.WithLabelValues(kind).Observe(took.Seconds())
	if err != nil {
		m.failures.Inc()
		return
	}
	m.rules.Set(float64(rules))
	m.written.Add(float64(r.Written))
	m.lastSync.Set(float64(now.Unix()))
}
