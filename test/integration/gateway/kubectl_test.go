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
	"sigs.k8s.io/controller-runtime/pkg/client"

	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	"github.com/keelson-dev/keelson/gateway/table"
)

// TestEveryKindIsExplained asks for every kind by its plain name. The schemas that kubectl
// reads are the API server's own of its built-in kinds.
func TestEveryKindIsExplained(t *testing.T) {
	f := start(t)
	cache, compared := t.TempDir(), map[schema.GroupVersion]bool{}
	for _, row := range table.Keelson().Rows() {
		t.Run(row.Kind, func(t *testing.T) {
			said := kubectl(t, f, cache, "", "explain", row.Upstream.Resource)
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

// TestAutoscalerFromAFile: what kubectl prints names the group without ours.
func TestAutoscalerFromAFile(t *testing.T) {
	f := start(t)
	said := kubectl(t, f, t.TempDir(), `apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: nginx}
spec:
  scaleTargetRef: {apiVersion: v1, kind: ReplicationController, name: nginx}
  minReplicas: 1
  maxReplicas: 10
  targetCPUUtilizationPercentage: 50
`, "create", "--namespace", f.namespace, "-f", "-")
	if want := "horizontalpodautoscaler.autoscaling/nginx created\n"; said != want {
		t.Errorf("kubectl create says %q, want %q", said, want)
	}
	stored := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := f.crs.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: "nginx"}, stored); err != nil || stored.Spec.MaxReplicas != 10 {
		t.Errorf("stored: %+v, %v", stored.Spec, err)
	}
}

// kubectl runs the real one against the gateway and returns what it prints.
func kubectl(t *testing.T, f *front, cache, stdin string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(testEnv.BinDir, "kubectl"),
		append([]string{"--kubeconfig=", "--server", f.url, "--cache-dir", cache}, args...)...)
	command.Stdin = strings.NewReader(stdin)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return string(out)
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
