package translate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/gateway/table"
)

const horizontalPodAutoscaler = "HorizontalPodAutoscaler"

// PatchToStored translates a JSON, merge or apply patch of the row's kind.
// ErrNeedsObject: see there; strategic merge patches always need the object. A body
// that cannot be read is returned as it is: the API server refuses it in its own words.
func (t *Translator) PatchToStored(row table.Row, patchType types.PatchType, body []byte) ([]byte, error) {
	switch patchType {
	case types.JSONPatchType:
		return t.jsonPatch(row, body)
	case types.MergePatchType:
		return t.mergePatch(row, body)
	case types.ApplyYAMLPatchType:
		return t.applyPatch(row, body)
	}
	return nil, ErrNeedsObject
}

func (t *Translator) mergePatch(row table.Row, body []byte) ([]byte, error) {
	var patch map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &patch); err != nil || patch == nil {
		return body, nil //nolint:nilerr // the API server refuses it in its own words
	}
	if mergeNeedsObject(row, patch) {
		return nil, ErrNeedsObject
	}
	changed := t.namesToStored(row, patch)
	if patch["apiVersion"] == row.Upstream.GroupVersion().String() {
		patch["apiVersion"], changed = row.Stored.GroupVersion().String(), true
	}
	return reencoded(body, patch, changed)
}

// mergeNeedsObject: a merge patch replaces lists, and null removes everything below,
// of which clients see a part only.
func mergeNeedsObject(row table.Row, patch map[string]any) bool {
	if status, ok := patch["status"]; ok {
		members, isMap := status.(map[string]any)
		if _, summary := members["summary"]; !isMap || summary {
			return true
		}
	}
	if spec, ok := patch["spec"].(map[string]any); ok && row.Kind == horizontalPodAutoscaler && spec["scaleTargetRef"] != nil {
		return true
	}
	value, ok := patch["metadata"]
	metadata, isMap := value.(map[string]any)
	if ok && !isMap {
		return true
	}
	for name, value := range metadata {
		switch name {
		case "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds":
			return true
		case "finalizers":
			if isPod(row) {
				return true
			}
		case "annotations":
			if _, isMap := value.(map[string]any); !isMap {
				return true
			}
		}
	}
	return false
}

// applyPatch leaves out what the client left out: the API server says what is missing.
func (t *Translator) applyPatch(row table.Row, body []byte) ([]byte, error) {
	var obj map[string]any
	encoded, err := yaml.YAMLToJSON(body)
	if err != nil {
		return body, nil //nolint:nilerr // the API server refuses it in its own words
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(encoded, &obj); err != nil || obj == nil {
		return body, nil //nolint:nilerr // the API server refuses it in its own words
	}
	// Null is no value to own.
	dropNulls(obj)
	t.namesToStored(row, obj)
	if obj["apiVersion"] == row.Upstream.GroupVersion().String() && obj["kind"] == row.Kind {
		obj["apiVersion"] = row.Stored.GroupVersion().String()
	}
	return reencoded(body, obj, true)
}

// reencoded is body unless the tree has changed, so that what a tree cannot hold (a
// name that occurs twice) reaches the API server's validation where possible.
func reencoded(body []byte, tree any, changed bool) ([]byte, error) {
	if !changed {
		return body, nil
	}
	encoded, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("encode a translated patch: %w", err)
	}
	return encoded, nil
}

// jsonPatch translates an RFC 6902 patch.
func (t *Translator) jsonPatch(row table.Row, body []byte) ([]byte, error) {
	var operations []map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &operations); err != nil {
		return body, nil //nolint:nilerr // the API server refuses it in its own words
	}
	changed := false
	for _, operation := range operations {
		for _, name := range []string{"path", "from"} {
			if path, ok := operation[name].(string); ok && pathNeedsObject(row, pointer(path)) {
				return nil, ErrNeedsObject
			}
		}
		changed = t.operation(row, operation) || changed
	}
	return reencoded(bytes.TrimSpace(body), operations, changed)
}

// operation translates the value of one operation.
func (t *Translator) operation(row table.Row, operation map[string]any) bool {
	path, _ := operation["path"].(string)
	at := pointer(path)
	switch {
	case matches(at, "apiVersion"):
		if operation["value"] == row.Upstream.GroupVersion().String() {
			operation["value"] = row.Stored.GroupVersion().String()
			return true
		}
	case matches(at, "metadata", "ownerReferences"), matches(at, "metadata", "ownerReferences", "*"):
		return t.refsToStored(operation["value"])
	case matches(at, "metadata", "annotations", corev1.LastAppliedConfigAnnotation):
		if applied, ok := operation["value"].(string); ok {
			operation["value"] = string(renameApplied([]byte(applied), t.names.storedVersion))
			return operation["value"] != applied
		}
	}
	return false
}

// pathNeedsObject: what stands at this place differs between the two forms in more
// than the names in an operation's value.
func pathNeedsObject(row table.Row, at []string) bool {
	switch {
	case matches(at), matches(at, "metadata"), matches(at, "metadata", "annotations"),
		matches(at, "status"), matches(at, "status", "summary", "**"):
		return true
	case matches(at, "metadata", "managedFields", "**"),
		matches(at, "metadata", "deletionTimestamp"), matches(at, "metadata", "deletionGracePeriodSeconds"):
		return true
	case matches(at, "metadata", "finalizers", "**"), matches(at, "metadata", "generation"):
		return isPod(row)
	case matches(at, "metadata", "ownerReferences", "*", "*"):
		return true
	case matches(at, "spec", "scaleTargetRef", "**"):
		return row.Kind == horizontalPodAutoscaler
	}
	return false
}

// pointer splits an RFC 6901 pointer into names.
func pointer(path string) []string {
	if path == "" {
		return nil
	}
	names := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, name := range names {
		names[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return names
}

// matches compares a pointer with names, of which "*" stands for any one and "**", at
// the end, for any number.
func matches(at []string, names ...string) bool {
	if n := len(names); n > 0 && names[n-1] == "**" {
		names = names[:n-1]
		if len(at) < len(names) {
			return false
		}
		at = at[:len(names)]
	}
	if len(at) != len(names) {
		return false
	}
	for i, name := range names {
		if name != "*" && at[i] != name {
			return false
		}
	}
	return true
}
