package convert_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/convert"
	"github.com/keelson-dev/keelson/gateway/table"
)

var update = flag.Bool("update", false, "write the golden files of the Keelson form again")

func to(form convert.Form) *convert.Converter { return convert.New(table.Keelson(), form) }

// TestGoldenFiles: each pair of files is the same manifests in both forms.
func TestGoldenFiles(t *testing.T) {
	sources, err := filepath.Glob("testdata/golden/*.kubernetes.*")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, source := range sources {
		t.Run(filepath.Base(source), func(t *testing.T) {
			golden := strings.Replace(source, ".kubernetes.", ".keelson.", 1)
			plain := read(t, source)
			// The name decides what is a kustomization only where the content does not.
			converted, err := to(convert.Keelson).Convert(source, plain)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(golden, converted.Content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			stored := read(t, golden)
			if diff := cmp.Diff(string(stored), string(converted.Content)); diff != "" {
				t.Errorf("to keelson (-want +got):\n%s", diff)
			}
			if again, err := to(convert.Keelson).Convert(source, stored); err != nil || again.Changes != 0 {
				t.Errorf("converted again: %d changes, %v", again.Changes, err)
			}
			back, err := to(convert.Kubernetes).Convert(golden, stored)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(plain), string(back.Content)); diff != "" {
				t.Errorf("back to kubernetes (-want +got):\n%s", diff)
			}
			if back.Changes != converted.Changes || back.Changes == 0 {
				t.Errorf("%d changes there, %d back", converted.Changes, back.Changes)
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestConvert(t *testing.T) {
	tests := map[string]struct {
		form     convert.Form // Keelson unless given
		name     string
		in, want string
	}{
		"nothing":                         {in: "", want: ""},
		"a comment":                       {in: "# apiVersion: v1\n", want: "# apiVersion: v1\n"},
		"a kustomization known by name":   {name: "base/kustomization.yaml", in: "patches:\n- target: {group: '', kind: Pod}\n", want: "patches:\n- target: {group: 'core.keelson.dev', kind: Pod}\n"},
		"the same under another name":     {name: "base/values.yaml", in: "patches:\n- target: {group: '', kind: Pod}\n", want: "patches:\n- target: {group: '', kind: Pod}\n"},
		"a group of kustomize unquoted":   {form: convert.Kubernetes, name: "kustomization.yaml", in: "patches: [{target: {group: core.keelson.dev, kind: Pod}}]", want: `patches: [{target: {group: "", kind: Pod}}]`},
		"an alias with another meaning":   {in: "- {apiVersion: &v v1, kind: Pod, metadata: {labels: {v: *v }}}\n- {apiVersion: *v , kind: Secret}\n", want: "- {apiVersion: &v core.keelson.dev/v1, kind: Pod, metadata: {labels: {v: v1 }}}\n- {apiVersion: v1 , kind: Secret}\n"},
		"an alias of a name that stays":   {in: "- {apiVersion: &v \"v1\", kind: Secret}\n- {apiVersion: *v , kind: Pod}\n", want: "- {apiVersion: &v \"v1\", kind: Secret}\n- {apiVersion: \"core.keelson.dev/v1\" , kind: Pod}\n"},
		"a name that comes by a merge":    {in: "- &base {apiVersion: v1, kind: Pod}\n- {<<: *base, metadata: {name: a}}\n", want: "- &base {apiVersion: core.keelson.dev/v1, kind: Pod}\n- {<<: *base, metadata: {name: a}}\n"},
		"a version that looks like text":  {in: "apiVersion: \"v\\x31\"\nkind: Pod\n", want: "apiVersion: \"core.keelson.dev/v1\"\nkind: Pod\n"},
		"a version that is a number":      {in: "apiVersion: 1\nkind: Pod\n", want: "apiVersion: 1\nkind: Pod\n"},
		"an empty group with a slash":     {in: "apiVersion: /v1\nkind: Pod\n", want: "apiVersion: /v1\nkind: Pod\n"},
		"flow JSON that only YAML reads":  {in: "{apiVersion: v1, kind: Pod,}", want: "{apiVersion: core.keelson.dev/v1, kind: Pod,}"},
		"a manifest inside a resource":    {in: "apiVersion: example.com/v1\nkind: Template\nspec:\n  object:\n    apiVersion: v1\n    kind: Pod\n", want: "apiVersion: example.com/v1\nkind: Template\nspec:\n  object:\n    apiVersion: core.keelson.dev/v1\n    kind: Pod\n"},
		"braces in what is no name":       {in: "apiVersion: v1\nkind: Pod\nmetadata: {name: '{{ x }}'}\n", want: "apiVersion: core.keelson.dev/v1\nkind: Pod\nmetadata: {name: '{{ x }}'}\n"},
		"rules of roles name no objects":  {in: "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules: [{apiGroups: [''], resources: [pods]}]\n", want: "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules: [{apiGroups: [''], resources: [pods]}]\n"},
		"output of kubectl to kubernetes": {form: convert.Kubernetes, in: "apiVersion: v1\nitems:\n- apiVersion: core.keelson.dev/v1\n  kind: Pod\nkind: List\n", want: "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\nkind: List\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			form := tc.form
			if form == "" {
				form = convert.Keelson
			}
			got, err := to(form).Convert(tc.name, []byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got.Content)); diff != "" {
				t.Errorf("converted (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHugeLinesAndMergesTakeNoTime: both would take ages if done again for each value.
func TestHugeLinesAndMergesTakeNoTime(t *testing.T) {
	var merges strings.Builder
	merges.WriteString("- &m0 {a: b}\n")
	for i := range 60 {
		fmt.Fprintf(&merges, "- &m%d {<<: [*m%d, *m%d]}\n", i+1, i, i)
	}
	tests := map[string]string{
		"one line of many values": "[" + strings.Repeat("{é: 'v1', kind: Pod}, ", 30_000) + "]",
		"merges of merges":        merges.String(),
		"deep nesting":            strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000),
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := to(convert.Keelson).Convert("f.yaml", []byte(in)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string
	}{
		"no YAML":                              {in: "a: b\nb: [\nc: d\n", want: []string{"f.yaml:", "is not YAML"}},
		"a bad line in a later document":       {in: "a: b\n---\na: b\n\tc: d\n", want: []string{"f.yaml:", "is not YAML"}},
		"bad JSON":                             {in: "{\n\"a\": 1,\n\"b\": ]\n}", want: []string{"f.yaml:3: is not JSON"}},
		"JSON that ends early":                 {in: `{"apiVersion": "v1", "kind": "Pod"`, want: []string{"f.yaml", "is not YAML"}},
		"bytes that are no text":               {in: "a: \xff\xfe", want: []string{"f.yaml: is not UTF-8"}},
		"a template with control lines":        {in: "apiVersion: v1\nkind: Pod\n{{- if .Values.x }}\nmetadata: {}\n{{- end }}\n", want: []string{"f.yaml:", "is not YAML", "helm template"}},
		"a template that parses":               {in: "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}\n", want: []string{"f.yaml:4: this is a template", "helm template"}},
		"a template in the name":               {in: "apiVersion: \"{{ .v }}\"\nkind: Pod\n", want: []string{"f.yaml:1: this is a template"}},
		"a name given twice":                   {in: "apiVersion: v1\nkind: Pod\napiVersion: v1\n", want: []string{`f.yaml:3: the key "apiVersion" is given twice`}},
		"a name given twice in JSON":           {in: "{\"apiVersion\":\"v1\",\n\"kind\":\"Pod\",\n\"kind\":\"Node\"}", want: []string{`f.yaml:3: the key "kind" is given twice`}},
		"a name that is a block":               {in: "apiVersion: |-\n  v1\nkind: Pod\n", want: []string{"f.yaml:1:", "on one line"}},
		"a merge that would change":            {in: "- &base {apiVersion: v1, kind: Pod}\n- {<<: *base, kind: Secret}\n", want: []string{"f.yaml:2:", "merge", "write it out"}},
		"a merge that would have to":           {in: "- &base {apiVersion: v1}\n- {<<: *base, kind: Pod}\n", want: []string{"f.yaml:2:", "merge"}},
		"an alias to nothing":                  {in: "a: *b\n", want: []string{"f.yaml", "unknown anchor"}},
		"bad YAML in a patch":                  {in: "apiVersion: kustomize.config.k8s.io/v1\nkind: Kustomization\npatches:\n- patch: |\n    a: b\n    c: [\n    d\n", want: []string{"f.yaml:", "is not YAML"}},
		"a patch in a folded block":            {in: "apiVersion: kustomize.config.k8s.io/v1\nkind: Kustomization\npatches:\n- patch: >\n    apiVersion: v1\n\n    kind: Pod\n", want: []string{"f.yaml:4:", "literal block"}},
		"a remembered manifest that is folded": {in: "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: >\n      {\"apiVersion\":\"v1\",\"kind\":\"Pod\"}\n", want: []string{"f.yaml:5:", "literal block"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := to(convert.Keelson).Convert("f.yaml", []byte(tc.in))
			if err == nil {
				t.Fatalf("converted to %s", got.Content)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not mention %q", err, want)
				}
			}
		})
	}
}

// TestPatchesOfListsAreWarnedAbout: a person has to know that kustomize merges custom
// resources in another way.
func TestPatchesOfListsAreWarnedAbout(t *testing.T) {
	got, err := to(convert.Keelson).Convert("f.yaml", read(t, "testdata/golden/kustomization.kubernetes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, warning := range got.Warnings {
		lines = append(lines, warning.Line)
		if text := warning.String(); !strings.HasPrefix(text, "f.yaml:") || !strings.Contains(text, "kustomize build") {
			t.Errorf("warning %q", text)
		}
	}
	// The two patches of objects in strings, and the one in the transformer's string.
	if diff := cmp.Diff([]int{27, 37, 62}, lines); diff != "" {
		t.Errorf("lines of the warnings (-want +got):\n%s", diff)
	}
}
