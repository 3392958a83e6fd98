package lifecycle

import (
	"context"
	"fmt"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// DefaultHandler is the one runtime that there is; a RuntimeClass may call it so.
const DefaultHandler = "runc"

// checkRuntimeClass says why the Pod's runtime class cannot run here. A Pod with another
// handler waits, as upstream: somebody may change the class.
func (m *Manager) checkRuntimeClass(ctx context.Context, pod *keelsonv1.Pod) error {
	class := pod.Spec.RuntimeClassName
	if class == nil || *class == "" {
		return nil
	}
	handler, err := m.RuntimeHandler(ctx, *class)
	if err != nil {
		return fmt.Errorf("failed to get RuntimeClass %q: %w", *class, err)
	}
	if handler != DefaultHandler {
		return fmt.Errorf("failed to get sandbox runtime: no runtime for %q is configured", handler)
	}
	return nil
}
