package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Statuses that a row can have.
const (
	works      = "works"      // shown by the tests in evidence
	superseded = "superseded" // note says by which upstream behaviour
	open       = "open"       // not built yet
	notOurs    = "not ours"   // note says why
)

var statuses = []string{works, superseded, open, notOurs}

// row is one line of docs/requirements.tsv.
type row struct {
	line   int
	id     string // "<source>:<ID>", such as "b01:C4-36"
	status string
	// evidence names tests as "<folder>#<TestName>".
	evidence []string
	note     string
}

// readRows parses the table; its first line is the heading.
func readRows(path string) ([]row, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var rows []row
	scanner := bufio.NewScanner(f)
	for n := 1; scanner.Scan(); n++ {
		if n == 1 {
			continue
		}
		r, err := parseRow(scanner.Text())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		r.line = n
		rows = append(rows, r)
	}
	return rows, scanner.Err()
}

func parseRow(line string) (row, error) {
	cells := strings.Split(line, "\t")
	if len(cells) != 4 {
		return row{}, fmt.Errorf("%d tab-separated cells, want 4: id, status, evidence, note", len(cells))
	}
	r := row{id: cells[0], status: cells[1], note: cells[3]}
	for test := range strings.SplitSeq(cells[2], ";") {
		if test = strings.TrimSpace(test); test != "" {
			r.evidence = append(r.evidence, test)
		}
	}
	return r, r.validate()
}

func (r row) validate() error {
	source, id, ok := strings.Cut(r.id, ":")
	if !ok || source == "" || id == "" {
		return fmt.Errorf("id %q is not <source>:<ID>", r.id)
	}
	if !slices.Contains(statuses, r.status) {
		return fmt.Errorf("%s: status %q is none of %s", r.id, r.status, strings.Join(statuses, ", "))
	}
	if r.status == works && len(r.evidence) == 0 {
		return fmt.Errorf("%s: works without evidence; name the test that shows it", r.id)
	}
	if (r.status == superseded || r.status == notOurs) && r.note == "" {
		return fmt.Errorf("%s: %s without a note that says why", r.id, r.status)
	}
	return nil
}

// source is the part of the ID that names the file of the row.
func (r row) source() string {
	source, _, _ := strings.Cut(r.id, ":")
	return source
}
