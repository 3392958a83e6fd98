package gateway

import (
	"encoding/json"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/keelson-dev/keelson/gateway/table"
)

// TestEveryKindIsExplained asks for every kind by its plain name. The schemas that kubectl
// reads are the API server's own of its built-in kinds.
func TestEveryKindIsExplained(t *testing.T) {
	f := start(t)
	cache, compared := t.TempDir(), map[schema.GroupVersion]bool{}
	for _, row := range table.Keelson().Rows() {
		t.Run(row.Kind, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), filepath.Join(testEnv.BinDir, "kubectl"),
				"--kubeconfig=", "--server", f.url, "--cache-dir", cache, "explain", row.Upstream.Resource)
			out, err := command.CombinedOutput()
			said := string(out)
			if err != nil {
				t.Fatalf("kubectl explain: %v\n%s", err, said)
			}
			for _, want := range []string{"KIND:       " + row.Kind + "\n", "VERSION:    " + row.Upstream.Version + "\n", "DESCRIPTION:\n", "FIELDS:\n", "  metadata\t<ObjectMeta>\n"} {
				if !strings.Contains(said, want) {
					t.Errorf("explain does not say %q:\n%s", want, said)
				}
			}
			if strings.Contains(said, "<no description>") || strings.Contains(said, "<empty>") {
				t.Errorf("explain does not describe all fields:\n%s", said)
			}
			if version := row.Upstream.GroupVersion(); !compared[version] {
				compared[version] = true
				sameSchemas(t, f, version)
			}
		})
	}
}

// sameSchemas compares the schemas of all kinds of a version, with the descriptions of
// their fields, with those that the API server has.
func sameSchemas(t *testing.T, f *front, version schema.GroupVersion) {
	t.Helper()
	document := path.Join("/openapi/v3/apis", version.String())
	if version.Group == "" {
		document = path.Join("/openapi/v3/api", version.Version)
	}
	type schemas struct {
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	var direct, through schemas
	for body, into := range map[*[]byte]*schemas{new(askDirectly(t, document, "application/json")): &direct, new(f.do(t, "GET", document, "").body): &through} {
		if err := json.Unmarshal(*body, into); err != nil || len(into.Components.Schemas) == 0 {
			t.Fatalf("%s: %v: %.500s", document, err, *body)
		}
	}
	if diff := cmp.Diff(direct, through); diff != "" {
		t.Errorf("%s (-upstream +ours):\n%s", document, diff)
	}
}
