package agent

import (
	"github.com/prometheus/client_golang/prometheus"
)

// nodeMetrics count what the agent does, with the kubelet's names.
type nodeMetrics struct {
	evictions, imagesRemoved *prometheus.CounterVec
}

// newNodeMetrics registers the metrics; without a registry they only count.
func newNodeMetrics(registry prometheus.Registerer) *nodeMetrics {
	m := &nodeMetrics{
		evictions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_evictions", Help: "Cumulative number of pod evictions by eviction signal",
		}, []string{"eviction_signal"}),
		imagesRemoved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_image_garbage_collected_total",
			Help: "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
		}, []string{"reason"}),
	}
	if registry != nil {
		registry.MustRegister(m.evictions, m.imagesRemoved)
	}
	return m
}

func (m *nodeMetrics) evicted(signal string) { m.evictions.WithLabelValues(signal).Inc() }

func (m *nodeMetrics) imageRemoved(why string) { m.imagesRemoved.WithLabelValues(why).Inc() }
