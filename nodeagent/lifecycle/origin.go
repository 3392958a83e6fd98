package lifecycle

import (
	"maps"
	"time"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
)

// sourceAPI is what upstream's kubelet calls the API server as a source of Pods.
const sourceAPI = "api"

// withOrigin is pod as it is told about itself: with the annotations that upstream's
// kubelet adds to its own view of each Pod (where it came from, and when the node took
// it on). Nothing of them is written to the API. A static Pod has them already; what a
// user wrote under these names is replaced, as upstream. The time is that of the status,
// so that an agent that starts again tells the same.
func (m *Manager) withOrigin(pod *keelsonv1.Pod) *keelsonv1.Pod {
	if staticpods.IsStatic(pod) {
		return pod
	}
	annotations := maps.Clone(pod.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[staticpods.SourceAnnotation] = sourceAPI
	delete(annotations, staticpods.SeenAnnotation)
	if start := m.previousStatus(pod).StartTime; !start.IsZero() {
		annotations[staticpods.SeenAnnotation] = start.Format(time.RFC3339)
	}
	told := *pod
	told.Annotations = annotations
	return &told
}
