package config_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/config"
)

func TestObjectsDecodesEverySet(t *testing.T) {
	for _, set := range config.Standalone() {
		t.Run(string(set), func(t *testing.T) {
			objects, err := config.Objects(set)
			if err != nil {
				t.Fatal(err)
			}
			if len(objects) == 0 {
				t.Fatalf("set %q holds no object", set)
			}
			for _, object := range objects {
				if object.GetName() == "" {
					t.Errorf("%s in set %q has no name", object.GetKind(), set)
				}
			}
		})
	}
}

// Plain kubectl apply stores the object in an annotation of at most 262,144 bytes.
func TestEveryCRDFitsTheLastAppliedAnnotation(t *testing.T) {
	crds, err := config.Objects(config.CRDs)
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range crds {
		compact, err := json.Marshal(crd.Object)
		if err != nil {
			t.Fatal(err)
		}
		if len(compact) >= 262_144 {
			t.Errorf("CRD %s is %d bytes of compact JSON, kubectl apply takes fewer than 262144", crd.GetName(), len(compact))
		}
	}
}

func TestGuestGetsNoHygieneRole(t *testing.T) {
	objects, err := config.Objects(config.Guest()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if strings.Contains(object.GetName(), "hygiene") {
			t.Errorf("guest mode would install %s %s", object.GetKind(), object.GetName())
		}
	}
}

func TestDecode(t *testing.T) {
	tests := map[string]struct {
		content   string
		wantNames []string
		wantError string
	}{
		"documents come in file order": {
			content:   "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: b}\n",
			wantNames: []string{"a", "b"},
		},
		"empty documents and comments are skipped": {
			content:   "# only words\n---\n\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\n",
			wantNames: []string{"a"},
		},
		"a document without a kind is refused": {
			content:   "apiVersion: v1\nmetadata: {name: a}\n",
			wantError: "decode document 1",
		},
		"a document without an apiVersion is refused": {
			content:   "kind: Secret\nmetadata: {name: a}\n",
			wantError: "document 1 (kind Secret) has no apiVersion",
		},
		"broken YAML names the document": {
			content:   "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\na: [\n",
			wantError: "parse document 2",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			objects, err := config.Decode([]byte(tc.content))
			if tc.wantError != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantError) {
					t.Fatalf("error %v, want one with %q", err, tc.wantError)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, object := range objects {
				names = append(names, object.GetName())
			}
			if diff := cmp.Diff(tc.wantNames, names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}
