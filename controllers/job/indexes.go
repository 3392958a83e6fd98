package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// span is a run of completion indexes, both ends included.
type span struct{ first, last int }

// indexes is a set of completion indexes: ordered spans that neither overlap nor touch.
// It is what status.completedIndexes and status.failedIndexes say.
type indexes []span

// parseIndexes reads "1,3-5,7", leaving out what is not below completions and what is
// no index: a person may have written it.
func parseIndexes(text string, completions int) indexes {
	if text == "" {
		return nil
	}
	var spans []span
	for part := range strings.SplitSeq(text, ",") {
		s, err := parseSpan(part)
		if err != nil || s.first >= completions {
			continue
		}
		s.last = min(s.last, completions-1)
		spans = append(spans, s)
	}
	return normalize(spans)
}

func parseSpan(text string) (span, error) {
	low, high, isRange := strings.Cut(text, "-")
	first, err := strconv.Atoi(low)
	if err != nil {
		return span{}, fmt.Errorf("%q is no index: %w", low, err)
	}
	if !isRange {
		return span{first, first}, nil
	}
	last, err := strconv.Atoi(high)
	if err != nil || last < first {
		return span{}, fmt.Errorf("%q is no range of indexes", text)
	}
	return span{first, last}, nil
}

// normalize orders spans and joins those that overlap or touch. It may change spans.
func normalize(spans []span) indexes {
	slices.SortFunc(spans, func(a, b span) int { return a.first - b.first })
	var joined indexes
	for _, s := range spans {
		if n := len(joined); n > 0 && s.first <= joined[n-1].last+1 {
			joined[n-1].last = max(joined[n-1].last, s.last)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// with returns the set with more, in any order.
func (x indexes) with(more ...int) indexes {
	if len(more) == 0 {
		return x
	}
	spans := slices.Clone([]span(x))
	for _, i := range more {
		spans = append(spans, span{i, i})
	}
	return normalize(spans)
}

// union returns the set of what is in either.
func (x indexes) union(y indexes) indexes { return normalize(slices.Concat([]span(x), []span(y))) }

func (x indexes) has(i int) bool {
	at, found := slices.BinarySearchFunc(x, i, func(s span, i int) int { return s.first - i })
	return found || at > 0 && i <= x[at-1].last
}

// total is how many indexes there are.
func (x indexes) total() int {
	n := 0
	for _, s := range x {
		n += s.last - s.first + 1
	}
	return n
}

// overlap is how many indexes are in both.
func (x indexes) overlap(y indexes) int {
	n := 0
	for i, j := 0, 0; i < len(x) && j < len(y); {
		n += max(0, min(x[i].last, y[j].last)-max(x[i].first, y[j].first)+1)
		if x[i].last < y[j].last {
			i++
		} else {
			j++
		}
	}
	return n
}

// firstMissing returns the lowest indexes below completions that are not in the set,
// at most count.
func (x indexes) firstMissing(count, completions int) []int {
	missing := make([]int, 0, max(0, min(count, completions)))
	next := 0
	take := func(until int) {
		for ; next < min(until, completions) && len(missing) < count; next++ {
			missing = append(missing, next)
		}
	}
	for _, s := range x {
		take(s.first)
		next = max(next, s.last+1)
	}
	take(completions)
	return missing
}

// String is the form that status holds: two neighbours are a list, more are a range.
func (x indexes) String() string {
	var b strings.Builder
	for _, s := range x {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s.first))
		switch s.last {
		case s.first:
			continue
		case s.first + 1:
			b.WriteByte(',')
		default:
			b.WriteByte('-')
		}
		b.WriteString(strconv.Itoa(s.last))
	}
	return b.String()
}
