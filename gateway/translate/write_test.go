package translate

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"github.com/keelson-dev/keelson/gateway/table"
)

func row(t testing.TB, plural string) table.Row {
	t.Helper()
	for _, row := range table.Keelson().Rows() {
		if row.Upstream.Resource == plural {
			return row
		}
	}
	t.Fatalf("no row of %s", plural)
	return table.Row{}
}

func tree(t testing.TB, text string) map[string]any {
	t.Helper()
	var tree map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestToStored(t *testing.T) {
	for name, test := range map[string]struct{ plural, sent, want, wantError string }{
		"a Pod": {
			"pods", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"priority":7}}`,
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"name":"a"},"spec":{"priority":7}}`, "",
		},
		"one that names no kind": {
			"services", `{"metadata":{"name":"a"}}`,
			`{"apiVersion":"core.keelson.dev/v1","kind":"Service","metadata":{"name":"a"}}`, "",
		},
		"owners, managed fields and what was applied": {
			"pods", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}\n"},"managedFields":[{"apiVersion":"v1"},{"apiVersion":"other/v1"}],"ownerReferences":[{"apiVersion":"v1","kind":"ReplicationController"},{"apiVersion":"v1","kind":"ConfigMap"}]}}`,
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"core.keelson.dev/v1\",\"kind\":\"Pod\"}\n"},"managedFields":[{"apiVersion":"core.keelson.dev/v1"},{"apiVersion":"other/v1"}],"ownerReferences":[{"apiVersion":"core.keelson.dev/v1","kind":"ReplicationController"},{"apiVersion":"v1","kind":"ConfigMap"}]}}`, "",
		},
		"what was applied and cannot be read stays": {
			"pods", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\","}}}`,
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\","}}}`, "",
		},
		"null is nothing, and the empty string in a map of strings": {
			"pods", `{"metadata":{"creationTimestamp":null,"labels":{"a":null},"annotations":null},"spec":{"nodeSelector":{"x":null},"containers":[{"name":"c","livenessProbe":null}],"affinity":{"podAffinity":{"a":[{"selector":{"matchLabels":null}}]}}},"status":null}`,
			`{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"labels":{"a":""}},"spec":{"affinity":{"podAffinity":{"a":[{"selector":{}}]}},"containers":[{"name":"c"}],"nodeSelector":{"x":""}}}`, "",
		},
		"another kind":                         {"pods", `{"apiVersion":"v1","kind":"ConfigMap"}`, "", `ConfigMap in version "v1" cannot be handled as a Pod: converting (v1.ConfigMap) to (core.Pod): unknown conversion`},
		"a kind that nobody knows":             {"pods", `{"apiVersion":"v1","kind":"Pox"}`, "", `Pox in version "v1" cannot be handled as a Pod: no kind "Pox" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30"`},
		"the stored kind, which is not served": {"pods", `{"apiVersion":"core.keelson.dev/v1","kind":"Pod"}`, "", `Pod in version "v1" cannot be handled as a Pod: no kind "Pod" is registered for version "core.keelson.dev/v1" in scheme "pkg/api/legacyscheme/scheme.go:30"`},
		"a kind that is a number":              {"pods", `{"apiVersion":"v1","kind":3}`, "", "the object provided is unrecognized (must be of type Pod): apiVersion and kind must be strings"},
		"a version of three parts":             {"pods", `{"apiVersion":"a/b/c","kind":"Pod"}`, "", "the object provided is unrecognized (must be of type Pod): unexpected GroupVersion string: a/b/c"},
	} {
		t.Run(name, func(t *testing.T) {
			obj := tree(t, test.sent)
			err := translator().ToStored(row(t, test.plural), obj)
			if test.wantError != "" {
				if err == nil || err.Error() != test.wantError || !apierrors.IsBadRequest(err) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tree(t, test.want), obj); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReferencesToStored(t *testing.T) {
	for name, test := range map[string]struct {
		sent, want string
		changed    bool
	}{
		"an owner":                    {`{"kind":"ConfigMap","metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod"}]}}`, `{"kind":"ConfigMap","metadata":{"ownerReferences":[{"apiVersion":"core.keelson.dev/v1","kind":"Pod"}]}}`, true},
		"an Event":                    {`{"kind":"Event","involvedObject":{"apiVersion":"v1","kind":"Pod"},"related":{"apiVersion":"v1","kind":"Node"}}`, `{"kind":"Event","involvedObject":{"apiVersion":"core.keelson.dev/v1","kind":"Pod"},"related":{"apiVersion":"core.keelson.dev/v1","kind":"Node"}}`, true},
		"an Event about other things": {`{"kind":"Event","regarding":{"apiVersion":"v1","kind":"ConfigMap"}}`, `{"kind":"Event","regarding":{"apiVersion":"v1","kind":"ConfigMap"}}`, false},
		"somebody else's field":       {`{"kind":"Thing","regarding":{"apiVersion":"v1","kind":"Pod"}}`, `{"kind":"Thing","regarding":{"apiVersion":"v1","kind":"Pod"}}`, false},
		"wrong types":                 {`{"kind":"Event","involvedObject":[1],"metadata":{"ownerReferences":{"a":1}}}`, `{"kind":"Event","involvedObject":[1],"metadata":{"ownerReferences":{"a":1}}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			obj := tree(t, test.sent)
			if changed := translator().ReferencesToStored(obj); changed != test.changed {
				t.Errorf("changed: %v", changed)
			}
			if diff := cmp.Diff(tree(t, test.want), obj); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPatchToStored(t *testing.T) {
	const needsObject = "needs the object"
	for name, test := range map[string]struct {
		kind       types.PatchType
		plural     string
		body, want string
	}{
		"merge: a field":                       {types.MergePatchType, "pods", `{"spec":{"a":null},"x":1,"x":2}`, `{"spec":{"a":null},"x":1,"x":2}`},
		"merge: the version":                   {types.MergePatchType, "pods", `{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":null}}}`, `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"labels":{"a":null}}}`},
		"merge: owners":                        {types.MergePatchType, "pods", `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node"}]}}`, `{"metadata":{"ownerReferences":[{"apiVersion":"core.keelson.dev/v1","kind":"Node"}]}}`},
		"merge: what was applied":              {types.MergePatchType, "pods", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}\n"}}}`, `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"core.keelson.dev/v1\",\"kind\":\"Pod\"}\n"}}}`},
		"merge: finalizers of a Pod":           {types.MergePatchType, "pods", `{"metadata":{"finalizers":[]}}`, needsObject},
		"merge: finalizers of another kind":    {types.MergePatchType, "services", `{"metadata":{"finalizers":[]}}`, `{"metadata":{"finalizers":[]}}`},
		"merge: no annotations":                {types.MergePatchType, "pods", `{"metadata":{"annotations":null}}`, needsObject},
		"merge: no status":                     {types.MergePatchType, "nodes", `{"status":null}`, needsObject},
		"merge: managed fields":                {types.MergePatchType, "nodes", `{"metadata":{"managedFields":[{}]}}`, needsObject},
		"merge: text that is no object":        {types.MergePatchType, "pods", `[`, `[`},
		"JSON: a field":                        {types.JSONPatchType, "pods", `[{"op":"replace","path":"/spec/x","value":1}]`, `[{"op":"replace","path":"/spec/x","value":1}]`},
		"JSON: the resource version":           {types.JSONPatchType, "pods", `[{"op":"test","path":"/metadata/resourceVersion","value":"7"}]`, `[{"op":"test","path":"/metadata/resourceVersion","value":"7"}]`},
		"JSON: the version":                    {types.JSONPatchType, "pods", `[{"op":"test","path":"/apiVersion","value":"v1"}]`, `[{"op":"test","path":"/apiVersion","value":"core.keelson.dev/v1"}]`},
		"JSON: an owner":                       {types.JSONPatchType, "pods", `[{"op":"add","path":"/metadata/ownerReferences/-","value":{"apiVersion":"v1","kind":"Node"}}]`, `[{"op":"add","path":"/metadata/ownerReferences/-","value":{"apiVersion":"core.keelson.dev/v1","kind":"Node"}}]`},
		"JSON: all owners":                     {types.JSONPatchType, "pods", `[{"op":"add","path":"/metadata/ownerReferences","value":[{"apiVersion":"v1","kind":"Node"}]}]`, `[{"op":"add","path":"/metadata/ownerReferences","value":[{"apiVersion":"core.keelson.dev/v1","kind":"Node"}]}]`},
		"JSON: an owner's version":             {types.JSONPatchType, "pods", `[{"op":"test","path":"/metadata/ownerReferences/0/apiVersion","value":"v1"}]`, needsObject},
		"JSON: what was applied":               {types.JSONPatchType, "pods", `[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}"}]`, `[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"{\"apiVersion\":\"core.keelson.dev/v1\",\"kind\":\"Pod\"}"}]`},
		"JSON: another annotation":             {types.JSONPatchType, "pods", `[{"op":"remove","path":"/metadata/annotations/a~1b"}]`, `[{"op":"remove","path":"/metadata/annotations/a~1b"}]`},
		"JSON: a finalizer of a Pod by number": {types.JSONPatchType, "pods", `[{"op":"remove","path":"/metadata/finalizers/0"}]`, needsObject},
		"JSON: of another kind":                {types.JSONPatchType, "nodes", `[{"op":"remove","path":"/metadata/finalizers/0"}]`, `[{"op":"remove","path":"/metadata/finalizers/0"}]`},
		"JSON: all annotations":                {types.JSONPatchType, "nodes", `[{"op":"remove","path":"/metadata/annotations"}]`, needsObject},
		"JSON: copied metadata":                {types.JSONPatchType, "nodes", `[{"op":"copy","from":"/metadata","path":"/spec/x"}]`, needsObject},
		"JSON: everything":                     {types.JSONPatchType, "nodes", `[{"op":"replace","path":"","value":{}}]`, needsObject},
		"JSON: hidden status":                  {types.JSONPatchType, "nodes", `[{"op":"test","path":"/status/summary/roles","value":"x"}]`, needsObject},
		"JSON: no patch":                       {types.JSONPatchType, "nodes", `{"op":1}`, `{"op":1}`},
		"apply: JSON":                          {types.ApplyYAMLPatchType, "pods", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","finalizers":["x/y"]},"spec":{"a":null}}`, `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"finalizers":["x/y"],"name":"a"},"spec":{}}`},
		"apply: YAML":                          {types.ApplyYAMLPatchType, "pods", "apiVersion: v1\nkind: Pod\nmetadata:\n  ownerReferences:\n  - {apiVersion: v1, kind: Node}\n", `{"apiVersion":"core.keelson.dev/v1","kind":"Pod","metadata":{"ownerReferences":[{"apiVersion":"core.keelson.dev/v1","kind":"Node"}]}}`},
		"apply: another kind":                  {types.ApplyYAMLPatchType, "pods", `{"apiVersion":"v1","kind":"Node"}`, `{"apiVersion":"v1","kind":"Node"}`},
		"apply: what cannot be read":           {types.ApplyYAMLPatchType, "pods", "a: [", "a: ["},
		"strategic":                            {types.StrategicMergePatchType, "pods", `{}`, needsObject},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := translator().PatchToStored(row(t, test.plural), test.kind, []byte(test.body))
			if test.want == needsObject {
				if !errors.Is(err, ErrNeedsObject) {
					t.Fatalf("got %s, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFieldSelectorToStored(t *testing.T) {
	for name, test := range map[string]struct{ plural, selector, want, wantError string }{
		"a name":                            {"pods", "metadata.name=a", "metadata.name=a", ""},
		"several fields":                    {"pods", "spec.nodeName==n,status.phase!=Failed", "spec.nodeName=n,status.phase!=Failed", ""},
		"an escaped value":                  {"pods", `metadata.name=a\,b`, `metadata.name=a\,b`, ""},
		"the old name of a field":           {"pods", "spec.host=n", "spec.nodeName=n", ""},
		"false, which is not stored":        {"pods", "spec.hostNetwork=false", "spec.hostNetwork!=true", ""},
		"not false":                         {"nodes", "spec.unschedulable!=false", "spec.unschedulable=true", ""},
		"true":                              {"nodes", "spec.unschedulable=true", "spec.unschedulable=true", ""},
		"nothing":                           {"pods", "", "", ""},
		"a field of Pods that is not known": {"pods", "spec.x=1", "", "field label not supported: spec.x"},
		"the namespace of a node":           {"nodes", "metadata.namespace=a", "", "field label not supported: metadata.namespace"},
		"a field of Endpoints":              {"endpoints", "spec.x=1", "", `"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		"how many Pods of a Job succeeded":  {"jobs", "status.successful=3", "status.succeeded=3", ""},
		"none, which is not stored":         {"jobs", "status.successful!=0", "status.succeeded!=", ""},
		"a field of Jobs":                   {"jobs", "status.failed=1", "", `field label "status.failed" not supported for batchv1.Job`},
		"no selector":                       {"pods", "a b", "", "invalid selector: 'a b'; can't understand 'a b'"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := translator().FieldSelectorToStored(row(t, test.plural), test.selector)
			if test.wantError != "" {
				if err == nil || err.Error() != test.wantError || !apierrors.IsBadRequest(err) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestEventSelectorToStored(t *testing.T) {
	for selector, want := range map[string]string{
		"involvedObject.kind=Pod,involvedObject.apiVersion=v1":                        "involvedObject.apiVersion=core.keelson.dev/v1,involvedObject.kind=Pod",
		"involvedObject.kind=ConfigMap,involvedObject.apiVersion=v1":                  "involvedObject.apiVersion=v1,involvedObject.kind=ConfigMap",
		"involvedObject.apiVersion=v1,involvedObject.name=a":                          "involvedObject.apiVersion=v1,involvedObject.name=a",
		"regarding.kind=Node,regarding.apiVersion=v1":                                 "regarding.apiVersion=core.keelson.dev/v1,regarding.kind=Node",
		"involvedObject.kind=Pod,involvedObject.name=a,involvedObject.apiVersion!=v1": "involvedObject.apiVersion!=core.keelson.dev/v1,involvedObject.kind=Pod,involvedObject.name=a",
	} {
		got, err := translator().EventSelectorToStored(selector)
		if err != nil {
			t.Fatal(err)
		}
		// Only the set of terms counts.
		if diff := cmp.Diff(terms(want), terms(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", selector, diff)
		}
	}
	if _, err := translator().EventSelectorToStored("a b"); !apierrors.IsBadRequest(err) {
		t.Errorf("got %v", err)
	}
}

func terms(selector string) map[string]bool {
	set := map[string]bool{}
	for term := range strings.SplitSeq(selector, ",") {
		set[term] = true
	}
	return set
}

func TestStatus(t *testing.T) {
	for name, test := range map[string]struct{ before, want metav1.Status }{
		"not found": {
			metav1.Status{Message: `pods.core.keelson.dev "x" not found`, Details: &metav1.StatusDetails{Name: "x", Group: "core.keelson.dev", Kind: "pods"}},
			metav1.Status{Message: `pods "x" not found`, Details: &metav1.StatusDetails{Name: "x", Kind: "pods"}},
		},
		"invalid": {
			metav1.Status{Message: `Pod.core.keelson.dev "x" is invalid: spec.containers: Required value`, Details: &metav1.StatusDetails{Name: "x", Group: "core.keelson.dev", Kind: "Pod", Causes: []metav1.StatusCause{{Type: "FieldValueRequired", Message: "Required value", Field: "spec.containers"}}}},
			metav1.Status{Message: `Pod "x" is invalid: spec.containers: Required value`, Details: &metav1.StatusDetails{Name: "x", Kind: "Pod", Causes: []metav1.StatusCause{{Type: "FieldValueRequired", Message: "Required value", Field: "spec.containers"}}}},
		},
		"refused by Keelson's webhook": {
			metav1.Status{Message: `admission webhook "admission.keelson.dev" denied the request: Pod "x" is invalid: a`},
			metav1.Status{Message: `Pod "x" is invalid: a`},
		},
		"over a quota": {
			metav1.Status{Message: `admission webhook "quota.keelson.dev" denied the request: pods "x" is forbidden: exceeded quota: q`},
			metav1.Status{Message: `pods "x" is forbidden: exceeded quota: q`},
		},
		"refused by another webhook": {
			metav1.Status{Message: `admission webhook "policy.example.com" denied the request: no`},
			metav1.Status{Message: `admission webhook "policy.example.com" denied the request: no`},
		},
		"forbidden": {
			metav1.Status{Message: `pods.core.keelson.dev "x" is forbidden: User "u" cannot get resource "pods" in API group "core.keelson.dev" in the namespace "n"`},
			metav1.Status{Message: `pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "n"`},
		},
		"a conflict": {
			metav1.Status{Message: `Operation cannot be fulfilled on pods.core.keelson.dev "x": the object has been modified; please apply your changes to the latest version and try again`},
			metav1.Status{Message: `Operation cannot be fulfilled on pods "x": the object has been modified; please apply your changes to the latest version and try again`},
		},
		"a conflict of managers": {
			metav1.Status{Message: `Apply failed with 1 conflict: conflict with "a" using core.keelson.dev/v1: .spec.x`, Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Message: `conflict with "a" using core.keelson.dev/v1`}}}},
			metav1.Status{Message: `Apply failed with 1 conflict: conflict with "a" using v1: .spec.x`, Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Message: `conflict with "a" using v1`}}}},
		},
		"nothing of ours": {
			metav1.Status{Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{Group: "apps"}},
			metav1.Status{Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{Group: "apps"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.before.DeepCopy()
			translator().Status(got)
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
