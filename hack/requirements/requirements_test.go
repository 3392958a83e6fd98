package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRow(t *testing.T) {
	for name, tc := range map[string]struct {
		line    string
		want    row
		wantErr string
	}{
		"a row with two tests": {
			line: "b01:C4-36\tworks\ta/b#TestX; c#TestY\t",
			want: row{id: "b01:C4-36", status: works, evidence: []string{"a/b#TestX", "c#TestY"}},
		},
		"works needs evidence":        {line: "o:O-1\tworks\t\t", wantErr: "works without evidence"},
		"superseded needs a note":     {line: "o:O-1\tsuperseded\t\t", wantErr: "without a note"},
		"not ours needs a note":       {line: "o:O-1\tnot ours\t\t", wantErr: "without a note"},
		"a status outside the list":   {line: "o:O-1\tdone\t\t", wantErr: `status "done"`},
		"an ID without its source":    {line: "O-1\topen\t\t", wantErr: "is not <source>:<ID>"},
		"a line with too few columns": {line: "o:O-1\topen", wantErr: "want 4"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseRow(tc.line)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("got error %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(row{})); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a_test.go"), []byte("package a\n\nfunc TestThere(t *testing.T) {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		rows    []row
		wantErr string
	}{
		"a test that exists":         {rows: []row{{id: "o:O-1", evidence: []string{".#TestThere"}}}},
		"a test that does not exist": {rows: []row{{id: "o:O-1", evidence: []string{".#TestGone"}}}, wantErr: "no test TestGone"},
		"a folder that is missing":   {rows: []row{{id: "o:O-1", evidence: []string{"gone#TestThere"}}}, wantErr: "no test TestThere"},
		"evidence without a folder":  {rows: []row{{id: "o:O-1", evidence: []string{"TestThere"}}}, wantErr: "is not <folder>#<TestName>"},
		"one ID on two lines":        {rows: []row{{id: "o:O-1", line: 2}, {id: "o:O-1", line: 3}}, wantErr: "already in line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			err := check(tc.rows, root)
			if (err == nil) != (tc.wantErr == "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got %v, want %q", err, tc.wantErr)
			}
		})
	}
}
