package translate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRestore lets a client read a stored object, change it, and write it back.
func TestRestore(t *testing.T) {
	const (
		hidden = `"finalizers":["keelson.dev/pod","x/y"],"annotations":{"keelson.dev/deletion-grace-period-seconds":"5","a":"b"}`
		fields = `"managedFields":[{"apiVersion":"core.keelson.dev/v1","fieldsV1":{"f:status":{"f:phase":{},"f:summary":{"f:ready":{}}}},"manager":"node"},{"apiVersion":"core.keelson.dev/v1","fieldsV1":{"f:metadata":{"f:finalizers":{".":{},"v:\"keelson.dev/pod\"":{}}}},"manager":"scheduler"}]`
		status = `"status":{"phase":"Running","qosClass":"BestEffort","summary":{"ready":"1/1"}}`
		pod    = `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a",` + hidden + `,` + fields + `},"spec":{},` + status + `}`
	)
	bound := func(status string) string {
		return `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"generation":2,"annotations":{"keelson.dev/generation-before-binding":"1"}},"status":{` + status + `}}`
	}
	metadata := func(obj map[string]any) map[string]any { return obj["metadata"].(map[string]any) }
	for name, test := range map[string]struct {
		plural, stored string
		change         func(obj map[string]any)
		want           string
	}{
		"a client that changes nothing": {"pods", pod, func(map[string]any) {}, pod},
		"a client that adds a finalizer": {
			"pods", pod, func(obj map[string]any) { metadata(obj)["finalizers"] = []any{"x/y", "z/z"} },
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a","finalizers":["keelson.dev/pod","x/y","z/z"],"annotations":{"keelson.dev/deletion-grace-period-seconds":"5","a":"b"},` + fields + `},"spec":{},` + status + `}`,
		},
		"a client that removes all it sees": {
			"pods", pod, func(obj map[string]any) {
				delete(metadata(obj), "finalizers")
				delete(metadata(obj), "annotations")
				delete(obj, "status")
			},
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a","finalizers":["keelson.dev/pod"],"annotations":{"keelson.dev/deletion-grace-period-seconds":"5"},` + fields + `},"spec":{},"status":{"summary":{"ready":"1/1"}}}`,
		},
		"a client that resets the managed fields": {
			"pods", pod, func(obj map[string]any) { metadata(obj)["managedFields"] = []any{map[string]any{}} },
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a",` + hidden + `,"managedFields":[{}]},"spec":{},` + status + `}`,
		},
		"a client that changes one entry of them": {
			"pods", pod, func(obj map[string]any) {
				metadata(obj)["managedFields"].([]any)[0].(map[string]any)["manager"] = "me"
			},
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a",` + hidden + `,"managedFields":[{"apiVersion":"core.keelson.dev/v1","fieldsV1":{"f:status":{"f:phase":{}}},"manager":"me"},{"apiVersion":"core.keelson.dev/v1","fieldsV1":{"f:metadata":{"f:finalizers":{".":{},"v:\"keelson.dev/pod\"":{}}}},"manager":"scheduler"}]},"spec":{},` + status + `}`,
		},
		"a Pod that is being deleted": {
			"pods", `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"deletionTimestamp":"2026-01-02T03:04:05Z","deletionGracePeriodSeconds":0,"finalizers":["keelson.dev/pod"]},"spec":{}}`,
			func(map[string]any) {},
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"deletionTimestamp":"2026-01-02T03:04:05Z","deletionGracePeriodSeconds":0,"finalizers":["keelson.dev/pod"]},"spec":{}}`,
		},
		"a client that moves its end, which the API server has to refuse": {
			"pods", `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["keelson.dev/pod"]},"spec":{}}`,
			func(obj map[string]any) { metadata(obj)["deletionTimestamp"] = "2027-01-02T03:04:05Z" },
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"deletionTimestamp":"2027-01-02T03:04:05Z","finalizers":["keelson.dev/pod"]},"spec":{}}`,
		},
		"a Pod with a node, whose generations clients see without the binding": {
			"pods", bound(`"observedGeneration":3,"conditions":[{"type":"a","observedGeneration":1},{"type":"b","observedGeneration":2},{"type":"c","observedGeneration":3}]`),
			func(map[string]any) {},
			bound(`"observedGeneration":3,"conditions":[{"type":"a","observedGeneration":1},{"type":"b","observedGeneration":2},{"type":"c","observedGeneration":3}]`),
		},
		"a client that reports on a Pod with a node": {
			"pods", bound(`"observedGeneration":1,"conditions":[{"type":"a","observedGeneration":2}]`),
			func(obj map[string]any) {
				status := obj["status"].(map[string]any)
				status["observedGeneration"] = int64(2)
				status["conditions"] = append(status["conditions"].([]any), map[string]any{"type": "new", "observedGeneration": int64(1)})
			},
			bound(`"observedGeneration":3,"conditions":[{"type":"a","observedGeneration":2},{"type":"new","observedGeneration":2}]`),
		},
		"Endpoints, whose status clients do not see": {
			"endpoints", `{"apiVersion":"core.keelson.dev/v1","kind":"Endpoints","metadata":{"name":"a"},"status":{"summary":{"endpoints":"<none>"}}}`,
			func(obj map[string]any) { obj["subsets"] = []any{} },
			`{"apiVersion":"core.keelson.dev/v1","kind":"Endpoints","metadata":{"name":"a"},"status":{"summary":{"endpoints":"<none>"}},"subsets":[]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			stored := tree(t, test.stored)
			obj := tree(t, test.stored)
			translator := translator()
			if err := translator.ToUpstream(obj); err != nil {
				t.Fatal(err)
			}
			test.change(obj)
			if err := translator.ToStored(row(t, test.plural), obj); err != nil {
				t.Fatal(err)
			}
			if err := translator.Restore(row(t, test.plural), stored, obj); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tree(t, test.want), obj); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tree(t, test.stored), stored); diff != "" {
				t.Errorf("stored changed (-want +got):\n%s", diff)
			}
		})
	}
}
