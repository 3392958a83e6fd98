package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

type object = map[string]any

// openAPIOf is the OpenAPI v3 document of the group: its paths and, for `kubectl
// explain`, the schemas of metrics objects, which all say the same.
func openAPIOf(g Group) object {
	paths, schemas := object{}, object{}
	for _, resource := range g.Resources.APIResources {
		kind := object{"group": g.Group.Name, "version": g.Group.PreferredVersion.Version, "kind": resource.Kind}
		name := schemaName(g, resource.Kind)
		schemas[name] = schemaOf(resource.Kind, kind)
		collection := g.versionPath() + "/" + resource.Name
		if resource.Namespaced {
			paths[collection] = readOperation("list", kind, name)
			collection = g.versionPath() + "/namespaces/{namespace}/" + resource.Name
		}
		paths[collection] = readOperation("list", kind, name)
		paths[collection+"/{name}"] = readOperation("get", kind, name)
	}
	return object{
		"openapi":    "3.0.0",
		"info":       object{"title": "Kubernetes", "version": "unversioned"},
		"paths":      paths,
		"components": object{"schemas": schemas},
	}
}

func schemaName(g Group, kind string) string {
	return "io.k8s.metrics.pkg.apis.metrics." + g.Group.PreferredVersion.Version + "." + kind
}

func readOperation(action string, kind object, schema string) object {
	return object{"get": object{
		"x-kubernetes-action":             action,
		"x-kubernetes-group-version-kind": kind,
		"responses": object{"200": object{
			"description": "OK",
			"content":     object{"application/json": object{"schema": object{"$ref": "#/components/schemas/" + schema}}},
		}},
	}}
}

func schemaOf(kind string, gvk object) object {
	usage := object{
		"type": "object", "description": "What was used, by resource: cpu and memory.",
		"additionalProperties": object{"type": "string"},
	}
	properties := object{
		"apiVersion": object{"type": "string", "description": "The version of the schema of this object."},
		"kind":       object{"type": "string", "description": "The kind of this object."},
		"metadata":   object{"type": "object", "description": "Standard object's metadata."},
		"timestamp":  object{"type": "string", "format": "date-time", "description": "The end of the time over which the use was measured."},
		"window":     object{"type": "string", "description": "How long that time was."},
	}
	if strings.HasPrefix(kind, "Pod") {
		properties["containers"] = object{
			"type": "array", "description": "What each container used.",
			"items": object{"type": "object", "properties": object{
				"name":  object{"type": "string", "description": "The container's name."},
				"usage": usage,
			}},
		}
	} else {
		properties["usage"] = usage
	}
	return object{
		"type": "object", "description": kind + " is what was used of CPU and memory lately.",
		"properties":                      properties,
		"x-kubernetes-group-version-kind": []any{gvk},
	}
}

func hashOf(document []byte) string {
	sum := sha256.Sum256(document)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
