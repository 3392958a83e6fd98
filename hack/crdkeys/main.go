// Crdkeys makes the keys of list maps required in the CRDs of a folder.
//
// Upstream marks the type of its conditions optional (+optional is what its own API
// server reads as "may be missing in Go"), and controller-gen believes that. The API
// server refuses a CRD whose list-map key is neither required nor has a default.
//
// It also lets the conditions of a Service be without a time: upstream validates nothing
// of them, and its clients send null. And it lets a Node have several addresses of one
// type, one of each family: upstream names the type alone as the key of that list and
// does not insist, where the API server insists for custom resources.
//
// Usage: go run ./hack/crdkeys config/crd/bases
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: crdkeys FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no CRDs in %s", folder)
	}
	for _, file := range files {
		if err := fix(file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func fix(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var crd map[string]any
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		return err
	}
	special := map[string]func(crd map[string]any) error{
		"core.keelson.dev_services.yaml": allowNoTime,
		"core.keelson.dev_nodes.yaml":    allowTwoFamilies,
	}[filepath.Base(file)]
	if special != nil {
		if err := special(crd); err != nil {
			return err
		}
	}
	changed := requireKeys(crd) || special != nil
	if !changed {
		return nil
	}
	out, err := yaml.Marshal(crd)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte("---\n"), out...), 0o644)
}

// allowNoTime makes the time of a Service's conditions optional and null a value of it.
func allowNoTime(crd map[string]any) error {
	versions, _, _ := unstructured.NestedSlice(crd, "spec", "versions")
	for _, v := range versions {
		version, _ := v.(map[string]any)
		path := []string{"schema", "openAPIV3Schema", "properties", "status", "properties", "conditions", "items"}
		item, found, err := unstructured.NestedFieldNoCopy(version, path...)
		condition, ok := item.(map[string]any)
		if err != nil || !found || !ok {
			return fmt.Errorf("status.conditions of a Service are not where they were: %w", err)
		}
		required, _, _ := unstructured.NestedStringSlice(condition, "required")
		required = slices.DeleteFunc(required, func(name string) bool { return name == "lastTransitionTime" })
		if err := unstructured.SetNestedStringSlice(condition, required, "required"); err != nil {
			return err
		}
		if err := unstructured.SetNestedField(condition, true, "properties", "lastTransitionTime", "nullable"); err != nil {
			return err
		}
	}
	return unstructured.SetNestedSlice(crd, versions, "spec", "versions")
}

// allowTwoFamilies makes the address, too, a key of a Node's addresses.
func allowTwoFamilies(crd map[string]any) error {
	versions, _, _ := unstructured.NestedSlice(crd, "spec", "versions")
	for _, v := range versions {
		version, _ := v.(map[string]any)
		path := []string{"schema", "openAPIV3Schema", "properties", "status", "properties", "addresses", "x-kubernetes-list-map-keys"}
		if _, found, err := unstructured.NestedStringSlice(version, path...); err != nil || !found {
			return fmt.Errorf("status.addresses of a Node are not where they were: %w", err)
		}
		if err := unstructured.SetNestedStringSlice(version, []string{"type", "address"}, path...); err != nil {
			return err
		}
	}
	return unstructured.SetNestedSlice(crd, versions, "spec", "versions")
}

// requireKeys changes node and everything below it, and says whether it did.
func requireKeys(node any) (changed bool) {
	switch n := node.(type) {
	case []any:
		for _, item := range n {
			changed = requireKeys(item) || changed
		}
	case map[string]any:
		keys, _ := n["x-kubernetes-list-map-keys"].([]any)
		if items, ok := n["items"].(map[string]any); ok {
			for _, key := range keys {
				changed = require(items, key) || changed
			}
		}
		for _, child := range n {
			changed = requireKeys(child) || changed
		}
	}
	return changed
}

func require(items map[string]any, key any) bool {
	required, _ := items["required"].([]any)
	if slices.Contains(required, key) {
		return false
	}
	properties, _ := items["properties"].(map[string]any)
	name, _ := key.(string)
	if property, ok := properties[name].(map[string]any); ok {
		if _, defaulted := property["default"]; defaulted {
			return false
		}
	}
	items["required"] = append(required, key)
	return true
}
