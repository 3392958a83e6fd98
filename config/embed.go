// Package config carries Keelson's manifests inside the binaries: what `keelson up`
// installs and what tests start from is the same text that `kubectl apply` gets
// from a clone.
//
// It decodes and nothing else: it never talks to an API server. It holds no state,
// so there is nothing to recover after a crash.
package config

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

//go:embed crd/bases/*.yaml namespaces/*.yaml rbac/*/*.yaml policy/*.yaml dns/rbac.yaml dns/corefile.yaml dns/deployment.yaml
var manifests embed.FS

// Set names one group of manifests: a file, or a folder of files, below config/.
type Set string

const (
	// Namespaces are keelson-system and keelson-node-lease. Everything that lives
	// in them comes after.
	Namespaces Set = "namespaces"
	// CRDs are the CustomResourceDefinitions.
	CRDs Set = "crd/bases"
	// ManagerRBAC is what the manager needs in both modes.
	ManagerRBAC Set = "rbac/manager"
	// HygieneRBAC is what the manager needs beyond that in standalone mode.
	HygieneRBAC Set = "rbac/hygiene"
	// NodeRBAC is what node agents need.
	NodeRBAC Set = "rbac/node"
	// StandaloneRBAC is what node agents may do beyond that in standalone mode.
	StandaloneRBAC Set = "rbac/standalone"
	// GatewayRBAC is what gateways need, and what those may do whom they authorized.
	GatewayRBAC Set = "rbac/gateway"
	// Policy confines each node agent to its own objects.
	Policy Set = "policy"
	// DNS is the cluster's DNS, which needs admission: it can be applied when the manager
	// runs, and its image and address are the installer's to fill in.
	DNS Set = "dns"
)

// Standalone returns the sets of a cluster without a controller manager, in the
// order in which they can be applied. Webhook registration is not among them: it
// carries an address that only the installer knows.
func Standalone() []Set {
	return []Set{Namespaces, CRDs, ManagerRBAC, HygieneRBAC, NodeRBAC, StandaloneRBAC, GatewayRBAC, Policy}
}

// Guest returns the sets for a cluster that has a controller manager of its own.
func Guest() []Set {
	return []Set{Namespaces, CRDs, ManagerRBAC, NodeRBAC, GatewayRBAC, Policy}
}

// Objects decodes the given sets, in that order; within a set files come in name
// order and documents in file order. The caller owns the result.
func Objects(sets ...Set) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, set := range sets {
		files, err := filesOf(set)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			decoded, err := decodeFile(file)
			if err != nil {
				return nil, err
			}
			objects = append(objects, decoded...)
		}
	}
	return objects, nil
}

func filesOf(set Set) ([]string, error) {
	info, err := fs.Stat(manifests, string(set))
	if err != nil {
		return nil, fmt.Errorf("no manifest set %q: %w", set, err)
	}
	if !info.IsDir() {
		return []string{string(set)}, nil
	}
	files, err := fs.Glob(manifests, path.Join(string(set), "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list manifest set %q: %w", set, err)
	}
	slices.Sort(files)
	return files, nil
}

func decodeFile(file string) ([]*unstructured.Unstructured, error) {
	content, err := manifests.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", file, err)
	}
	objects, err := Decode(content)
	if err != nil {
		return nil, fmt.Errorf("decode manifest %s: %w", file, err)
	}
	return objects, nil
}

// Decode reads a stream of YAML or JSON documents separated by "---" lines. Empty
// documents and documents of comments are skipped; one without apiVersion or kind
// is an error.
func Decode(content []byte) ([]*unstructured.Unstructured, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	var objects []*unstructured.Unstructured
	for document := 1; ; document++ {
		raw, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read document %d: %w", document, err)
		}
		json, err := yaml.YAMLToJSON(raw)
		if err != nil {
			return nil, fmt.Errorf("parse document %d: %w", document, err)
		}
		if bytes.Equal(json, []byte("null")) {
			continue
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(json); err != nil {
			return nil, fmt.Errorf("decode document %d: %w", document, err)
		}
		if object.GetAPIVersion() == "" {
			return nil, fmt.Errorf("document %d (kind %s) has no apiVersion", document, object.GetKind())
		}
		objects = append(objects, object)
	}
}
