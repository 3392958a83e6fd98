package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Files of the lists, beside this program.
const (
	passingFile       = "passing.txt"
	slowFile          = "slow.txt"
	failingFile       = "failing.tsv"
	notApplicableFile = "not-applicable.tsv"
)

// slowAfter is when a test is too slow for a sample.
const slowAfter = 45 * time.Second

// notAttempted is the reason of tests that no recorded run has got to.
const notAttempted = "Not attempted yet."

// lists say what is known of every conformance test: each is in one of passing,
// failing and notApplicable.
type lists struct {
	// passing must pass: the ratchet.
	passing map[string]bool
	// slow are those of passing that a sample leaves out.
	slow map[string]bool
	// failing and notApplicable map names to reasons. A reason in quotes is what the
	// test said itself. Those that reasonOf does not write are a person's, and kept.
	failing, notApplicable map[string]string
}

func loadLists(dir string) (lists, error) {
	read := func(name string) (map[string]string, error) { return readList(filepath.Join(dir, name)) }
	passing, err1 := read(passingFile)
	slow, err2 := read(slowFile)
	failing, err3 := read(failingFile)
	notApplicable, err4 := read(notApplicableFile)
	l := lists{passing: keysOf(passing), slow: keysOf(slow), failing: failing, notApplicable: notApplicable}
	return l, errors.Join(err1, err2, err3, err4)
}

func keysOf(m map[string]string) map[string]bool {
	set := make(map[string]bool, len(m))
	for name := range m {
		set[name] = true
	}
	return set
}

// readList reads lines of a name and, after a tab, a reason. A missing file is empty.
func readList(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	defer file.Close()
	list := map[string]string{}
	scanner := bufio.NewScanner(file)
	for number := 1; scanner.Scan(); number++ {
		name, reason, _ := strings.Cut(scanner.Text(), "\t")
		if _, twice := list[name]; twice || name == "" {
			return nil, fmt.Errorf("%s:%d: the line is empty or its name comes twice: %q", path, number, name)
		}
		list[name] = reason
	}
	return list, scanner.Err()
}

func (l lists) save(dir string) error {
	withoutReasons := func(set map[string]bool) map[string]string {
		list := map[string]string{}
		for name := range set {
			list[name] = ""
		}
		return list
	}
	return errors.Join(
		writeList(filepath.Join(dir, passingFile), withoutReasons(l.passing)),
		writeList(filepath.Join(dir, slowFile), withoutReasons(l.slow)),
		writeList(filepath.Join(dir, failingFile), l.failing),
		writeList(filepath.Join(dir, notApplicableFile), l.notApplicable),
	)
}

func writeList(path string, list map[string]string) error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(list)) {
		text.WriteString(name)
		if list[name] != "" {
			text.WriteString("\t" + list[name])
		}
		text.WriteString("\n")
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	return nil
}

// record returns the lists as they are after a run, and the tests that had to pass and
// did not; those keep their place unless lower is set.
func (l lists) record(results []result, lower bool) (after lists, lost []result) {
	after = lists{
		passing: maps.Clone(l.passing), slow: maps.Clone(l.slow),
		failing: maps.Clone(l.failing), notApplicable: maps.Clone(l.notApplicable),
	}
	for _, r := range results {
		switch r.Outcome {
		case passed:
			after.setPassed(r)
		case failed, declined:
			if l.passing[r.Name] {
				lost = append(lost, r)
				if !lower {
					continue
				}
			}
			after.setFailed(r)
		default:
			if !after.knows(r.Name) {
				after.failing[r.Name] = notAttempted
			}
		}
	}
	return after, lost
}

func (l lists) knows(name string) bool {
	_, failing := l.failing[name]
	_, notApplicable := l.notApplicable[name]
	return failing || notApplicable || l.passing[name]
}

func (l lists) setPassed(r result) {
	l.passing[r.Name] = true
	delete(l.failing, r.Name)
	delete(l.notApplicable, r.Name)
	delete(l.slow, r.Name)
	if r.Took > slowAfter {
		l.slow[r.Name] = true
	}
}

func (l lists) setFailed(r result) {
	delete(l.passing, r.Name)
	delete(l.slow, r.Name)
	if _, known := l.notApplicable[r.Name]; known {
		return
	}
	if isAutomatic(l.failing[r.Name]) {
		l.failing[r.Name] = reasonOf(r.Message)
	}
}

// sample chooses count tests that must pass, quick ones. The same seed and lists give
// the same choice.
func (l lists) sample(seed string, count int) []string {
	rank := func(name string) string {
		sum := sha256.Sum256([]byte(seed + "\x00" + name))
		return string(sum[:])
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(l.passing)), func(name string) bool { return l.slow[name] })
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return names[:min(count, len(names))]
}
