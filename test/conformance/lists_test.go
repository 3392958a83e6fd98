package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// repository is the module's folder from here.
const repository = "../.."

func TestListsAreConsistent(t *testing.T) {
	for _, s := range suites() {
		t.Run(s.name, func(t *testing.T) { testLists(t, s) })
	}
}

func testLists(t *testing.T, s testSuite) {
	folder := s.folder(".")
	l, err := loadLists(folder)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]int{}
	for _, set := range []map[string]bool{l.passing, keysOf(l.failing), keysOf(l.notApplicable)} {
		for name := range set {
			places[name]++
		}
	}
	for name, n := range places {
		if !s.belongs(name) {
			t.Errorf("%s is no test of the suite %s", name, s.name)
		}
		if n > 1 {
			t.Errorf("%s is in %d lists, want one of %s, %s and %s", name, n, passingFile, failingFile, notApplicableFile)
		}
	}
	for name := range l.slow {
		if !l.passing[name] {
			t.Errorf("%s is in %s and not in %s", name, slowFile, passingFile)
		}
	}
	for file, list := range map[string]map[string]string{failingFile: l.failing, notApplicableFile: l.notApplicable} {
		for name, reason := range list {
			if reason == "" {
				t.Errorf("%s: %s has no reason", file, name)
			}
		}
	}
	// Saved again they are the same: sorted, each name once.
	dir := t.TempDir()
	if err := l.save(dir); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{passingFile, slowFile, failingFile, notApplicableFile} {
		if diff := cmp.Diff(readFile(t, filepath.Join(dir, file)), readFile(t, filepath.Join(folder, file))); diff != "" {
			t.Errorf("%s is not in order (-want +got):\n%s", file, diff)
		}
	}
}

func TestDocumentIsCurrent(t *testing.T) {
	all, err := loadSuites(".")
	if err != nil {
		t.Fatal(err)
	}
	version, err := suiteVersion(repository)
	if err != nil {
		t.Fatal(err)
	}
	if writeDocument(all, version) != readFile(t, filepath.Join(repository, documentFile)) {
		t.Errorf("%s is not what the lists say: run `go run ./test/conformance document`", documentFile)
	}
}

func TestRecord(t *testing.T) {
	before := lists{
		passing:       map[string]bool{"p": true, "p slow": true},
		slow:          map[string]bool{"p slow": true},
		failing:       map[string]string{"f": `"old words"`, "f human": "needs volumes", "f new": notAttempted},
		notApplicable: map[string]string{"n": "two nodes"},
	}
	tests := map[string]struct {
		result result
		lower  bool
		want   func(*lists)
		lost   bool
	}{
		"a failing test passes": {
			result: result{Name: "f", Outcome: passed},
			want:   func(l *lists) { l.passing["f"] = true; delete(l.failing, "f") },
		},
		"a test of another reason passes": {
			result: result{Name: "n", Outcome: passed},
			want:   func(l *lists) { l.passing["n"] = true; delete(l.notApplicable, "n") },
		},
		"a passing test takes long": {
			result: result{Name: "p", Outcome: passed, Took: slowAfter + time.Second},
			want:   func(l *lists) { l.slow["p"] = true },
		},
		"a slow test became quick": {
			result: result{Name: "p slow", Outcome: passed, Took: time.Second},
			want:   func(l *lists) { delete(l.slow, "p slow") },
		},
		"a passing test fails":    {result: result{Name: "p", Outcome: failed, Message: "no"}, want: func(*lists) {}, lost: true},
		"a passing test declines": {result: result{Name: "p", Outcome: declined}, want: func(*lists) {}, lost: true},
		"a passing test is lowered": {
			result: result{Name: "p slow", Outcome: failed, Message: "no"}, lower: true, lost: true,
			want: func(l *lists) { delete(l.passing, "p slow"); delete(l.slow, "p slow"); l.failing["p slow"] = `"no"` },
		},
		"a test's own words are replaced":   {result: result{Name: "f", Outcome: failed, Message: "new words"}, want: func(l *lists) { l.failing["f"] = `"new words"` }},
		"a person's reason is kept":         {result: result{Name: "f human", Outcome: failed, Message: "words"}, want: func(*lists) {}},
		"a test is attempted for the first": {result: result{Name: "f new", Outcome: failed, Message: "words"}, want: func(l *lists) { l.failing["f new"] = `"words"` }},
		"a test that does not apply fails":  {result: result{Name: "n", Outcome: failed, Message: "words"}, want: func(*lists) {}},
		"a test unknown so far did not run": {result: result{Name: "x", Outcome: notRun}, want: func(l *lists) { l.failing["x"] = notAttempted }},
		"a known test did not run":          {result: result{Name: "p", Outcome: notRun}, want: func(*lists) {}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			want, _ := before.record(nil, false)
			tc.want(&want)
			got, lost := before.record([]result{tc.result}, tc.lower)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(lists{})); diff != "" {
				t.Errorf("lists (-want +got):\n%s", diff)
			}
			if (len(lost) > 0) != tc.lost {
				t.Errorf("lost %v", lost)
			}
		})
	}
}

func TestSample(t *testing.T) {
	l := lists{passing: map[string]bool{}, slow: map[string]bool{"slow": true}}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "slow"} {
		l.passing[name] = true
	}
	first := l.sample("seed", 3)
	if diff := cmp.Diff(first, l.sample("seed", 3)); diff != "" || len(first) != 3 {
		t.Errorf("the same seed chose otherwise (or not three): %s", diff)
	}
	seen := map[string]bool{}
	for _, seed := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"} {
		for _, name := range l.sample(seed, 3) {
			seen[name] = true
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e", "f", "g", "h"}, slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("chosen over twelve seeds (-want +got):\n%s", diff)
	}
	if got := l.sample("seed", 100); len(got) != 8 {
		t.Errorf("more than there are: %v", got)
	}
}

func TestReadListRefusesNonsense(t *testing.T) {
	for name, text := range map[string]string{"a name twice": "a\tx\na\ty\n", "an empty line": "a\n\nb\n"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "list")
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := readList(file); err == nil || !strings.Contains(err.Error(), file+":2") {
				t.Errorf("error %v, want one that names line 2", err)
			}
		})
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
