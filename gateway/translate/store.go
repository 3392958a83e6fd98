package translate

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/keelson-dev/keelson/gateway/table"
)

// ToStored turns an object of the row's kind, as a client sent it, into the form to
// store, in place: apiVersion and kind (filled in where missing), ownerReferences,
// managedFields, kubectl's last-applied annotation, scaleTargetRef. Null members are
// dropped, as upstream's decoder drops them. An object of another kind or version is
// refused with upstream's words (a 400 apierrors.APIStatus).
func (t *Translator) ToStored(row table.Row, obj map[string]any) error {
	if err := checkKind(row, obj); err != nil {
		return err
	}
	dropNulls(obj)
	obj["apiVersion"], obj["kind"] = row.Stored.GroupVersion().String(), row.Kind
	t.namesToStored(row, obj)
	return nil
}

// namesToStored renames what an object of the row's kind says besides its own
// apiVersion. It reports whether anything changed.
func (t *Translator) namesToStored(row table.Row, obj map[string]any) bool {
	changed := t.referencesToStored(obj)
	if row.Kind == horizontalPodAutoscaler {
		changed = t.nestedToStored(obj, "spec", "scaleTargetRef") || changed
	}
	if status, ok := obj["status"].(map[string]any); ok && row.Kind == "CronJob" {
		changed = t.refsToStored(status["active"]) || changed
	}
	metadata, _ := obj["metadata"].(map[string]any)
	if annotations, ok := metadata["annotations"].(map[string]any); ok {
		if applied, ok := annotations[corev1.LastAppliedConfigAnnotation].(string); ok {
			renamed := string(renameApplied([]byte(applied), t.names.storedVersion))
			annotations[corev1.LastAppliedConfigAnnotation] = renamed
			changed = changed || renamed != applied
		}
	}
	entries, _ := metadata["managedFields"].([]any)
	for _, entry := range entries {
		if entry, ok := entry.(map[string]any); ok && entry["apiVersion"] == row.Upstream.GroupVersion().String() {
			entry["apiVersion"], changed = row.Stored.GroupVersion().String(), true
		}
	}
	return changed
}

// ReferencesToStored rewrites what an object outside the table says about kinds in it,
// in place: its ownerReferences and, in an Event, involvedObject, regarding and
// related. It reports whether anything changed.
func (t *Translator) ReferencesToStored(obj map[string]any) bool {
	changed := t.referencesToStored(obj)
	switch obj["kind"] {
	case "Event", nil, "":
		for _, name := range []string{"involvedObject", "regarding", "related"} {
			changed = t.nestedToStored(obj, name) || changed
		}
	case horizontalPodAutoscaler:
		changed = t.nestedToStored(obj, "spec", "scaleTargetRef") || changed
	}
	return changed
}

func (t *Translator) referencesToStored(obj map[string]any) bool {
	metadata, _ := obj["metadata"].(map[string]any)
	return t.refsToStored(metadata["ownerReferences"])
}

// refsToStored renames a list of references, or one.
func (t *Translator) refsToStored(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		return t.referenceToStored(value)
	case []any:
		changed := false
		for _, ref := range value {
			if ref, ok := ref.(map[string]any); ok {
				changed = t.referenceToStored(ref) || changed
			}
		}
		return changed
	}
	return false
}

func (t *Translator) nestedToStored(obj map[string]any, path ...string) bool {
	for _, name := range path {
		obj, _ = obj[name].(map[string]any)
	}
	return t.referenceToStored(obj)
}

func (t *Translator) referenceToStored(ref map[string]any) bool {
	apiVersion, _ := ref["apiVersion"].(string)
	kind, _ := ref["kind"].(string)
	stored, ok := t.names.storedVersion([]byte(apiVersion), []byte(kind))
	if ok {
		ref["apiVersion"] = stored
	}
	return ok
}

// checkKind refuses an object that is not of the row's kind, as upstream's decoder and
// create handler do.
func checkKind(row table.Row, obj map[string]any) error {
	apiVersion, okVersion := stringOrNone(obj, "apiVersion")
	kind, okKind := stringOrNone(obj, "kind")
	if !okVersion || !okKind {
		return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): apiVersion and kind must be strings", row.Kind))
	}
	want := row.UpstreamKind()
	got := want
	if kind != "" {
		got.Kind = kind
	}
	if apiVersion != "" {
		gv, err := schema.ParseGroupVersion(apiVersion)
		if err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v", row.Kind, err))
		}
		got = gv.WithKind(got.Kind)
	}
	switch {
	case got == want:
		return nil
	case !scheme.Scheme.Recognizes(got):
		return apierrors.NewBadRequest(fmt.Sprintf(
			"%s in version %q cannot be handled as a %s: no kind %q is registered for version %q in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
			got.Kind, got.Version, want.Kind, got.Kind, got.GroupVersion()))
	case got.GroupKind() == want.GroupKind():
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the API version in the data (%s) does not match the expected API version (%s)", got.GroupVersion(), want.GroupVersion()))
	}
	internal := want.Group
	if internal == "" {
		internal = "core"
	}
	return apierrors.NewBadRequest(fmt.Sprintf(
		"%s in version %q cannot be handled as a %s: converting (%s.%s) to (%s.%s): unknown conversion",
		got.Kind, got.Version, want.Kind, got.Version, got.Kind, internal, want.Kind))
}

// stringOrNone is the string member of obj; not ok if it is something else.
func stringOrNone(obj map[string]any, name string) (string, bool) {
	value, ok := obj[name]
	if !ok || value == nil {
		return "", true
	}
	text, ok := value.(string)
	return text, ok
}

// dropNulls removes the members of a tree that are null. In maps of strings upstream's
// decoder keeps the name with its zero value.
func dropNulls(obj map[string]any) {
	for name, value := range obj {
		switch value := value.(type) {
		case nil:
			delete(obj, name)
		case map[string]any:
			if stringMaps[name] && isStringMap(value) {
				for key, content := range value {
					if content == nil {
						value[key] = ""
					}
				}
				continue
			}
			dropNulls(value)
		case []any:
			dropNullsInside(value)
		}
	}
}

// stringMaps are the names of members that hold maps of strings in every built-in type.
var stringMaps = map[string]bool{"labels": true, "annotations": true, "nodeSelector": true, "matchLabels": true, "selector": true}

// isStringMap is false for a LabelSelector, which a member called selector may be, too.
func isStringMap(value map[string]any) bool {
	for name, content := range value {
		switch content.(type) {
		case string, nil:
		default:
			return false
		}
		if name == "matchLabels" || name == "matchExpressions" {
			return false
		}
	}
	return true
}

func dropNullsInside(list []any) {
	for _, value := range list {
		switch value := value.(type) {
		case map[string]any:
			dropNulls(value)
		case []any:
			dropNullsInside(value)
		}
	}
}
