package resources

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestColumnsOfAWrittenStatus(t *testing.T) {
	for what, tc := range map[string]struct {
		kind             string
		live, next, want map[string]any
	}{
		"an autoscaler": {kind: "HorizontalPodAutoscaler",
			next: map[string]any{"spec": map[string]any{"maxReplicas": int64(3), "scaleTargetRef": map[string]any{"kind": "Deployment", "name": "web"}},
				"status": map[string]any{"currentReplicas": int64(2), "desiredReplicas": int64(2)}},
			want: map[string]any{"reference": "Deployment/web", "targets": "<none>", "minPods": "<unset>", "replicas": int64(2)}},
		"a quota keeps its reservations": {kind: "ResourceQuota",
			live: map[string]any{"status": map[string]any{"summary": map[string]any{"request": "old", "pending": []any{map[string]any{"uid": "u"}}}}},
			next: map[string]any{"status": map[string]any{"hard": map[string]any{"pods": "5"}, "used": map[string]any{"pods": "1"}}},
			want: map[string]any{"request": "pods: 1/5", "pending": []any{map[string]any{"uid": "u"}}}},
	} {
		t.Run(what, func(t *testing.T) {
			keepSummary(tc.live, tc.next)
			if err := summarize(tc.kind, tc.next); err != nil {
				t.Fatal(err)
			}
			got := tc.next["status"].(map[string]any)["summary"].(map[string]any)
			if pending, ok := got["pending"].([]any); ok {
				for _, reservation := range pending { // only what the case names
					for key := range reservation.(map[string]any) {
						if key != "uid" {
							delete(reservation.(map[string]any), key)
						}
					}
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
		})
	}
}
