package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// writeDocument is docs/conformance.md, rendered from the lists of all suites by name.
func writeDocument(all map[string]lists, version string) string {
	var b strings.Builder
	fmt.Fprintf(&b, documentHead, version)
	l := all[conformanceSuite]
	l.writeCounts(&b)
	b.WriteString("\n## Failed\n\nA reason in quotes is what the test said.\n")
	writeReasons(&b, l.failing)
	b.WriteString("\n## Not applicable\n")
	writeReasons(&b, l.notApplicable)
	b.WriteString("\n## Passed\n\n")
	fmt.Fprintf(&b, "[passing.txt](../test/conformance/%s) lists them; CI fails when one of them does.\n", passingFile)
	for _, s := range suites()[1:] {
		all[s.name].writeSection(&b, s)
	}
	return b.String()
}

// writeSection is what the page says of a suite beside conformance.
func (l lists) writeSection(b *strings.Builder, s testSuite) {
	fmt.Fprintf(b, "\n## %s\n\n%s They are no conformance tests, and CI does not run them.\n\n    go run ./test/conformance run --suite %s\n\n", s.title, s.about, s.name)
	if len(l.passing)+len(l.failing)+len(l.notApplicable) == 0 {
		b.WriteString("They were not run yet.\n")
		return
	}
	waiting := 0
	for _, reason := range l.failing {
		if reason == notAttempted {
			waiting++
		}
	}
	fmt.Fprintf(b, "[%d pass](../test/conformance/%s/%s), %d fail, %d were not attempted, %d do not apply.\n",
		len(l.passing), s.name, passingFile, len(l.failing)-waiting, waiting, len(l.notApplicable))
	for _, list := range []struct {
		title   string
		reasons map[string]string
	}{{"Failed, or not attempted", l.failing}, {"Not applicable", l.notApplicable}} {
		if len(list.reasons) > 0 {
			fmt.Fprintf(b, "\n%s:\n", list.title)
			writeReasons(b, list.reasons)
		}
	}
}

const documentHead = `<!-- Written by "go run ./test/conformance document" from the lists in test/conformance. -->
# Conformance

The conformance tests of Kubernetes %s, run unmodified through the gateway on a cluster of one
node that ` + "`keelson up`" + ` starts. The node has no way out: a connection to an address where nobody
is fails, so that no test passes by accident. Nothing in Keelson knows the tests.

    make conformance-images                                build the suite and its images (once, as root)
    make conformance                                       run all tests (as root)
    go run ./test/conformance run --focus 'sig-auth'       run some
    go run ./test/conformance run --suite netpol           run others of upstream's tests
    go run ./test/conformance check                        run a sample of those that must pass
    go run ./test/conformance record DIR                   move the lists after a run, from its reports
    go run ./test/conformance document                     write this page again

`

// area is a test's special interest group, the first tag of its name.
var areaPattern = regexp.MustCompile(`^\[(sig-[^\]]+)\]`)

func areaOf(name string) string {
	if m := areaPattern.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return "other"
}

func (l lists) writeCounts(b *strings.Builder) {
	type row struct{ passed, failed, notAttempted, notApplicable int }
	rows := map[string]*row{}
	var total row
	at := func(name string) *row {
		area := areaOf(name)
		if rows[area] == nil {
			rows[area] = &row{}
		}
		return rows[area]
	}
	for name := range l.passing {
		at(name).passed++
		total.passed++
	}
	for name, reason := range l.failing {
		if reason == notAttempted {
			at(name).notAttempted++
			total.notAttempted++
			continue
		}
		at(name).failed++
		total.failed++
	}
	for name := range l.notApplicable {
		at(name).notApplicable++
		total.notApplicable++
	}
	b.WriteString("| area | passed | failed | not attempted | not applicable |\n|---|---:|---:|---:|---:|\n")
	for _, area := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d |\n", area, rows[area].passed, rows[area].failed, rows[area].notAttempted, rows[area].notApplicable)
	}
	fmt.Fprintf(b, "| **all** | **%d** | **%d** | **%d** | **%d** |\n", total.passed, total.failed, total.notAttempted, total.notApplicable)
}

// writeReasons groups names by reason, the most frequent reason first.
func writeReasons(b *strings.Builder, list map[string]string) {
	byReason := map[string][]string{}
	for name, reason := range list {
		byReason[reason] = append(byReason[reason], name)
	}
	reasons := slices.SortedFunc(maps.Keys(byReason), func(a, c string) int {
		return cmp.Or(cmp.Compare(len(byReason[c]), len(byReason[a])), cmp.Compare(a, c))
	})
	for _, reason := range reasons {
		fmt.Fprintf(b, "\n### %s (%d)\n\n", escape(reason), len(byReason[reason]))
		for _, name := range slices.Sorted(slices.Values(byReason[reason])) {
			fmt.Fprintf(b, "- `%s`\n", strings.ReplaceAll(name, "`", "'"))
		}
	}
}

// escape keeps Markdown from reading markup into a message.
func escape(text string) string {
	return strings.NewReplacer("<", "&lt;", "*", `\*`, "_", `\_`, "`", "'", "|", `\|`, "[", `\[`).Replace(text)
}

var requirement = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\S+)`)

// suiteVersion is the version of Kubernetes that the suite is built from.
func suiteVersion(root string) (string, error) {
	file := filepath.Join(root, "hack/tools/conformance/go.mod")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if m := requirement.FindSubmatch(text); m != nil {
		return string(m[1]), nil
	}
	return "", fmt.Errorf("%s does not require k8s.io/kubernetes", file)
}
