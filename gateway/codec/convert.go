package codec

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// converted is obj in the kind that the client wants: what the API server does with
// its own answers, for those that the gateway makes itself. A Table has the columns
// that upstream shows of kinds that it knows nothing about.
func converted(f Format, obj map[string]any) (map[string]any, error) {
	if f.Convert == nil || obj["kind"] == "Status" {
		return obj, nil
	}
	object := unstructured.Unstructured{Object: obj}
	apiVersion := f.Convert.GroupVersion().String()
	items, isList := obj["items"].([]any)
	switch {
	case f.Convert.Kind == "PartialObjectMetadata" && !isList:
		return metadataOnly(obj, apiVersion), nil
	case f.Convert.Kind == "PartialObjectMetadataList" && isList:
		partial := make([]any, 0, len(items))
		for _, item := range items {
			if item, ok := item.(map[string]any); ok {
				partial = append(partial, metadataOnly(item, apiVersion))
			}
		}
		return map[string]any{"apiVersion": apiVersion, "kind": f.Convert.Kind, "metadata": obj["metadata"], "items": partial}, nil
	case f.Convert.Kind == "Table" && !isList:
		items = []any{obj}
	case f.Convert.Kind != "Table":
		return nil, notAcceptable()
	}
	rows := make([]any, 0, len(items))
	for _, item := range items {
		if item, ok := item.(map[string]any); ok {
			row := unstructured.Unstructured{Object: item}
			created, _, _ := unstructured.NestedString(item, "metadata", "creationTimestamp")
			rows = append(rows, map[string]any{
				"cells":  []any{row.GetName(), created},
				"object": metadataOnly(item, apiVersion),
			})
		}
	}
	return map[string]any{
		"apiVersion": apiVersion,
		"kind":       "Table",
		"metadata":   map[string]any{"resourceVersion": object.GetResourceVersion()},
		"columnDefinitions": []any{
			map[string]any{"name": "Name", "type": "string", "format": "name", "description": "The name of the object.", "priority": int64(0)},
			map[string]any{"name": "Created At", "type": "date", "format": "", "description": "When the object was created.", "priority": int64(0)},
		},
		"rows": rows,
	}, nil
}

func metadataOnly(obj map[string]any, apiVersion string) map[string]any {
	return map[string]any{"apiVersion": apiVersion, "kind": "PartialObjectMetadata", "metadata": obj["metadata"]}
}
