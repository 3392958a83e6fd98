package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// sources maps the prefix of an ID to the file with its rows: IDs repeat between
// the files.
var sources = []struct{ prefix, file string }{
	{"b01", "book-ch01-04.md"},
	{"b05", "book-ch05-08.md"},
	{"b09", "book-ch09-15.md"},
	{"o", "other-documents.md"},
}

// A row of the tables starts with its ID, optionally in bold.
var sourceRow = regexp.MustCompile(`(?m)^\|\s*\**([A-Z][A-Z0-9]*-\d+[a-z]?)\**\s*\|`)

// compareWithSource reports rows without a line and lines without a row.
func compareWithSource(rows []row, dir string) error {
	have := map[string]bool{}
	for _, r := range rows {
		have[r.id] = true
	}
	var faults []error
	for _, source := range sources {
		text, err := os.ReadFile(filepath.Join(dir, source.file))
		if err != nil {
			return err
		}
		for _, match := range sourceRow.FindAllSubmatch(text, -1) {
			id := source.prefix + ":" + string(match[1])
			if !have[id] {
				faults = append(faults, fmt.Errorf("%s has no line", id))
			}
			delete(have, id)
		}
	}
	for id := range have {
		faults = append(faults, fmt.Errorf("%s is in no source table", id))
	}
	return errors.Join(faults...)
}
