package preload

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"
)

// importer takes archives whose content is the names of images, and refuses those that
// begin with "broken".
type importer struct {
	mu    sync.Mutex
	calls []string
	gone  map[string]bool
	// away is what it says while it does not answer.
	away error
}

func (i *importer) answers(context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.away
}

func (i *importer) ImportImages(_ context.Context, archive io.Reader) ([]string, error) {
	content, err := io.ReadAll(archive)
	if err != nil {
		return nil, err
	}
	text := string(content)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls = append(i.calls, text)
	if i.away != nil {
		return nil, i.away
	}
	if strings.HasPrefix(text, "broken") {
		return nil, errors.New(text)
	}
	return strings.Fields(text), nil
}

func (i *importer) here(_ context.Context, name string) (bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.gone[name], nil
}

type fixture struct {
	*Folder
	importer *importer
	problems []string
	imported int
}

func newFixture(t *testing.T, c clock.WithTicker) *fixture {
	f := &fixture{importer: &importer{gone: map[string]bool{}}}
	f.Folder = NewFolder(Options{
		Path: t.TempDir(), Importer: f.importer, Here: f.importer.here, Answers: f.importer.answers, Clock: c,
		Problem: func(archive string, err error) {
			f.problems = append(f.problems, filepath.Base(archive)+": "+err.Error())
		},
		Imported: func() { f.imported++ },
	})
	return f
}

func (f *fixture) write(t *testing.T, name, content string, changed int64) {
	t.Helper()
	path := filepath.Join(f.Path, name)
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, time.Time{}, time.Unix(changed, 0))); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) check(t *testing.T, when string, calls, names, problems []string) {
	t.Helper()
	got := f.Names()
	slices.Sort(got)
	if !slices.Equal(f.importer.calls, calls) {
		t.Errorf("%s: imported %q, want %q", when, f.importer.calls, calls)
	}
	if !slices.Equal(got, names) {
		t.Errorf("%s: keeps %q, want %q", when, got, names)
	}
	if !slices.Equal(f.problems, problems) {
		t.Errorf("%s: said %q, want %q", when, f.problems, problems)
	}
	f.importer.calls, f.problems = nil, nil
}

func TestLookFollowsTheFolder(t *testing.T) {
	f := newFixture(t, testclock.NewFakeClock(time.Unix(0, 0)))
	look := func() {
		t.Helper()
		if err := f.look(t.Context()); err != nil {
			t.Error(err)
		}
	}
	f.write(t, "a.tar", "one two", 1)
	f.write(t, "b.tar.gz", "three", 1)
	f.write(t, "notes.txt", "four", 1)
	f.write(t, ".c.tar", "five", 1) // being written
	look()
	f.check(t, "at first", []string{"one two", "three"}, []string{"one", "three", "two"}, nil)
	look()
	f.check(t, "when nothing has changed", nil, []string{"one", "three", "two"}, nil)
	f.write(t, "a.tar", "six", 2)
	look()
	f.check(t, "when an archive was replaced", []string{"six"}, []string{"six", "three"}, nil)
	f.write(t, "a.tar", "broken off", 3)
	look()
	f.check(t, "when one is broken", []string{"broken off"}, []string{"six", "three"}, []string{"a.tar: broken off"})
	look()
	f.check(t, "when it still is", []string{"broken off"}, []string{"six", "three"}, nil)
	f.write(t, "a.tar", "six", 4)
	look()
	f.check(t, "when it is mended", []string{"six"}, []string{"six", "three"}, nil)
	f.importer.gone["three"] = true
	look()
	f.check(t, "when somebody removed an image", []string{"three"}, []string{"six", "three"}, nil)
	f.importer.gone["three"] = false
	if err := os.Remove(filepath.Join(f.Path, "a.tar")); err != nil {
		t.Fatal(err)
	}
	look()
	f.check(t, "when an archive is gone", nil, []string{"three"}, nil)
	if err := os.RemoveAll(f.Path); err != nil {
		t.Fatal(err)
	}
	look()
	f.check(t, "when the folder is gone", nil, []string{}, nil)
	if f.imported != 4 {
		t.Errorf("told %d times that images have come, want 4", f.imported)
	}
}

func TestAFolderIsNoArchive(t *testing.T) {
	f := newFixture(t, testclock.NewFakeClock(time.Unix(0, 0)))
	if err := os.Mkdir(filepath.Join(f.Path, "images.tar"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.look(t.Context()); err != nil {
		t.Error(err)
	}
	if len(f.problems) != 1 || !strings.Contains(f.problems[0], "is no file") {
		t.Errorf("said %q", f.problems)
	}
}

func TestRunImportsWhatComes(t *testing.T) {
	f := newFixture(t, clock.RealClock{})
	f.write(t, "a.tar", "one", 1)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	defer running.Wait()
	defer stop()
	if err := f.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if got := f.Names(); !slices.Equal(got, []string{"one"}) {
		t.Fatalf("ready with %q", got)
	}
	f.write(t, "b.tar", "two", 1)
	for !slices.Contains(f.Names(), "two") {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("an archive that came was not imported")
		}
	}
}

func TestReadyEndsWithItsContext(t *testing.T) {
	f := newFixture(t, testclock.NewFakeClock(time.Unix(0, 0)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Ready(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// An agent may start before its runtime: an archive is not to blame, and nobody shall ask a
// registry meanwhile.
func TestArchivesWaitForTheRuntime(t *testing.T) {
	c := testclock.NewFakeClock(time.Unix(0, 0))
	f := newFixture(t, c)
	f.write(t, "a.tar", "one", 1)
	f.importer.away = errors.New("nobody listens")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	defer running.Wait()
	defer stop()
	tries := func() int {
		f.importer.mu.Lock()
		defer f.importer.mu.Unlock()
		return len(f.importer.calls)
	}
	for want := range 3 {
		for tries() <= want {
			c.Step(awayDelay)
			if t.Context().Err() != nil {
				t.Fatalf("%d tries while the runtime is away", tries())
			}
			time.Sleep(time.Millisecond) // for Run, which waits by the fake clock
		}
	}
	select {
	case <-f.first:
		t.Error("ready although no archive could be read")
	default:
	}
	f.importer.mu.Lock()
	f.importer.away = nil
	f.importer.mu.Unlock()
	for len(f.Names()) == 0 && t.Context().Err() == nil {
		c.Step(awayDelay)
		time.Sleep(time.Millisecond)
	}
	if err := f.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if len(f.problems) > 0 {
		t.Errorf("said %q", f.problems)
	}
}
