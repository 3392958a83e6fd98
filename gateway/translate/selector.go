package translate

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/keelson-dev/keelson/gateway/table"
)

// selectable are the fields besides metadata.name and metadata.namespace that upstream
// selects objects of a core kind by (its pkg/apis/core/v1/conversion.go). The custom
// resources select by the same ones, see the selectablefield markers in apis. Kinds
// that are not named here have no others, and another message about it.
var selectable = map[string][]string{
	"Pod": {
		"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
		"spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
	},
	"Node":                  {"spec.unschedulable"},
	"ReplicationController": {"status.replicas"},
	"Service":               {"spec.clusterIP", "spec.type"},
}

// absent are selectable booleans, which custom resources leave out where they are
// false and upstream shows as "false".
var absent = []string{"spec.hostNetwork", "spec.unschedulable"}

// FieldSelectorToStored turns a field selector on the row's kind into one that the
// custom resource supports. A field that upstream does not select by is refused with
// upstream's words (a 400 apierrors.APIStatus).
func (t *Translator) FieldSelectorToStored(row table.Row, selector string) (string, error) {
	parsed, err := fields.ParseSelector(selector)
	if err != nil {
		return "", apierrors.NewBadRequest(err.Error())
	}
	terms := make([]fields.Selector, 0, len(parsed.Requirements()))
	for _, term := range parsed.Requirements() {
		field, err := storedField(row, term.Field)
		if err != nil {
			return "", apierrors.NewBadRequest(err.Error())
		}
		equal := term.Operator == "=" || term.Operator == "=="
		value := term.Value
		if slices.Contains(absent, field) && value == "false" {
			equal, value = !equal, "true"
		}
		if field == storedSucceeded && value == "0" {
			value = "" // custom resources leave zero out
		}
		if equal {
			terms = append(terms, fields.OneTermEqualSelector(field, value))
		} else {
			terms = append(terms, fields.OneTermNotEqualSelector(field, value))
		}
	}
	return fields.AndSelectors(terms...).String(), nil
}

func storedField(row table.Row, field string) (string, error) {
	if row.Kind == "Job" {
		return storedJobField(field)
	}
	extra, known := selectable[row.Kind]
	if row.Upstream.Group != corev1.GroupName || !known {
		field, _, err := runtime.DefaultMetaV1FieldSelectorConversion(field, "")
		return field, err
	}
	switch {
	case field == "metadata.name", field == "metadata.namespace" && row.Namespaced, slices.Contains(extra, field):
		return field, nil
	case field == "spec.host" && row.Kind == "Pod":
		return "spec.nodeName", nil
	}
	return "", fmt.Errorf("field label not supported: %s", field)
}

// storedSucceeded is what upstream calls status.successful in selectors.
const storedSucceeded = "status.succeeded"

func storedJobField(field string) (string, error) {
	switch field {
	case "metadata.name", "metadata.namespace":
		return field, nil
	case "status.successful":
		return storedSucceeded, nil
	}
	return "", fmt.Errorf("field label %q not supported for batchv1.Job", field)
}

// EventSelectorToStored does the same for Events: involvedObject.apiVersion (and
// regarding's) of a kind in the table. Without a kind in the selector the version
// stays as it is, because Events of kinds outside the table bear it, too.
func (t *Translator) EventSelectorToStored(selector string) (string, error) {
	parsed, err := fields.ParseSelector(selector)
	if err != nil {
		return "", apierrors.NewBadRequest(err.Error())
	}
	kind, ok := parsed.RequiresExactMatch("involvedObject.kind")
	reference := "involvedObject.apiVersion"
	if !ok {
		kind, ok = parsed.RequiresExactMatch("regarding.kind")
		reference = "regarding.apiVersion"
	}
	if !ok {
		return selector, nil
	}
	renamed, err := parsed.Transform(func(field, value string) (string, string, error) {
		if field == reference {
			if stored, ok := t.names.storedVersion([]byte(value), []byte(kind)); ok {
				value = stored
			}
		}
		return field, value, nil
	})
	if err != nil {
		return "", apierrors.NewBadRequest(err.Error())
	}
	return renamed.String(), nil
}
