package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
)

// check returns every fault of the table at once: repeated IDs and tests that do
// not exist below root.
func check(rows []row, root string) error {
	var faults []error
	seen := map[string]int{}
	tests := testFinder{root: root, byFolder: map[string]map[string]bool{}}
	for _, r := range rows {
		if first, ok := seen[r.id]; ok {
			faults = append(faults, fmt.Errorf("line %d: %s stands already in line %d", r.line, r.id, first))
		}
		seen[r.id] = r.line
		for _, name := range r.evidence {
			if err := tests.find(name); err != nil {
				faults = append(faults, fmt.Errorf("line %d: %s: %w", r.line, r.id, err))
			}
		}
	}
	return errors.Join(faults...)
}

// testFinder knows the top-level test functions of the folders it was asked about.
type testFinder struct {
	root     string
	byFolder map[string]map[string]bool
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`)

// find fails unless "<folder>#<TestName>" exists.
func (f testFinder) find(evidence string) error {
	folder, name, ok := strings.Cut(evidence, "#")
	if !ok {
		return fmt.Errorf("evidence %q is not <folder>#<TestName>", evidence)
	}
	known, ok := f.byFolder[folder]
	if !ok {
		var err error
		if known, err = testsIn(filepath.Join(f.root, folder)); err != nil {
			return err
		}
		f.byFolder[folder] = known
	}
	if !known[name] {
		return fmt.Errorf("no test %s in %s", name, folder)
	}
	return nil
}

func testsIn(folder string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, match := range testFunc.FindAllSubmatch(text, -1) {
			found[string(match[1])] = true
		}
	}
	return found, nil
}

// counts renders the number of rows by source and status.
func counts(rows []row) string {
	number := map[string]map[string]int{}
	var sources []string
	for _, r := range rows {
		if number[r.source()] == nil {
			number[r.source()] = map[string]int{}
			sources = append(sources, r.source())
		}
		number[r.source()][r.status]++
	}
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "source\t%s\tall\t\n", strings.Join(statuses, "\t"))
	total := map[string]int{}
	for _, source := range sources {
		writeCounts(table, source, number[source])
		for status, n := range number[source] {
			total[status] += n
		}
	}
	writeCounts(table, "all", total)
	_ = table.Flush() // a strings.Builder takes everything
	return out.String()
}

func writeCounts(table *tabwriter.Writer, source string, byStatus map[string]int) {
	all := 0
	fmt.Fprint(table, source)
	for _, status := range statuses {
		fmt.Fprintf(table, "\t%d", byStatus[status])
		all += byStatus[status]
	}
	fmt.Fprintf(table, "\t%d\t\n", all)
}
