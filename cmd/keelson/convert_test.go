package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
)

func TestConvert(t *testing.T) {
	const plain, stored = "kind: Pod # mine\napiVersion: v1\n", "kind: Pod # mine\napiVersion: core.keelson.dev/v1\n"
	tests := map[string]struct {
		args              []string
		in                string
		wantOut, wantFile string
	}{
		"a pipe":              {args: []string{"-"}, in: plain, wantOut: stored, wantFile: plain},
		"back through a pipe": {args: []string{"--to=kubernetes", "-"}, in: stored, wantOut: plain, wantFile: plain},
		"a file":              {args: []string{"FILE"}, wantOut: stored, wantFile: plain},
		"a file in its place": {args: []string{"-i", "FILE"}, wantFile: stored},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pod.yaml")
			if err := os.WriteFile(file, []byte(plain), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"convert"}
			for _, arg := range tc.args {
				args = append(args, strings.Replace(arg, "FILE", file, 1))
			}
			cmd := newCommand()
			var stdout, stderr bytes.Buffer
			cmd.SetArgs(args)
			cmd.SetIn(strings.NewReader(tc.in))
			cmd.SetOut(&stdout)
			cmd.SetErr(&stderr)
			if code := cli.Execute(t.Context(), cmd, &stderr); code != cli.ExitOK {
				t.Fatalf("exit code %d: %s", code, stderr.String())
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tc.wantOut, tc.wantFile}, []string{stdout.String(), string(content)}); diff != "" {
				t.Errorf("standard output and file (-want +got):\n%s", diff)
			}
		})
	}
}
