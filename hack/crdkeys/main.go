// Crdkeys makes the keys of list maps required in the CRDs of a folder.
//
// Upstream marks the type of its conditions optional (+optional is what its own API
// server reads as "may be missing in Go"), and controller-gen believes that. The API
// server refuses a CRD whose list-map key is neither required nor has a default.
//
// Usage: go run ./hack/crdkeys config/crd/bases
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

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
	if !requireKeys(crd) {
		return nil
	}
	out, err := yaml.Marshal(crd)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte("---\n"), out...), 0o644)
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
