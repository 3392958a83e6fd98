package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// metrics have kube-proxy's names where it has the same figure.
type metrics struct {
	duration, full, partial *prometheus.HistogramVec
	programming             *prometheus.HistogramVec
	restoreFailures         *prometheus.CounterVec
	partialFailures         *prometheus.CounterVec
	rules                   *prometheus.GaugeVec
	lastSync                *prometheus.GaugeVec
	unserved                *prometheus.GaugeVec
	written                 *prometheus.CounterVec
	forgotten               *prometheus.CounterVec
	reconciled              *prometheus.HistogramVec
}

const (
	labelFamily = "ip_family"
	labelTable  = "table"
	labelPolicy = "traffic_policy"
)

func newMetrics() *metrics {
	options := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "kubeproxy", Name: name, Help: help}
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "kubeproxy", Name: name, Help: help, Buckets: buckets}, []string{labelFamily})
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(options(name, help)), []string{labelFamily})
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts(options(name, help)), labels)
	}
	seconds := prometheus.ExponentialBuckets(0.001, 2, 16)
	return &metrics{
		duration:        histogram("sync_proxy_rules_duration_seconds", "Time from the start of a sync until the kernel has the rules.", seconds),
		full:            histogram("sync_full_proxy_rules_duration_seconds", "The same of syncs that compared everything.", seconds),
		partial:         histogram("sync_partial_proxy_rules_duration_seconds", "The same of syncs that wrote changes only.", seconds),
		programming:     histogram("network_programming_duration_seconds", "Time from the change of a Pod or Service until the kernel has the rules.", prometheus.ExponentialBuckets(0.015, 2, 16)),
		restoreFailures: counter("sync_proxy_rules_iptables_restore_failures_total", "Syncs that failed."),
		partialFailures: counter("sync_proxy_rules_iptables_partial_restore_failures_total", "Syncs that failed and were to write changes only."),
		rules:           gauge("sync_proxy_rules_iptables_total", "Rules in the proxy's chains.", labelTable, labelFamily),
		lastSync:        gauge("sync_proxy_rules_last_timestamp_seconds", "Time of the last successful sync.", labelFamily),
		unserved:        gauge("sync_proxy_rules_no_local_endpoints_total", "Ports of a Local traffic policy with endpoints on other nodes only.", labelPolicy, labelFamily),
		written:         counter("sync_proxy_rules_chains_written_total", "Chains written to the kernel."),
		forgotten:       counter("conntrack_reconciler_deleted_entries_total", "Stale UDP connections deleted."),
		reconciled:      histogram("conntrack_reconciler_sync_duration_seconds", "Time that looking for stale UDP connections took.", seconds),
	}
}

func (m *metrics) register(r prometheus.Registerer, t *model.Tracker) error {
	count := func(name, help string, value func(model.Counts, int) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "kubeproxy", Name: name, Help: help}, func() float64 {
			return float64(value(t.Counts()))
		})
	}
	total := func(name, help string, value func(model.Counts) int) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "kubeproxy", Name: name, Help: help}, func() float64 {
			counts, _ := t.Counts()
			return float64(value(counts))
		})
	}
	for _, c := range []prometheus.Collector{
		m.duration, m.full, m.partial, m.programming, m.restoreFailures, m.partialFailures,
		m.rules, m.lastSync, m.unserved, m.written, m.forgotten, m.reconciled,
		total("sync_proxy_rules_service_changes_total", "Changes of Services that mattered.", func(c model.Counts) int { return c.Services }),
		total("sync_proxy_rules_endpoint_changes_total", "Changes of endpoints that mattered.", func(c model.Counts) int { return c.Slices }),
		count("sync_proxy_rules_service_changes_pending", "Services that wait for the next sync.", func(_ model.Counts, pending int) int { return pending }),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) observe(s *syncer, r iptables.Result, err error, took time.Duration) {
	family := s.family.String()
	m.duration.WithLabelValues(family).Observe(took.Seconds())
	if r.Full {
		m.full.WithLabelValues(family).Observe(took.Seconds())
	} else {
		m.partial.WithLabelValues(family).Observe(took.Seconds())
	}
	if err != nil {
		m.restoreFailures.WithLabelValues(family).Inc()
		if !r.Full {
			m.partialFailures.WithLabelValues(family).Inc()
		}
		return
	}
	for _, table := range []iptables.Table{iptables.NAT, iptables.Filter} {
		m.rules.WithLabelValues(string(table), family).Set(float64(s.driver.Rules(table)))
	}
	unserved := s.ruleset.Unserved()
	m.unserved.WithLabelValues("internal", family).Set(float64(unserved.Internal))
	m.unserved.WithLabelValues("external", family).Set(float64(unserved.External))
	m.written.WithLabelValues(family).Add(float64(r.Written))
	m.lastSync.WithLabelValues(family).Set(float64(s.clock.Now().Unix()))
}

func (m *metrics) observeTriggers(family model.Family, triggers []time.Time, now time.Time) {
	for _, at := range triggers {
		m.programming.WithLabelValues(family.String()).Observe(now.Sub(at).Seconds())
	}
}

func (m *metrics) observeConntrack(family model.Family, deleted int, took time.Duration) {
	m.forgotten.WithLabelValues(family.String()).Add(float64(deleted))
	m.reconciled.WithLabelValues(family.String()).Observe(took.Seconds())
}
