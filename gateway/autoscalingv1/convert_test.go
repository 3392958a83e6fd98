package autoscalingv1

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func tree(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestConversion(t *testing.T) {
	const cpu = `{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":60}}}`
	tests := map[string]struct{ v2, v1 string }{
		"a share of cpu has a field": {
			v2: `{"apiVersion":"autoscaling/v2","spec":{"maxReplicas":3,"metrics":[` + cpu + `]}}`,
			v1: `{"apiVersion":"autoscaling/v1","spec":{"maxReplicas":3,"targetCPUUtilizationPercentage":60}}`,
		},
		"other metrics are in an annotation": {
			v2: `{"apiVersion":"autoscaling/v2","metadata":{"annotations":{"a":"b"}},"spec":{"metrics":[{"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"5"}}},` + cpu + `]}}`,
			v1: `{"apiVersion":"autoscaling/v1","metadata":{"annotations":{"a":"b","autoscaling.alpha.kubernetes.io/metrics":"[{\"type\":\"Pods\",\"pods\":{\"metricName\":\"m\",\"targetAverageValue\":\"5\"}}]"}},"spec":{"targetCPUUtilizationPercentage":60}}`,
		},
		"behavior is in an annotation under upstream's names": {
			v2: `{"apiVersion":"autoscaling/v2","spec":{"metrics":[` + cpu + `],"behavior":{"scaleDown":{"stabilizationWindowSeconds":30,"policies":[{"type":"Pods","value":1,"periodSeconds":15}]}}}}`,
			v1: `{"apiVersion":"autoscaling/v1","metadata":{"annotations":{"autoscaling.alpha.kubernetes.io/behavior":"{\"ScaleUp\":null,\"ScaleDown\":{\"StabilizationWindowSeconds\":30,\"SelectPolicy\":null,\"Policies\":[{\"Type\":\"Pods\",\"Value\":1,\"PeriodSeconds\":15}],\"Tolerance\":null}}"}},"spec":{"targetCPUUtilizationPercentage":60}}`,
		},
		"what is measured has a field and an annotation": {
			v2: `{"apiVersion":"autoscaling/v2","status":{"currentReplicas":1,"currentMetrics":[{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":40,"averageValue":"400m"}}}]}}`,
			v1: `{"apiVersion":"autoscaling/v1","metadata":{"annotations":{"autoscaling.alpha.kubernetes.io/current-metrics":"[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",\"currentAverageUtilization\":40,\"currentAverageValue\":\"400m\"}}]"}},"status":{"currentReplicas":1,"currentCPUUtilizationPercentage":40}}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			there, err := FromV2(tree(t, tt.v2))
			if err != nil {
				t.Fatal(err)
			}
			expectTree(t, "as v1", tt.v1, there)
			back, err := ToV2(tree(t, tt.v1), false)
			if err != nil {
				t.Fatal(err)
			}
			if metadata, ok := back["metadata"].(map[string]any); ok && len(metadata) == 0 {
				delete(back, "metadata")
			}
			expectTree(t, "as v2 again", tt.v2, back)
		})
	}
}

func TestAWholeObjectAimsAtSomething(t *testing.T) {
	for what, tt := range map[string]struct {
		whole bool
		want  string
	}{
		"a whole one": {true, `{"apiVersion":"autoscaling/v2","spec":{"maxReplicas":1,"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]}}`},
		"a part":      {false, `{"apiVersion":"autoscaling/v2","spec":{"maxReplicas":1}}`},
	} {
		got, err := ToV2(tree(t, `{"apiVersion":"autoscaling/v1","spec":{"maxReplicas":1}}`), tt.whole)
		if err != nil {
			t.Fatal(err)
		}
		expectTree(t, what, tt.want, got)
	}
}

func expectTree(t *testing.T, what, want string, got map[string]any) {
	t.Helper()
	encoded, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree(t, want), tree(t, string(encoded))); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
