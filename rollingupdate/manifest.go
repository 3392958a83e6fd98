package rollingupdate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const resource = "replicationcontrollers"

// views are the two groups under which ReplicationControllers are served: Keelson's own,
// and the plain one of a gateway.
var views = []schema.GroupVersion{{Group: "core.keelson.dev", Version: "v1"}, {Version: "v1"}}

// Manifest reads the new ReplicationController. Its apiVersion says which view of the
// cluster the whole update works on: core.keelson.dev/v1 or, through a gateway, v1.
func Manifest(r io.Reader) (*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(r, 4096)
	var found *unstructured.Unstructured
	for {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		object := &unstructured.Unstructured{}
		if err == nil && len(raw) > 0 {
			err = utiljson.Unmarshal(raw, &object.Object)
		}
		if err != nil {
			return nil, fmt.Errorf("the manifest cannot be read: %w", err)
		}
		if len(object.Object) == 0 {
			continue
		}
		if found != nil {
			return nil, errors.New("the manifest has several objects: give the new ReplicationController alone")
		}
		found = object
	}
	if found == nil {
		return nil, errors.New("the manifest is empty")
	}
	return found, checkManifest(found)
}

func checkManifest(rc *unstructured.Unstructured) error {
	if rc.GetKind() != "ReplicationController" || !slices.Contains(views, rc.GroupVersionKind().GroupVersion()) {
		return fmt.Errorf("the manifest has apiVersion %q and kind %q, want a ReplicationController of core.keelson.dev/v1 (of v1 through a gateway)",
			rc.GetAPIVersion(), rc.GetKind())
	}
	if rc.GetName() == "" {
		return errors.New("metadata.name is missing in the manifest: an update that is interrupted is found again by it")
	}
	if n, set, err := unstructured.NestedInt64(rc.Object, "spec", "replicas"); err != nil || (set && n < 0) {
		return errors.New("spec.replicas in the manifest must be a number, 0 or more")
	}
	_, _, err := unstructured.NestedStringMap(rc.Object, "spec", "selector")
	if err != nil {
		return fmt.Errorf("spec.selector in the manifest: %w", err)
	}
	return nil
}

// Resource is where the objects of rc's view are.
func Resource(rc *unstructured.Unstructured) schema.GroupVersionResource {
	return rc.GroupVersionKind().GroupVersion().WithResource(resource)
}

// selectorOf is the selector in force: where there is none, the template's labels.
func selectorOf(rc *unstructured.Unstructured) map[string]string {
	if selector, _, _ := unstructured.NestedStringMap(rc.Object, "spec", "selector"); len(selector) > 0 {
		return selector
	}
	labels, _, _ := unstructured.NestedStringMap(rc.Object, "spec", "template", "metadata", "labels")
	return labels
}

// checkPair refuses two ReplicationControllers whose Pods could not be told apart.
func checkPair(from, to *unstructured.Unstructured) error {
	if from.GetName() == to.GetName() {
		return fmt.Errorf("%s cannot have the same name as the existing ReplicationController %s", to.GetName(), from.GetName())
	}
	before, after := selectorOf(from), selectorOf(to)
	for key, value := range after {
		if had, ok := before[key]; ok && had != value {
			return nil
		}
	}
	return fmt.Errorf("%s must specify a matching key with non-equal value in Selector for %s: the selectors have the keys %s and %s",
		to.GetName(), from.GetName(), keys(after), keys(before))
}

func keys(m map[string]string) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }
