package logrotate

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestComputePlan(t *testing.T) {
	const a, b, c = "0.log.20260101-000000", "0.log.20260102-000000", "0.log.20260103-000000"
	for name, test := range map[string]struct {
		files []string
		keep  int
		want  plan
	}{
		"nothing was put aside":                   {nil, 3, plan{}},
		"what was put aside last is compressed":   {[]string{a}, 3, plan{Compress: []string{a}}},
		"compressed ones stay":                    {[]string{a + ".gz", b}, 3, plan{Compress: []string{b}}},
		"the oldest go first":                     {[]string{c, a + ".gz", b + ".gz"}, 1, plan{Remove: []string{a + ".gz", b + ".gz"}, Compress: []string{c}}},
		"with two files none stays aside":         {[]string{a}, 0, plan{Remove: []string{a}}},
		"half of a compressed file goes":          {[]string{a, a + ".tmp"}, 3, plan{Remove: []string{a + ".tmp"}, Compress: []string{a}}},
		"what was compressed is not kept twice":   {[]string{a, a + ".gz"}, 3, plan{Remove: []string{a}}},
		"left overs do not push others out":       {[]string{a + ".gz", b, b + ".gz", c + ".tmp"}, 2, plan{Remove: []string{b, c + ".tmp"}}},
		"several that were never compressed are":  {[]string{b, a}, 2, plan{Compress: []string{a, b}}},
		"the order does not depend on the folder": {[]string{b, c, a}, 1, plan{Remove: []string{a, b}, Compress: []string{c}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, computePlan(test.files, test.keep)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// writer is a container whose log is written by a test.
type writer struct {
	t     *testing.T
	path  string
	file  *os.File
	state runtime.State
	// reopens counts the calls; failing ones return the error and change nothing.
	reopens int
	failing error
}

func newWriter(t *testing.T) *writer {
	t.Helper()
	w := &writer{t: t, path: filepath.Join(t.TempDir(), "0.log"), state: runtime.Running}
	w.open()
	t.Cleanup(func() { _ = w.file.Close() })
	return w
}

func (w *writer) open() {
	w.t.Helper()
	file, err := os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		w.t.Fatal(err)
	}
	w.file = file
}

func (w *writer) write(text string) {
	w.t.Helper()
	if _, err := w.file.WriteString(text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) Peek(context.Context) ([]runtime.PodState, error) {
	return []runtime.PodState{{Containers: []runtime.Container{{ID: "id", Name: "c", State: w.state, LogPath: w.path}}}}, nil
}

func (w *writer) ReopenLog(context.Context, string) error {
	w.reopens++
	if w.failing != nil {
		return w.failing
	}
	_ = w.file.Close()
	w.open()
	return nil
}

// files returns the names beside the log without "0.log", and what they hold.
func (w *writer) files() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(filepath.Dir(w.path))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		file, err := os.Open(filepath.Join(filepath.Dir(w.path), e.Name()))
		if err != nil {
			w.t.Fatal(err)
		}
		var from io.Reader = file
		if strings.HasSuffix(e.Name(), ".gz") {
			if from, err = gzip.NewReader(file); err != nil {
				w.t.Fatal(err)
			}
		}
		data, err := io.ReadAll(from)
		if err != nil {
			w.t.Fatal(err)
		}
		_ = file.Close()
		found[strings.TrimPrefix(e.Name(), "0.log")] = string(data)
	}
	return found
}

func (w *writer) want(files map[string]string) {
	w.t.Helper()
	if diff := cmp.Diff(files, w.files()); diff != "" {
		w.t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestRotation(t *testing.T) {
	w := newWriter(t)
	at := testingclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	r := New(Options{Containers: w, MaxSize: 10, MaxFiles: 4, Clock: at})
	round := func() {
		t.Helper()
		if err := r.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		at.Step(time.Second)
	}
	w.write("123456789")
	round()
	w.want(map[string]string{"": "123456789"})
	w.write("A")
	round()
	w.want(map[string]string{".20260102-030406": "123456789A", "": ""})
	for _, text := range []string{"second ten", "third  ten", "fourth ten"} {
		w.write(text)
		round()
	}
	w.write("rest")
	w.want(map[string]string{ // the first one is gone: four files in all
		".20260102-030407.gz": "second ten", ".20260102-030408.gz": "third  ten", ".20260102-030409": "fourth ten", "": "rest",
	})
	if t.Failed() || w.reopens != 4 {
		t.Errorf("told %d times to reopen", w.reopens)
	}
}

func TestRotationStopsAnywhere(t *testing.T) {
	setUp := func(t *testing.T) (*writer, *Rotator) {
		w := newWriter(t)
		return w, New(Options{Containers: w, MaxSize: 4, MaxFiles: 5, Clock: testingclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))})
	}
	const aside = ".20260101-000000"
	rename := func(w *writer) {
		if err := os.Rename(w.path, w.path+aside); err != nil {
			w.t.Fatal(err)
		}
	}
	t.Run("after the log was renamed its writer is told", func(t *testing.T) {
		w, r := setUp(t)
		w.write("one ")
		rename(w)
		w.write("two ")
		if err := r.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.write("3")
		w.want(map[string]string{aside: "one two ", "": "3"})
	})
	t.Run("while the writer cannot be told the log keeps its name", func(t *testing.T) {
		w, r := setUp(t)
		w.failing = errors.New("no logger")
		w.write("one ")
		if err := r.Rotate(t.Context()); !errors.Is(err, w.failing) {
			t.Fatalf("got %v", err)
		}
		w.write("two ")
		w.want(map[string]string{"": "one two "})
	})
	t.Run("a writer that reopens late loses nothing", func(t *testing.T) {
		w, r := setUp(t)
		w.write("one ")
		rename(w)
		w.failing = errors.New("no logger")
		for range 2 { // nothing is compressed while it may be written
			if err := r.Rotate(t.Context()); !errors.Is(err, w.failing) {
				t.Fatalf("got %v", err)
			}
		}
		w.write("two ")
		w.want(map[string]string{aside: "one two "})
	})
	t.Run("a container that ends then has its log at its path", func(t *testing.T) {
		w, r := setUp(t)
		w.write("one ")
		rename(w)
		w.state = runtime.Exited
		if err := r.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.want(map[string]string{"": "one "})
	})
	t.Run("within one second nothing is put aside twice", func(t *testing.T) {
		w, r := setUp(t)
		w.write("one ")
		if err := r.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.write("two ")
		if err := r.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The clock stands still, and compressing has changed the name.
		w.want(map[string]string{".20260102-030405.gz": "one ", "": "two "})
	})
}

// TestLinksAreNotFollowed: a Pod that mounts the machine's logs can write beside them.
func TestLinksAreNotFollowed(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	const text = "a secret of the machine"
	if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(what, log string) {
		t.Helper()
		if err := compress(t.Context(), log); err == nil {
			t.Errorf("%s: compressed", what)
		}
		if data, err := os.ReadFile(secret); err != nil || string(data) != text {
			t.Errorf("%s: the machine's file holds %q, %v", what, data, err)
		}
		if _, err := os.Stat(log + ".gz"); err == nil {
			t.Errorf("%s: there is a compressed copy", what)
		}
	}
	link := func(path string) {
		t.Helper()
		if err := os.Symlink(secret, path); err != nil {
			t.Fatal(err)
		}
	}
	aside := newWriter(t).path + ".20260101-000000"
	link(aside)
	check("a link that looks put aside", aside)
	log := newWriter(t).path
	link(log + ".tmp")
	check("a link in the place of what is being compressed", log)
}
