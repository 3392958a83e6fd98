package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const stamp = "2026-01-02T03:04:05.000000006Z"

func TestTail(t *testing.T) {
	full := func(text string) string { return stamp + " stdout F " + text + "\n" }
	piece := func(text string) string { return stamp + " stderr P " + text + "\n" }
	numbered := func(from, to int, decorate func(string) string) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			b.WriteString(decorate(fmt.Sprintf("line %d", i)))
		}
		return b.String()
	}
	plain := func(text string) string { return text + "\n" }
	tests := map[string]struct {
		log             string
		lines, maxBytes int
		want            string
	}{
		"an empty file says nothing":              {lines: 80, maxBytes: 2048},
		"a short file is read whole":              {log: full("a") + full("b"), lines: 80, maxBytes: 2048, want: "a\nb\n"},
		"pieces are joined":                       {log: piece("a") + full("b"), lines: 80, maxBytes: 2048, want: "ab\n"},
		"an unfinished line counts":               {log: full("a") + piece("b"), lines: 1, maxBytes: 2048, want: "b"},
		"only the last lines":                     {log: numbered(0, 5000, full), lines: 80, maxBytes: 1 << 20, want: numbered(4920, 5000, plain)},
		"only the last bytes":                     {log: full("abcdef"), lines: 80, maxBytes: 4, want: "def\n"},
		"a line longer than a chunk":              {log: strings.Repeat(piece(strings.Repeat("y", MaxLine)), 8) + full("end"), lines: 80, maxBytes: 7, want: "yyyend\n"},
		"what is not in the format is left out":   {log: "garbage\n" + full("a"), lines: 80, maxBytes: 2048, want: "a\n"},
		"tags after the first are other people's": {log: stamp + " stdout F:x a\n", lines: 80, maxBytes: 2048, want: "a\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "0.log")
			if err := os.WriteFile(path, []byte(test.log), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Tail(path, test.lines, test.maxBytes)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
		})
	}
}
