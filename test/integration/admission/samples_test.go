package admission

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/keelson-dev/keelson/config"
)

// withoutSample are kinds that nobody acts on yet.
var withoutSample = sets.New[string]()

// testSamples creates every sample, and asks kubectl to explain each kind: what is accepted
// is described.
func testSamples(t *testing.T) {
	k := newKubectl(t)
	files, err := filepath.Glob("../../../config/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples found: %v", err)
	}
	sampled := sets.New[string]()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if kind, ok := strings.CutPrefix(line, "kind: "); ok {
				sampled.Insert(strings.TrimSpace(kind))
			}
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			k.must(t, "", "create", "--validate=strict", "-f", file)
		})
	}
	definitions, err := config.Objects(config.CRDs)
	if err != nil {
		t.Fatal(err)
	}
	for _, definition := range definitions {
		group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
		plural, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "plural")
		short, _, _ := unstructured.NestedStringSlice(definition.Object, "spec", "names", "shortNames")
		if !sampled.Has(kind) && !withoutSample.Has(kind) {
			t.Errorf("there is no sample of kind %s", kind)
		}
		t.Run("explain "+kind, func(t *testing.T) {
			// A kind without a short name is found by its version.
			name, served := plural, "--api-version="+group+"/v1"
			if len(short) > 0 {
				name, served = short[0], "--api-version="
			}
			said := k.must(t, "", "explain", name, served)
			for _, want := range []string{"GROUP:      " + group, "KIND:       " + kind, "DESCRIPTION:", "FIELDS:", "metadata"} {
				if !strings.Contains(said, want) {
					t.Errorf("explain does not say %q:\n%s", want, said)
				}
			}
		})
	}
}
