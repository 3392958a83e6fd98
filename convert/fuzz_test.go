package convert_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keelson-dev/keelson/convert"
)

// FuzzThereAndBack: what can be converted comes back byte for byte, and a second
// conversion finds nothing to do. Aliases may be written out on the way, so a text with
// one has to mean the same only; that is not looked at here.
func FuzzThereAndBack(f *testing.F) {
	sources, err := filepath.Glob("testdata/golden/*.kubernetes.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, source := range sources {
		content, err := os.ReadFile(source)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, small := range []string{
		"apiVersion: v1\nkind: Pod\n", "{apiVersion: 'v1', kind: Pod}", "{\"apiVersion\":\"v1\",\"kind\":\"\\u0050od\"}",
		"- source: {group: '', kind: Pod}\n  targets: []\n", "? apiVersion\n: &a !!str v1\n? kind\n: Pod\n",
		"apiVersion: builtin\nkind: P\npatch: |2\n   apiVersion: v1\n   kind: Pod\n",
		"apiVersion: builtin\nkind: P\npatch: \"apiVersion: v1\\nkind: Pod\"\n",
	} {
		f.Add([]byte(small))
	}
	there, back := to(convert.Keelson), to(convert.Kubernetes)
	f.Fuzz(func(t *testing.T, content []byte) {
		converted, err := there.Convert("f.yaml", content)
		if err != nil {
			return
		}
		if again, err := there.Convert("f.yaml", converted.Content); err != nil || again.Changes != 0 {
			t.Errorf("again: %d changes, %v in %q from %q", again.Changes, err, converted.Content, content)
		}
		if strings.Contains(string(content), "keelson.dev") || bytes.ContainsRune(content, '*') {
			return
		}
		returned, err := back.Convert("f.yaml", converted.Content)
		if err != nil {
			t.Fatalf("%v in %q from %q", err, converted.Content, content)
		}
		if !bytes.Equal(returned.Content, content) {
			t.Errorf("%q became %q and came back as %q", content, converted.Content, returned.Content)
		}
	})
}
