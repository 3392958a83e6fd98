package userns

import (
	"fmt"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"
)

// Manager gives ranges to Pods where the machine can keep the promise.
type Manager struct {
	*Allocator
	Support *Support
}

// NewManager returns a Manager for the folders of Pods in podsDir, which lie on the file
// system that holds their volumes. The folder above it has to be there; what the kernel
// can do is tried in it, so that nobody takes the try for a Pod.
func NewManager(podsDir string) *Manager {
	return &Manager{Allocator: NewAllocator(podsDir), Support: &Support{Dir: filepath.Dir(podsDir)}}
}

// Acquire is Allocator.Acquire, and fails in upstream's words on a machine that cannot give
// a Pod user IDs of its own.
func (m *Manager) Acquire(uid types.UID) (Range, error) {
	if err := m.Support.Check(); err != nil {
		return Range{}, fmt.Errorf("can't set `spec.hostUsers: false`, runtime does not support user namespaces: %w", err)
	}
	return m.Allocator.Acquire(uid)
}
