package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(second int) string {
	return time.Date(2026, 1, 2, 3, 4, second, 5, time.UTC).Format(timeFormat)
}

func logLine(second int, stream, tag, text string) string {
	return at(second) + " " + stream + " " + tag + " " + text + "\n"
}

func TestRead(t *testing.T) {
	mixed := logLine(1, "stdout", "F", "one") + logLine(2, "stderr", "F", "two") + logLine(3, "stdout", "F", "three")
	pieces := logLine(1, "stdout", "F", "a") + logLine(2, "stdout", "P", "b") + logLine(3, "stderr", "F", "e") + logLine(4, "stdout", "F", "c")
	long := strings.Repeat("y", 3*lineBuffer) + "\n"
	tests := map[string]struct {
		log     string
		options Options
		// without is a stream that the reader does not want.
		without string
		want    string
	}{
		"an empty log":                              {log: "", want: ""},
		"both streams, in the order of the file":    {log: mixed, want: "one\ntwo\nthree\n"},
		"standard output alone":                     {log: mixed, without: stderr, want: "one\nthree\n"},
		"standard error alone":                      {log: mixed, without: stdout, want: "two\n"},
		"times have nine digits":                    {log: logLine(1, "stdout", "F", "x"), options: Options{Timestamps: true}, want: at(1) + " x\n"},
		"pieces of a line have one time":            {log: logLine(1, "stdout", "P", "a") + logLine(2, "stdout", "F", "b"), options: Options{Timestamps: true}, want: at(1) + " ab\n"},
		"pieces are joined around the other stream": {log: pieces, without: stderr, want: "a\nbc\n"},
		"since includes its moment":                 {log: mixed, options: Options{Since: time.Date(2026, 1, 2, 3, 4, 2, 5, time.UTC)}, want: "two\nthree\n"},
		"since leaves out what has no time":         {log: "yesterday stdout F x\n" + mixed, options: Options{Since: time.Date(2026, 1, 2, 3, 4, 3, 0, time.UTC)}, want: "three\n"},
		"the limit cuts in the middle of a line":    {log: mixed, options: Options{LimitBytes: new(int64(6))}, want: "one\ntw"},
		"the limit counts times":                    {log: mixed, options: Options{LimitBytes: new(int64(10)), Timestamps: true}, want: at(1)[:10]},
		"the limit ends following":                  {log: mixed, options: Options{LimitBytes: new(int64(8)), Follow: true}, want: "one\ntwo\n"},
		"no last lines":                             {log: mixed, options: Options{TailLines: new(int64(0))}, want: ""},
		"the last lines":                            {log: mixed, options: Options{TailLines: new(int64(2))}, want: "two\nthree\n"},
		"more last lines than there are":            {log: mixed, options: Options{TailLines: new(int64(9))}, want: "one\ntwo\nthree\n"},
		"the last lines of one stream":              {log: mixed, options: Options{TailLines: new(int64(2))}, without: stderr, want: "one\nthree\n"},
		"pieces count as one last line": {
			log: logLine(1, "stdout", "F", "a") + logLine(2, "stdout", "P", "b") + logLine(3, "stdout", "F", "c"), options: Options{TailLines: new(int64(1))}, want: "bc\n"},
		"a line that has no end yet counts": {
			log: logLine(1, "stdout", "F", "a") + logLine(2, "stdout", "P", "b"), options: Options{TailLines: new(int64(1))}, want: "b"},
		"last lines, and of these the new ones": {
			log: mixed, options: Options{TailLines: new(int64(2)), Since: time.Date(2026, 1, 2, 3, 4, 3, 0, time.UTC)}, want: "three\n"},
		"an entry that is being written is left for later": {log: mixed + at(4) + " stdout F fo", want: "one\ntwo\nthree\n"},
		"what is not in the format is left out":            {log: "garbage\n\n" + mixed + "2026 stdnone F x\n", want: "one\ntwo\nthree\n"},
		"a line that is too long is left out":              {log: long + mixed, want: "one\ntwo\nthree\n"},
		"a line that is far too long has no last lines":    {log: mixed + strings.Repeat(long, 2) + logLine(5, "stdout", "F", "end"), options: Options{TailLines: new(int64(2))}, want: "three\nend\n"},
		"last lines beyond a chunk": {
			log: strings.Repeat(logLine(1, "stdout", "F", strings.Repeat("z", 999)), 100), options: Options{TailLines: new(int64(70))},
			want: strings.Repeat(strings.Repeat("z", 999)+"\n", 70)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := writeLog(t, test.log)
			var got bytes.Buffer
			out := Output{Stdout: &got, Stderr: &got}
			switch test.without {
			case stdout:
				out.Stdout = nil
			case stderr:
				out.Stderr = nil
			}
			if err := Read(t.Context(), path, test.options, out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.String()); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadOfAMissingLogSaysWhichOne(t *testing.T) {
	err := Read(t.Context(), "/nowhere/0.log", Options{}, Output{})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/0.log") {
		t.Errorf("error is %v", err)
	}
}

// TestTailIsTheEndOfTheWhole compares every number of last lines with the whole log.
func TestTailIsTheEndOfTheWhole(t *testing.T) {
	source := rand.New(rand.NewSource(1))
	for round := range 30 {
		var log strings.Builder
		var lines []string
		for i := range 200 {
			text := strings.Repeat(string(rune('a'+i%26)), source.Intn(2000))
			lines = append(lines, text+"\n")
			for len(text) > 500 && source.Intn(3) > 0 {
				log.WriteString(logLine(i%60, "stdout", "P", text[:500]))
				text = text[500:]
			}
			log.WriteString(logLine(i%60, "stdout", "F", text))
		}
		path := writeLog(t, log.String())
		for _, count := range []int{0, 1, 2, 17, 199, 200, 201, source.Intn(200)} {
			var got bytes.Buffer
			if err := Read(t.Context(), path, Options{TailLines: new(int64(count))}, Output{Stdout: &got}); err != nil {
				t.Fatal(err)
			}
			if want := strings.Join(lines[max(0, len(lines)-count):], ""); got.String() != want {
				t.Fatalf("round %d, %d lines: got %d bytes, want %d", round, count, got.Len(), len(want))
			}
		}
	}
}

// TestFollowThroughRotation writes, rotates and cuts a log at random moments, and expects
// every line once and in order.
// growing lets the log grow whenever something of it is read.
type growing struct {
	t    *testing.T
	path string
	got  strings.Builder
}

func (g *growing) Write(p []byte) (int, error) {
	file, err := os.OpenFile(g.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("2026-01-02T03:04:05Z stdout F more\n"); err != nil {
		g.t.Fatal(err)
	}
	return g.got.Write(p)
}

func TestReadEndsWhereTheLogEndedWhenItBegan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	line := "2026-01-02T03:04:05Z stdout F line\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 3)), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		tail *int64
		want string
	}{"the last line": {new(int64(1)), "line\n"}, "all": {nil, "line\nline\nline\n"}} {
		if err := os.WriteFile(path, []byte(strings.Repeat(line, 3)), 0o600); err != nil {
			t.Fatal(err)
		}
		out := &growing{t: t, path: path}
		if err := Read(t.Context(), path, Options{TailLines: tc.tail}, Output{Stdout: out}); err != nil {
			t.Fatal(err)
		}
		if out.got.String() != tc.want {
			t.Errorf("%s: %q, want %q", what, out.got.String(), tc.want)
		}
	}
}

func TestFollowThroughRotation(t *testing.T) {
	path := writeLog(t, logLine(0, "stdout", "F", "before"))
	ended := make(chan struct{})
	var got lockedBuffer
	result := make(chan error, 1)
	go func() { result <- Follow(t.Context(), path, ended, Output{Stdout: &got}) }()
	// Nothing tells from outside that the reader has begun: write until it has seen it.
	begin := logLine(0, "stdout", "F", "begin")
	for !strings.Contains(got.String(), "begin") {
		appendLog(t, path, begin)
		got.waitBriefly()
	}

	source := rand.New(rand.NewSource(2))
	var want strings.Builder
	put := "" // the file that was put aside last
	for i := range 2000 {
		text := fmt.Sprintf("line %d", i)
		want.WriteString(text + "\n")
		appendLog(t, path, logLine(i%60, "stdout", "F", text))
		if source.Intn(50) > 0 {
			continue
		}
		// As rotation does: rename, then the writer opens its path again. The reader may
		// be files behind.
		name := fmt.Sprintf("%s.%06d", path, i)
		if err := os.Rename(path, name); err != nil {
			t.Fatal(err)
		}
		if put != "" && source.Intn(2) == 0 {
			compressLog(t, put)
		}
		put = name
		if source.Intn(2) == 0 {
			appendLog(t, path, "")
		}
	}
	close(ended)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	all := strings.ReplaceAll(got.String(), "begin\n", "")
	if diff := cmp.Diff(want.String(), all); diff != "" {
		t.Errorf("followed (-want +got):\n%s", diff)
	}
}

// compressLog does what rotation does with a file that was put aside.
func compressLog(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+TemporarySuffix, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+TemporarySuffix, path+CompressedSuffix); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestFollowGoesOnAfterACut(t *testing.T) {
	path := writeLog(t, "")
	var got lockedBuffer
	ended := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- Read(t.Context(), path, Options{Follow: true, Ended: ended}, Output{Stdout: &got})
	}()
	appendLog(t, path, logLine(1, "stdout", "F", "a long line before"))
	got.waitFor(t, "a long line before\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	appendLog(t, path, logLine(2, "stdout", "F", "after"))
	got.waitFor(t, "after\n")
	close(ended)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func TestFollowReadsWhatWasWrittenBeforeTheEnd(t *testing.T) {
	for range 50 {
		path := writeLog(t, "")
		ended := make(chan struct{})
		var got bytes.Buffer
		result := make(chan error, 1)
		go func() {
			result <- Read(t.Context(), path, Options{Follow: true, Ended: ended}, Output{Stdout: &got})
		}()
		appendLog(t, path, logLine(1, "stdout", "F", "last words"))
		close(ended)
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if got.String() != "last words\n" {
			t.Fatalf("followed %q", got.String())
		}
	}
}

func TestFollowEndsWithItsReader(t *testing.T) {
	path := writeLog(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- Read(ctx, path, Options{Follow: true}, Output{}) }()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}

	broken := errors.New("the client has gone")
	go func() {
		result <- Read(t.Context(), path, Options{Follow: true}, Output{Stdout: failing{broken}})
	}()
	appendLog(t, path, logLine(1, "stdout", "F", "x"))
	if err := <-result; !errors.Is(err, broken) {
		t.Errorf("ended with %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(logLine(1, "stdout", "F", "x")), int64(1), int64(3), true)
	f.Add([]byte("2026 stderr P \n\n x"), int64(0), int64(1), false)
	f.Fuzz(func(t *testing.T, log []byte, tail, limit int64, times bool) {
		if tail < 0 || limit < 1 {
			return
		}
		path := writeLog(t, string(log))
		var got bytes.Buffer
		options := Options{TailLines: &tail, LimitBytes: &limit, Timestamps: times}
		if err := Read(t.Context(), path, options, Output{Stdout: &got, Stderr: &got}); err != nil {
			t.Fatal(err)
		}
		if int64(got.Len()) > limit || tail < int64(len(log)) && int64(bytes.Count(got.Bytes(), []byte("\n"))) > 2*tail {
			t.Fatalf("%d bytes, %d lines with limit %d, %d lines", got.Len(), bytes.Count(got.Bytes(), []byte("\n")), limit, tail)
		}
	})
}

func writeLog(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func appendLog(t *testing.T, path, content string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(content); err != nil {
		t.Fatal(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// lockedBuffer is a buffer that a test can wait for.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	change chan struct{}
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.change != nil {
		close(b.change)
		b.change = nil
	}
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func (b *lockedBuffer) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.change == nil {
		b.change = make(chan struct{})
	}
	return b.change
}

func (b *lockedBuffer) waitBriefly() {
	select {
	case <-b.changed():
	case <-time.After(10 * time.Millisecond):
	}
}

func (b *lockedBuffer) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		changed := b.changed()
		if strings.Contains(b.String(), text) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("never read %q", text)
		}
	}
}

func TestLinkInThePlaceOfALogIsNotFollowed(t *testing.T) {
	secret, log := filepath.Join(t.TempDir(), "secret"), filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(secret, []byte("2026-01-01T00:00:00.000000000Z stdout F a secret of the machine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, log); err != nil { // by a Pod that mounts /var/log of the machine
		t.Fatal(err)
	}
	var out strings.Builder
	if err := Read(t.Context(), log, Options{}, Output{Stdout: &out}); err == nil || out.String() != "" {
		t.Errorf("read %q, error %v", out.String(), err)
	}
	if text, err := Tail(log, 10, 1000); err == nil || text != "" {
		t.Errorf("the end is %q, error %v", text, err)
	}
}

func TestReadBetweenRenamingAndReopening(t *testing.T) {
	path := writeLog(t, logLine(0, "stdout", "F", "before"))
	if err := os.Rename(path, path+".20260101-000000"); err != nil {
		t.Fatal(err)
	}
	var got lockedBuffer
	if err := Read(t.Context(), path, Options{}, Output{Stdout: &got}); err != nil || got.String() != "before\n" {
		t.Errorf("read %q, %v", got.String(), err)
	}
	if text, err := Tail(path, 10, 100); err != nil || text != "before\n" {
		t.Errorf("the end is %q, %v", text, err)
	}
	// Who follows from then on sees what the writer adds, there and in its next file.
	ended, result := make(chan struct{}), make(chan error, 1)
	var followed lockedBuffer
	go func() {
		result <- Read(t.Context(), path, Options{Follow: true, Ended: ended}, Output{Stdout: &followed})
	}()
	followed.waitFor(t, "before\n")
	appendLog(t, path+".20260101-000000", logLine(1, "stdout", "F", "between"))
	appendLog(t, path, logLine(2, "stdout", "F", "after"))
	followed.waitFor(t, "after\n")
	close(ended)
	if err := <-result; err != nil || followed.String() != "before\nbetween\nafter\n" {
		t.Errorf("followed %q, %v", followed.String(), err)
	}
}
