package convert_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/convert"
)

const (
	pod       = "apiVersion: v1\nkind: Pod\n"
	keelson   = "apiVersion: core.keelson.dev/v1\nkind: Pod\n"
	configMap = "apiVersion: v1\nkind: ConfigMap"
)

// tree writes files into a new directory, makes it the working directory and returns a
// function that reads them back.
func tree(t *testing.T, files map[string]string) (now func() map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return func() map[string]string {
		t.Helper()
		found := map[string]string{}
		err := filepath.WalkDir(".", func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			found[path] = string(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
}

func TestStandardOutputIsOneStream(t *testing.T) {
	files := map[string]string{
		"a.yaml": configMap, "b.yml": pod, "sub/c.json": `{"kind":"Pod","apiVersion":"v1"}`, "sub/d.yaml": "---\n" + pod,
		"sub/Kustomization": "resources: [../a.yaml]\n",
		"notes.txt":         pod, ".hidden/e.yaml": pod, ".f.yaml": pod,
	}
	const (
		yes  = "---\n"
		json = `{"kind":"Pod","apiVersion":"core.keelson.dev/v1"}` + "\n"
	)
	tests := map[string]struct {
		args []string
		in   string
		want string
	}{
		"a file":                    {args: []string{"b.yml"}, want: keelson},
		"a pipe":                    {args: []string{"-"}, in: pod, want: keelson},
		"nothing through a pipe":    {args: []string{"-"}},
		"files in their order":      {args: []string{"b.yml", "-", "a.yaml"}, in: pod, want: keelson + yes + keelson + yes + configMap},
		"one file under two names":  {args: []string{"b.yml", "./b.yml", "sub/../b.yml"}, want: keelson},
		"a directory and all below": {args: []string{"."}, want: configMap + "\n" + yes + keelson + yes + "resources: [../a.yaml]\n" + yes + json + yes + keelson},
		"a file that has no suffix": {args: []string{"notes.txt"}, want: keelson},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			now := tree(t, files)
			var out, notes bytes.Buffer
			run := convert.Files{Converter: to(convert.Keelson), In: strings.NewReader(tc.in), Out: &out, Notes: &notes}
			if err := run.Run(tc.args); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
			if notes.Len() > 0 {
				t.Errorf("notes: %s", notes.String())
			}
			if diff := cmp.Diff(files, now()); diff != "" {
				t.Errorf("files changed:\n%s", diff)
			}
		})
	}
}

func TestInPlace(t *testing.T) {
	now := tree(t, map[string]string{"a.yaml": pod, "b.yaml": configMap, "sub/c.yaml": pod})
	if err := os.Symlink("sub/c.yaml", "link.yaml"); err != nil {
		t.Fatal(err)
	}
	untouched, err := os.Stat("b.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out, notes bytes.Buffer
	run := convert.Files{Converter: to(convert.Keelson), InPlace: true, Out: &out, Notes: &notes}
	if err := run.Run([]string{"a.yaml", "b.yaml", "link.yaml"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a.yaml": keelson, "b.yaml": configMap, "link.yaml": keelson, "sub/c.yaml": keelson}
	if diff := cmp.Diff(want, now()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("a.yaml: 1 changed\nlink.yaml: 1 changed\n", notes.String()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if out.Len() > 0 {
		t.Errorf("standard output got %s", out.String())
	}
	if after, err := os.Stat("b.yaml"); err != nil || !os.SameFile(untouched, after) {
		t.Errorf("a file without changes was written: %v", err)
	}
	if link, err := os.Lstat("link.yaml"); err != nil || link.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is no link any more: %v", err)
	}
	if info, err := os.Stat("a.yaml"); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode became %v, %v", info.Mode(), err)
	}
}

// TestNothingIsWrittenAfterAFailure: every bad file is named, and no good one changed.
func TestNothingIsWrittenAfterAFailure(t *testing.T) {
	files := map[string]string{"a.yaml": pod, "b.yaml": "a: [\n", "c.yaml": "x: {{ .y }}\n", "empty/note.txt": ""}
	tests := map[string]struct {
		args    []string
		inPlace bool
		want    []string
	}{
		"bad files":                     {args: []string{"."}, inPlace: true, want: []string{"b.yaml", "c.yaml:1"}},
		"bad files and standard output": {args: []string{"a.yaml", "b.yaml"}, want: []string{"b.yaml"}},
		"a file that is not there":      {args: []string{"a.yaml", "none.yaml"}, inPlace: true, want: []string{"none.yaml"}},
		"a directory without any":       {args: []string{"a.yaml", "empty"}, inPlace: true, want: []string{"empty: no .yaml"}},
		"a pipe has no place":           {args: []string{"a.yaml", "-"}, inPlace: true, want: []string{"--in-place", "standard input"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			now := tree(t, files)
			var out bytes.Buffer
			err := convert.Files{Converter: to(convert.Keelson), InPlace: tc.inPlace, In: strings.NewReader(pod), Out: &out, Notes: &out}.Run(tc.args)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not mention %q", err, want)
				}
			}
			if diff := cmp.Diff(files, now()); diff != "" {
				t.Errorf("files changed:\n%s", diff)
			}
			if out.Len() > 0 {
				t.Errorf("output: %s", out.String())
			}
		})
	}
}

func TestWarningsAreNotes(t *testing.T) {
	tree(t, map[string]string{"kustomization.yaml": "patches:\n- patch: |\n    apiVersion: v1\n    kind: Pod\n"})
	var out, notes bytes.Buffer
	if err := (convert.Files{Converter: to(convert.Keelson), Out: &out, Notes: &notes}).Run([]string{"kustomization.yaml"}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(notes.String(), "warning: kustomization.yaml:2: ") || !strings.Contains(out.String(), "core.keelson.dev") {
		t.Errorf("notes %q, output %q", notes.String(), out.String())
	}
}
