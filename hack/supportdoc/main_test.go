package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocumentIsCurrent(t *testing.T) {
	committed, err := os.ReadFile("../../docs/support.md")
	if err != nil {
		t.Fatal(err)
	}
	var generated strings.Builder
	if err := write(&generated); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), generated.String()); diff != "" {
		t.Errorf("docs/support.md is old: run `go run ./hack/supportdoc > docs/support.md` (-committed +generated):\n%s", diff)
	}
}
