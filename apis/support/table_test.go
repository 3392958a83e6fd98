package support

import (
	"reflect"
	"strings"
	"testing"
)

// walkType reports every field below t, down to refused subtrees and scalars.
func walkType(t reflect.Type, key string, entries map[string]Entry, visit func(key string)) {
	for _, f := range jsonFields(t) {
		k := strings.TrimPrefix(key+"."+f.name, ".")
		visit(k)
		below, suffix := structBelow(f.typ)
		if below == nil || entries[k].Level != Supported || k == "spec.template" || k == "spec.jobTemplate" {
			continue
		}
		walkType(below, k+suffix, entries, visit)
	}
}

func TestTablesNameEveryField(t *testing.T) {
	for _, table := range Tables() {
		t.Run(table.Kind, func(t *testing.T) {
			seen := map[string]bool{}
			walkType(table.Type, table.Root, table.Entries, func(key string) {
				seen[key] = true
				if _, ok := table.Entries[key]; !ok {
					t.Errorf("%s has no entry: say in apis/support whether Keelson supports it", key)
				}
			})
			for key, entry := range table.Entries {
				if !seen[key] {
					t.Errorf("entry %s names no field of %s, or one below a refused field", key, table.Type)
				}
				checkEntry(t, key, entry)
			}
		})
	}
}

func checkEntry(t *testing.T, key string, e Entry) {
	t.Helper()
	switch e.Level {
	case Supported:
		if len(e.Allowed) > 0 {
			t.Errorf("%s is supported but lists allowed values", key)
		}
	case Limited:
		if len(e.Allowed) == 0 {
			t.Errorf("%s is limited to no value", key)
		}
	case Refused:
		if e.Note == "" || len(e.Allowed) > 0 {
			t.Errorf("%s is refused: it needs a note and no allowed values", key)
		}
	default:
		t.Errorf("%s has level %q", key, e.Level)
	}
	if e.Note != strings.TrimSuffix(strings.TrimSpace(e.Note), ".") {
		t.Errorf("%s: the note stands inside an error message, no space or full stop around it: %q", key, e.Note)
	}
}
