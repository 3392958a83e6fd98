package resources

import (
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/keelson-dev/keelson/gateway/table"
)

// podUpdates is upstream's sentence about what an update of a Pod may change.
const podUpdates = "pod updates may not change fields other than " +
	"`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// checkPodChange refuses in an update of a Pod what has a subresource of its own, with
// its own permission: the node, the ephemeral containers and the resources. What else may not change,
// admission says.
func checkPodChange(row table.Row, live, next map[string]any) error {
	if row.Kind != "Pod" {
		return nil
	}
	for _, name := range []string{"nodeName", "ephemeralContainers"} {
		if !reflect.DeepEqual(specField(live, name), specField(next, name)) {
			return apierrors.NewInvalid(row.UpstreamKind().GroupKind(), metaString(live, "name"),
				field.ErrorList{field.Forbidden(field.NewPath("spec"), podUpdates+"; "+name+" has a subresource of its own")})
		}
	}
	resized, err := changesResources(live, next)
	if err != nil || !resized {
		return err
	}
	return apierrors.NewInvalid(row.UpstreamKind().GroupKind(), metaString(live, "name"),
		field.ErrorList{field.Forbidden(field.NewPath("spec"), podUpdates+"; resources have a subresource of their own, resize")})
}

// specField is a field of spec; what is empty is absent.
func specField(obj map[string]any, name string) any {
	spec, _ := obj["spec"].(map[string]any)
	switch value := spec[name].(type) {
	case []any:
		if len(value) > 0 {
			return value
		}
	case string:
		if value != "" {
			return value
		}
	}
	return nil
}

// onlyEphemeralContainers is live with the ephemeral containers of next and the version
// that next is a condition on; upstream's subresource drops everything else.
func onlyEphemeralContainers(live, next map[string]any) map[string]any {
	changed := runtime.DeepCopyJSON(live)
	for _, field := range []string{"resourceVersion", "uid"} {
		if value, ok := metadataOf(next)[field]; ok {
			metadataOf(changed)[field] = value
		}
	}
	spec, ok := changed["spec"].(map[string]any)
	if !ok {
		spec = map[string]any{}
		changed["spec"] = spec
	}
	nextSpec, _ := next["spec"].(map[string]any)
	if containers, ok := nextSpec["ephemeralContainers"]; ok {
		spec["ephemeralContainers"] = containers
	} else {
		delete(spec, "ephemeralContainers")
	}
	return changed
}
