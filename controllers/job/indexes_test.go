package job

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestParseIndexes(t *testing.T) {
	for name, tc := range map[string]struct {
		text        string
		completions int
		want        indexes
		total       int
		back        string
	}{
		"nothing":                            {"", 5, nil, 0, ""},
		"one":                                {"3", 5, indexes{{3, 3}}, 1, "3"},
		"neighbours are a list":              {"1,2", 5, indexes{{1, 2}}, 2, "1,2"},
		"more are a range":                   {"0-2,4", 5, indexes{{0, 2}, {4, 4}}, 4, "0-2,4"},
		"the Job was scaled down: last cut":  {"0-4", 3, indexes{{0, 2}}, 3, "0-2"},
		"the Job was scaled down: all above": {"0,4,6-8", 3, indexes{{0, 0}}, 1, "0"},
		"nonsense is left out":               {"a,1,b-2,3-c,5-4", 9, indexes{{1, 1}}, 1, "1"},
		"touching spans are one":             {"0,1,2-3", 9, indexes{{0, 3}}, 4, "0-3"},
		"out of order":                       {"4,0-2", 9, indexes{{0, 2}, {4, 4}}, 4, "0-2,4"},
	} {
		t.Run(name, func(t *testing.T) {
			got := parseIndexes(tc.text, tc.completions)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(span{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.total() != tc.total || got.String() != tc.back {
				t.Errorf("total %d, text %q", got.total(), got)
			}
		})
	}
}

// TestIndexesAreASet compares every operation with that of a map.
func TestIndexesAreASet(t *testing.T) {
	const completions = 30
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (indexes, map[int]bool) {
			list := rapid.SliceOfN(rapid.IntRange(0, completions-1), 0, 20).Draw(t, name)
			set := map[int]bool{}
			for _, i := range list {
				set[i] = true
			}
			return indexes(nil).with(list...), set
		}
		a, inA := draw("a")
		b, inB := draw("b")
		union, overlap := a.union(b), 0
		for i := range completions {
			if a.has(i) != inA[i] || union.has(i) != (inA[i] || inB[i]) {
				t.Fatalf("%d: %s has %v, union with %s has %v", i, a, a.has(i), b, union.has(i))
			}
			if inA[i] && inB[i] {
				overlap++
			}
		}
		if a.total() != len(inA) || a.overlap(b) != overlap {
			t.Fatalf("%s: total %d, overlap with %s %d, want %d", a, a.total(), b, a.overlap(b), overlap)
		}
		if diff := cmp.Diff(a, parseIndexes(a.String(), completions), cmp.AllowUnexported(span{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("after a round (-want +got):\n%s", diff)
		}
		count := rapid.IntRange(0, completions).Draw(t, "count")
		missing := a.firstMissing(count, completions)
		if want := min(count, completions-len(inA)); len(missing) != want {
			t.Fatalf("%s: %d missing, want %d", a, len(missing), want)
		}
		for n, i := range missing {
			if inA[i] || n > 0 && missing[n-1] >= i {
				t.Fatalf("%s: missing %v", a, missing)
			}
		}
	})
}
