package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Outcomes of a test.
const (
	passed = "passed"
	failed = "failed"
	// declined is a test that looked at the cluster and left itself out.
	declined = "declined"
	// notRun is a test that the run did not get to, or was not asked to.
	notRun = "not run"
)

// result is what one test came to.
type result struct {
	Name string `json:"name"`
	// Area is the outermost group of tests that it belongs to.
	Area    string        `json:"area"`
	Outcome string        `json:"outcome"`
	Took    time.Duration `json:"took"`
	// Message says why it failed or declined.
	Message string `json:"message,omitempty"`
}

// ginkgoReport is the part of Ginkgo's JSON report that is read here (types.Report there).
type ginkgoReport struct {
	SpecReports []struct {
		ContainerHierarchyTexts []string
		LeafNodeType            string
		LeafNodeText            string
		State                   string
		RunTime                 time.Duration
		Failure                 struct{ Message string }
	}
}

// echoed is in the failures of processes whose fault lies in another one.
const echoed = "failed on Ginkgo parallel process"

// readReport reads a JSON report: the tests in it that the cluster is asked to pass, and
// the failures of what surrounds them. Of other tests only those that ran are results.
func readReport(file string) (tests []result, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var reported []ginkgoReport
	if err := json.Unmarshal(text, &reported); err != nil {
		return nil, fmt.Errorf("read report %s: %w", file, err)
	}
	var faults []error
	for _, suite := range reported {
		for _, spec := range suite.SpecReports {
			if spec.LeafNodeType != "It" {
				if (spec.State == failed || spec.State == "panicked") && !strings.Contains(spec.Failure.Message, echoed) {
					faults = append(faults, fmt.Errorf("%s failed: %s", spec.LeafNodeType, spec.Failure.Message))
				}
				continue
			}
			name := strings.Join(slices.Concat(spec.ContainerHierarchyTexts, []string{spec.LeafNodeText}), " ")
			r := result{
				Name: name, Area: slices.Concat(spec.ContainerHierarchyTexts, []string{""})[0],
				Outcome: outcomeOf(spec.State, spec.Failure.Message, spec.RunTime), Took: spec.RunTime, Message: spec.Failure.Message,
			}
			if r.Outcome != notRun || slices.ContainsFunc(suites(), func(s testSuite) bool { return s.belongs(name) }) {
				tests = append(tests, r)
			}
		}
	}
	return tests, errors.Join(faults...)
}

// suiteTimeout is Ginkgo's message for a test that was cut when the suite's time was up.
const suiteTimeout = "A suite timeout occurred"

// outcomeOf translates Ginkgo's states. A test that skips itself has run for a while.
func outcomeOf(state, message string, took time.Duration) string {
	switch state {
	case "passed":
		return passed
	case "failed", "panicked", "aborted":
		return failed
	case "timedout":
		if message != suiteTimeout {
			return failed
		}
	case "skipped":
		if took > 0 {
			return declined
		}
	}
	return notRun // also those that were interrupted
}

// merge joins the results of several runs: of one test, the last time that it ran.
func merge(runs ...[]result) []result {
	byName := map[string]result{}
	for _, run := range runs {
		for _, r := range run {
			if before, seen := byName[r.Name]; !seen || r.Outcome != notRun || before.Outcome == notRun {
				byName[r.Name] = r
			}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b result) int { return strings.Compare(a.Name, b.Name) })
}

func count(results []result) map[string]int {
	counts := map[string]int{}
	for _, r := range results {
		counts[r.Outcome]++
	}
	return counts
}
