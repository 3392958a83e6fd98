package translate

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/gateway/table"
)

func translator() *Translator { return New(table.Keelson()) }

// TestRead translates whole answers, each also one byte at a time, and objects also
// through AppendObject and as the object of a watch frame.
func TestRead(t *testing.T) {
	for name, test := range map[string]struct{ stored, want string }{
		"a Pod gets its upstream version and loses its summary": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a"},"spec":{"nodeName":"n"},"status":{"phase":"Running","qosClass":"Burstable","summary":{"ready":"1/1"}}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"nodeName":"n"},"status":{"phase":"Running","qosClass":"Burstable"}}`,
		},
		"a Pod without a class shows the one it will have": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"PodList","items":[{"apiVersion":"core.keelson.dev/v1","kind":"Pod","spec":{"containers":[{"resources":{"limits":{"cpu":1,"memory":"1Gi"}}}]},"status":{"phase":"Pending"}},{"apiVersion":"core.keelson.dev/v1","kind":"Pod","status":{},"spec":{"containers":[{"name":"a"}],"initContainers":[{"resources":{"requests":{"cpu":"1m"}}}]}},{"apiVersion":"core.keelson.dev/v1","kind":"Pod","status":{},"spec":{}}]}`,
			`{"apiVersion":"v1","kind":"PodList","items":[{"spec":{"containers":[{"resources":{"limits":{"cpu":1,"memory":"1Gi"}}}]},"status":{"phase":"Pending","qosClass":"Guaranteed"}},{"status":{"qosClass":"Burstable"},"spec":{"containers":[{"name":"a"}],"initContainers":[{"resources":{"requests":{"cpu":"1m"}}}]}},{"status":{"qosClass":"BestEffort"},"spec":{}}]}`,
		},
		"a class that was reported stays, and a spec that nobody can read has none": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"PodList","items":[{"apiVersion":"core.keelson.dev/v1","kind":"Pod","spec":{},"status":{"qosClass":"Burstable"}},{"apiVersion":"core.keelson.dev/v1","kind":"Pod","spec":{"containers":{}},"status":{}},{"apiVersion":"core.keelson.dev/v1","kind":"Node","spec":{},"status":{}}]}`,
			`{"apiVersion":"v1","kind":"PodList","items":[{"spec":{},"status":{"qosClass":"Burstable"}},{"spec":{"containers":{}},"status":{}},{"spec":{},"status":{}}]}`,
		},
		"the binding does not count as a generation, what comes before and after does": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":{"keelson.dev/generation-before-binding":"2"},"generation":4},"status":{"conditions":[{"type":"a","observedGeneration":1},{"observedGeneration":2},{"observedGeneration":3},{"observedGeneration":4},{"type":"b"}],"observedGeneration":4}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"generation":3},"status":{"conditions":[{"type":"a","observedGeneration":1},{"observedGeneration":2},{"observedGeneration":2},{"observedGeneration":3},{"type":"b"}],"observedGeneration":3}}`,
		},
		"a Pod that nobody bound, one that says nonsense, and another kind count as they are stored": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"PodList","items":[{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"generation":4}},{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"generation":4,"annotations":{"keelson.dev/generation-before-binding":"x"}}},{"apiVersion":"core.keelson.dev/v1","kind":"Node","metadata":{"generation":4,"annotations":{"keelson.dev/generation-before-binding":"2"}}}]}`,
			`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"generation":4}},{"metadata":{"generation":4}},{"metadata":{"generation":4}}]}`,
		},
		"the order of members does not matter": {
			`{"status":{"summary":{"ready":"1/1"},"phase":"Running"},"metadata":{"name":"a"},"kind":"Pod","apiVersion":"core.keelson.dev/v1"}`,
			`{"status":{"phase":"Running"},"metadata":{"name":"a"},"kind":"Pod","apiVersion":"v1"}`,
		},
		"an escaped name is the same name": {
			`{"api\u0056ersion":"core.keelson.dev\/v1","kind":"Pod","status":{"s\u0075mmary":{}}}`,
			`{"api\u0056ersion":"v1","kind":"Pod","status":{}}`,
		},
		"a status of the summary alone is empty, and gone for Endpoints": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"EndpointsList","metadata":{},"items":[{"apiVersion":"core.keelson.dev/v1","kind":"Endpoints","metadata":{"name":"a"},"status":{"summary":{}}},{"apiVersion":"core.keelson.dev/v1","kind":"Node","status":{"summary":{}}}]}`,
			`{"apiVersion":"v1","kind":"EndpointsList","metadata":{},"items":[{"metadata":{"name":"a"}},{"status":{}}]}`,
		},
		"owners of kinds in the table are renamed, others not": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"ownerReferences":[{"apiVersion":"core.keelson.dev/v1","kind":"ReplicationController","name":"rc"},{"apiVersion":"core.keelson.dev/v1","kind":"Other"},{"apiVersion":"apps/v1","kind":"ReplicaSet"}]}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ReplicationController","name":"rc"},{"apiVersion":"core.keelson.dev/v1","kind":"Other"},{"apiVersion":"apps/v1","kind":"ReplicaSet"}]}}`,
		},
		"the active Jobs of a CronJob are renamed, the number of a Job's Pods is one": {
			`{"apiVersion":"batch.keelson.dev/v1","kind":"CronJobList","items":[{"apiVersion":"batch.keelson.dev/v1","kind":"CronJob","status":{"active":[{"apiVersion":"batch.keelson.dev/v1","kind":"Job","name":"a"}]}},{"apiVersion":"batch.keelson.dev/v1","kind":"Job","status":{"active":2}}]}`,
			`{"apiVersion":"batch/v1","kind":"CronJobList","items":[{"status":{"active":[{"apiVersion":"batch/v1","kind":"Job","name":"a"}]}},{"status":{"active":2}}]}`,
		},
		"managedFields lose what is hidden, and entries that say nothing else": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"managedFields":[` +
				`{"apiVersion":"core.keelson.dev/v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:finalizers":{".":{},"v:\"keelson.dev/pod\"":{}},"f:annotations":{".":{},"f:keelson.dev/deletion-grace-period-seconds":{},"f:a":{}}},"f:status":{"f:phase":{},"f:summary":{"f:ready":{}}}},"manager":"node"},` +
				`{"apiVersion":"core.keelson.dev/v1","fieldsV1":{"f:status":{"f:summary":{"f:ready":{}}}},"manager":"columns"},` +
				`{"apiVersion":"core.keelson.dev/v1","fieldsV1":{"f:metadata":{"f:finalizers":{".":{},"v:\"keelson.dev/pod\"":{}}},"f:spec":{"f:nodeName":{}}},"manager":"scheduler"}]}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"managedFields":[` +
				`{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:a":{}}},"f:status":{"f:phase":{}}},"manager":"node"},` +
				`{"apiVersion":"v1","fieldsV1":{"f:spec":{"f:nodeName":{}}},"manager":"scheduler"}]}}`,
		},
		"the finalizer and the grace annotation are hidden with the lists that hold only them": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":{"keelson.dev/deletion-grace-period-seconds":"5"},"finalizers":["keelson.dev/pod"],"name":"a"}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`,
		},
		"other finalizers and annotations stay": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":{"a":"keelson.dev/pod","keelson.dev/deletion-grace-period-seconds":"5"},"finalizers":["keelson.dev/pod","x/y"],"name":"a"}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a":"keelson.dev/pod"},"finalizers":["x/y"],"name":"a"}}`,
		},
		"what kubectl applied last names the upstream kind, its other bytes stay": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"core.keelson.dev/v1\", \"kind\":\"Pod\",\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"core.keelson.dev/v1\",\"kind\":\"Node\"}]}}\n"}}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\", \"kind\":\"Pod\",\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Node\"}]}}\n"}}}`,
		},
		"a Pod being deleted is gone after its grace period": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["keelson.dev/pod"]},"spec":{"terminationGracePeriodSeconds":60}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"deletionGracePeriodSeconds":60,"deletionTimestamp":"2026-01-02T03:05:05Z"},"spec":{"terminationGracePeriodSeconds":60}}`,
		},
		"the annotation shortens the grace period": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","spec":{"terminationGracePeriodSeconds":60},"metadata":{"annotations":{"keelson.dev/deletion-grace-period-seconds":"7"},"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["keelson.dev/pod","x/y"]}}`,
			`{"apiVersion":"v1","kind":"Pod","spec":{"terminationGracePeriodSeconds":60},"metadata":{"deletionTimestamp":"2026-01-02T03:04:12Z","deletionGracePeriodSeconds":7,"finalizers":["x/y"]}}`,
		},
		"but never lengthens it, and a negative one is a second": {
			`{"kind":"PodList","apiVersion":"core.keelson.dev/v1","items":[{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":{"keelson.dev/deletion-grace-period-seconds":"99"},"deletionTimestamp":"2026-01-02T03:04:05Z","deletionGracePeriodSeconds":0,"finalizers":["keelson.dev/pod"]}},{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":{"keelson.dev/deletion-grace-period-seconds":"-9"},"deletionTimestamp":"2026-01-02T03:04:05Z","deletionGracePeriodSeconds":0,"finalizers":["keelson.dev/pod"]}}]}`,
			`{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"deletionTimestamp":"2026-01-02T03:04:35Z","deletionGracePeriodSeconds":30}},{"metadata":{"deletionTimestamp":"2026-01-02T03:04:06Z","deletionGracePeriodSeconds":1}}]}`,
		},
		"a Pod that the node has let go waits for others, without grace": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["x/y"]}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["x/y"]}}`,
		},
		"other kinds know no grace": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Service","metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["x/y"]}}`,
			`{"apiVersion":"v1","kind":"Service","metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["x/y"]}}`,
		},
		"the items of a list do not name their kind, as upstream's": {
			`{"apiVersion":"core.keelson.dev/v1","items":[{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a"}},{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"b"}}],"kind":"PodList","metadata":{"continue":"x","resourceVersion":"7"}}`,
			`{"apiVersion":"v1","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}],"kind":"PodList","metadata":{"continue":"x","resourceVersion":"7"}}`,
		},
		"an empty list": {
			`{"items":[],"kind":"PodList","apiVersion":"core.keelson.dev/v1"}`,
			`{"items":[],"kind":"PodList","apiVersion":"v1"}`,
		},
		"cells of a Table that hold nothing say so in upstream's words": {
			`{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{"cells":["a",null,0,"", null]}]}`,
			`{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{"cells":["a","<none>",0,"", "<none>"]}]}`,
		},
		"a Table's rows hold metadata": {
			`{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"},"columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["a"],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a","finalizers":["keelson.dev/pod"],"managedFields":[{"apiVersion":"core.keelson.dev/v1"}]}}},{"cells":["b"]}]}`,
			`{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"},"columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["a"],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a","managedFields":[{"apiVersion":"v1"}]}}},{"cells":["b"]}]}`,
		},
		"or whole objects": {
			`{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{"cells":["a"],"object":{"kind":"Pod","apiVersion":"core.keelson.dev/v1","status":{"summary":{},"phase":"Failed"}}}]}`,
			`{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{"cells":["a"],"object":{"kind":"Pod","apiVersion":"v1","status":{"phase":"Failed"}}}]}`,
		},
		"lists of metadata keep their kinds": {
			`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"ownerReferences":[{"apiVersion":"core.keelson.dev/v1","kind":"Node"}]}}]}`,
			`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node"}]}}]}`,
		},
		"Events speak of upstream kinds": {
			`{"kind":"EventList","apiVersion":"v1","items":[{"metadata":{"name":"e"},"involvedObject":{"kind":"Pod","apiVersion":"core.keelson.dev/v1"},"related":{"kind":"ConfigMap","apiVersion":"v1"}}]}`,
			`{"kind":"EventList","apiVersion":"v1","items":[{"metadata":{"name":"e"},"involvedObject":{"kind":"Pod","apiVersion":"v1"},"related":{"kind":"ConfigMap","apiVersion":"v1"}}]}`,
		},
		"of either group": {
			`{"kind":"Event","apiVersion":"events.k8s.io/v1","regarding":{"apiVersion":"core.keelson.dev/v1","kind":"Pod"}}`,
			`{"kind":"Event","apiVersion":"events.k8s.io/v1","regarding":{"apiVersion":"v1","kind":"Pod"}}`,
		},
		"a member of this name in other kinds is theirs": {
			`{"kind":"Thing","apiVersion":"x/v1","related":{"apiVersion":"core.keelson.dev/v1","kind":"Pod"},"status":{"summary":{}}}`,
			`{"kind":"Thing","apiVersion":"x/v1","related":{"apiVersion":"core.keelson.dev/v1","kind":"Pod"},"status":{"summary":{}}}`,
		},
		"a layout for people stays one": {
			"{\n  \"apiVersion\": \"core.keelson.dev/v1\",\n  \"items\": [\n    {\n      \"apiVersion\": \"core.keelson.dev/v1\",\n      \"kind\": \"Pod\",\n      \"metadata\": {\n        \"finalizers\": [\n          \"keelson.dev/pod\"\n        ],\n        \"name\": \"a\"\n      }\n    }\n  ],\n  \"kind\": \"PodList\"\n}",
			"{\n  \"apiVersion\": \"v1\",\n  \"items\": [\n    {\n      \"metadata\": {\n        \"name\": \"a\"\n      }\n    }\n  ],\n  \"kind\": \"PodList\"\n}",
		},
		"members of the wrong type are left alone": {
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":[1],"finalizers":"x","managedFields":{"a":1},"ownerReferences":null},"status":"x","spec":3}`,
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":[1],"finalizers":"x","managedFields":{"a":1},"ownerReferences":null},"status":"x","spec":3}`,
		},
		"text that is no object passes": {`[1, "a"]`, `[1, "a"]`},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "members of the wrong type are left alone" {
				test.want = strings.Replace(test.want, "core.keelson.dev/v1", "v1", 1)
			}
			var whole, slow bytes.Buffer
			if err := translator().Copy(&whole, strings.NewReader(test.stored)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want+"\n", whole.String()); diff != "" {
				t.Errorf("Copy (-want +got):\n%s", diff)
			}
			if err := translator().Copy(&slow, iotest.OneByteReader(strings.NewReader(test.stored))); err != nil {
				t.Fatal(err)
			}
			if slow.String() != whole.String() {
				t.Errorf("one byte at a time: %s\nat once: %s", slow.String(), whole.String())
			}
			appended, err := translator().AppendObject([]byte("x"), []byte(test.stored))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("x"+test.want, string(appended)); diff != "" {
				t.Errorf("AppendObject (-want +got):\n%s", diff)
			}
		})
	}
}

// A stored duration that has no end yet is its start.
func TestDurationsWithoutAnEndGoOn(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := testingclock.NewFakePassiveClock(start.Add(90 * time.Second))
	translator := NewWithClock(table.Keelson(), clock)
	const rows = `{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[{"cells":["a","since %s","since ever"]}]}`
	for after, want := range map[time.Duration]string{90 * time.Second: "90s", 3 * time.Hour: "3h"} {
		clock.SetTime(start.Add(after))
		got, err := translator.AppendObject(nil, fmt.Appendf(nil, rows, start.Format(time.RFC3339)))
		if diff := cmp.Diff(strings.Replace(rows, "since %s", want, 1), string(got)); diff != "" || err != nil {
			t.Errorf("%v, after %s (-want +got):\n%s", err, after, diff)
		}
	}
}
