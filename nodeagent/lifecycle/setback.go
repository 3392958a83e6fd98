package lifecycle

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// seenEnd is when the end of a container was seen first that lies in the future.
type seenEnd struct {
	id string
	at time.Time
}

// endOf is when a pause after the end of a container begins: at its end or, when the
// machine's clock was set back since, at the first look. Upstream would wait until the
// clock has caught up.
func (m *Manager) endOf(uid types.UID, ended *runtime.Container) time.Time {
	now := m.Clock.Now()
	if !ended.FinishedAt.After(now) {
		return ended.FinishedAt
	}
	var at time.Time
	m.remember(uid, func(p *podMemory) {
		if p.setBack == nil {
			p.setBack = map[string]seenEnd{}
		}
		if p.setBack[ended.Name].id != ended.ID || p.setBack[ended.Name].at.After(now) {
			p.setBack[ended.Name] = seenEnd{ended.ID, now}
		}
		at = p.setBack[ended.Name].at
	})
	return at
}
