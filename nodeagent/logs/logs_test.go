package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
)

const stamp = "2026-01-02T03:04:05.000000006Z"

func openLog(t testing.TB) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	file, err := Open(path, clocktesting.NewFakePassiveClock(now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file, path
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestStreamWriter(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	line := func(tag, text string) string { return stamp + " stdout " + tag + " " + text + "\n" }
	tests := map[string]struct {
		writes []string
		end    func(*StreamWriter) error
		want   string
	}{
		"a line is one entry":                       {writes: []string{"hello\n"}, want: line("F", "hello")},
		"lines of one write are entries each":       {writes: []string{"a\nb\n"}, want: line("F", "a") + line("F", "b")},
		"an empty line is kept":                     {writes: []string{"\n"}, want: line("F", "")},
		"a line may come in several writes":         {writes: []string{"he", "ll", "o\n"}, want: line("F", "hello")},
		"an unfinished line waits":                  {writes: []string{"a\nb"}, want: line("F", "a")},
		"the end of output finishes the line":       {writes: []string{"a"}, end: (*StreamWriter).Finish, want: line("F", "a")},
		"a suspended line is a piece":               {writes: []string{"a"}, end: (*StreamWriter).Suspend, want: line("P", "a")},
		"the end of output after a newline is mute": {writes: []string{"a\n"}, end: (*StreamWriter).Finish, want: line("F", "a")},
		"a line of the longest length is whole":     {writes: []string{long + "\n"}, want: line("F", long)},
		"a longer line is cut":                      {writes: []string{long + "y\n"}, want: line("P", long) + line("F", "y")},
		"a longer line is cut across writes":        {writes: []string{long[1:], "xy", "z\n"}, want: line("P", long) + line("F", "yz")},
		"a long line in one write is cut twice":     {writes: []string{long + long + "\n"}, want: line("P", long) + line("F", long)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			file, path := openLog(t)
			writer := file.NewStream(Stdout)
			for _, text := range test.writes {
				if n, err := writer.Write([]byte(text)); err != nil || n != len(text) {
					t.Fatalf("Write = %d, %v", n, err)
				}
			}
			if test.end != nil {
				if err := test.end(writer); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(test.want, read(t, path)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStreamsShareAFile(t *testing.T) {
	file, path := openLog(t)
	stdout, stderr := file.NewStream(Stdout), file.NewStream(Stderr)
	for _, step := range []struct {
		to   *StreamWriter
		text string
	}{{stdout, "half "}, {stderr, "oops\n"}, {stdout, "done\n"}} {
		if _, err := step.to.Write([]byte(step.text)); err != nil {
			t.Fatal(err)
		}
	}
	want := stamp + " stderr F oops\n" + stamp + " stdout F half done\n"
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestReopenContinuesUnderTheSamePath(t *testing.T) {
	file, path := openLog(t)
	writer := file.NewStream(Stdout)
	write := func(text string) {
		if _, err := writer.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := file.Reopen(); err != nil {
		t.Fatal(err)
	}
	write("after\n")
	if got := read(t, path); !strings.HasSuffix(got, "F after\n") || strings.Contains(got, "before") {
		t.Errorf("new file holds %q", got)
	}
	if got := read(t, path+".1"); !strings.HasSuffix(got, "F before\n") {
		t.Errorf("old file holds %q", got)
	}
}

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

func TestWriteDoesNotAllocatePerLine(t *testing.T) {
	file, _ := openLog(t)
	writer := file.NewStream(Stdout)
	output := []byte(strings.Repeat("one line of a hundred\n", 100))
	if _, err := writer.Write(output); err != nil {
		t.Fatal(err)
	}
	allocations := testing.AllocsPerRun(100, func() { _, _ = writer.Write(output) })
	if allocations > 1 {
		t.Errorf("%v allocations for a hundred lines, want at most 1", allocations)
	}
}

func BenchmarkStreamWriter(b *testing.B) {
	file, err := Open("/dev/null", clocktesting.NewFakePassiveClock(time.Now()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() })
	writer := file.NewStream(Stdout)
	output := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 320))
	b.SetBytes(int64(len(output)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := writer.Write(output); err != nil {
			b.Fatal(err)
		}
	}
}
