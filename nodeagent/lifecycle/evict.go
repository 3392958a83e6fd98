package lifecycle

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/status"
)

// Evict makes the Pod fail at its next sync, because of something that the node found.
func (m *Manager) Evict(uid types.UID, failure status.Failure) {
	m.remember(uid, func(p *podMemory) { p.failure = &failure })
}
