package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const sampleReport = `[{"SpecReports": [
 {"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"},
 {"ContainerHierarchyTexts": ["[sig-a] Things", "inner"], "LeafNodeType": "It", "LeafNodeText": "should work [Conformance]", "State": "passed", "RunTime": 2000000000},
 {"ContainerHierarchyTexts": ["[sig-a] Things"], "LeafNodeType": "It", "LeafNodeText": "should break [Conformance]", "State": "failed", "RunTime": 1, "Failure": {"Message": "it broke"}},
 {"ContainerHierarchyTexts": ["[sig-a] Things"], "LeafNodeType": "It", "LeafNodeText": "should hang [Conformance]", "State": "timedout", "RunTime": 1, "Failure": {"Message": "A spec timeout occurred"}},
 {"ContainerHierarchyTexts": ["[sig-a] Things"], "LeafNodeType": "It", "LeafNodeText": "was still at it [Conformance]", "State": "timedout", "RunTime": 1, "Failure": {"Message": "A suite timeout occurred"}},
 {"ContainerHierarchyTexts": ["[sig-b] Others"], "LeafNodeType": "It", "LeafNodeText": "should skip itself [Conformance]", "State": "skipped", "RunTime": 5, "Failure": {"Message": "one node"}},
 {"ContainerHierarchyTexts": ["[sig-b] Others"], "LeafNodeType": "It", "LeafNodeText": "is not in focus [Conformance]", "State": "skipped"},
 {"ContainerHierarchyTexts": ["[sig-b] Others"], "LeafNodeType": "It", "LeafNodeText": "was cut short [Conformance]", "State": "interrupted", "RunTime": 9},
 {"ContainerHierarchyTexts": ["[sig-b] Others"], "LeafNodeType": "It", "LeafNodeText": "is another kind of test", "State": "passed"},
 {"ContainerHierarchyTexts": ["[sig-b] Others"], "LeafNodeType": "It", "LeafNodeText": "is another kind, and did not run", "State": "skipped"},
 {"ContainerHierarchyTexts": ["[sig-network] Netpol"], "LeafNodeType": "It", "LeafNodeText": "is of another suite", "State": "skipped"}
]}]`

func TestReadReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, []byte(sampleReport), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readReport(file)
	if err != nil {
		t.Fatal(err)
	}
	const a, b = "[sig-a] Things", "[sig-b] Others"
	want := []result{
		{Name: a + " inner should work [Conformance]", Area: a, Outcome: passed, Took: 2 * time.Second},
		{Name: a + " should break [Conformance]", Area: a, Outcome: failed, Took: 1, Message: "it broke"},
		{Name: a + " should hang [Conformance]", Area: a, Outcome: failed, Took: 1, Message: "A spec timeout occurred"},
		{Name: a + " was still at it [Conformance]", Area: a, Outcome: notRun, Took: 1, Message: suiteTimeout},
		{Name: b + " should skip itself [Conformance]", Area: b, Outcome: declined, Took: 5, Message: "one node"},
		{Name: b + " is not in focus [Conformance]", Area: b, Outcome: notRun},
		{Name: b + " was cut short [Conformance]", Area: b, Outcome: notRun, Took: 9},
		{Name: b + " is another kind of test", Area: b, Outcome: passed},
		{Name: "[sig-network] Netpol is of another suite", Area: "[sig-network] Netpol", Outcome: notRun},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestReadReportTellsWhyNothingRan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	text := `[{"SpecReports": [{"LeafNodeType": "SynchronizedBeforeSuite", "State": "failed", "Failure": {"Message": "no nodes"}},
		{"LeafNodeType": "SynchronizedBeforeSuite", "State": "failed", "Failure": {"Message": "It failed on Ginkgo parallel process #1"}}]}]`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readReport(file); err == nil || err.Error() != "SynchronizedBeforeSuite failed: no nodes" {
		t.Errorf("error is %v", err)
	}
}

func TestMergeKeepsTheLastTimeThatATestRan(t *testing.T) {
	run := func(outcome string) []result { return []result{{Name: "t", Outcome: outcome}} }
	tests := map[string]struct {
		runs [][]result
		want string
	}{
		"failed, then passed":  {runs: [][]result{run(failed), run(passed)}, want: passed},
		"passed, then failed":  {runs: [][]result{run(passed), run(failed)}, want: failed},
		"passed, then not run": {runs: [][]result{run(passed), run(notRun)}, want: passed},
		"not run, then passed": {runs: [][]result{run(notRun), run(passed)}, want: passed},
		"never run":            {runs: [][]result{run(notRun), run(notRun)}, want: notRun},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := merge(tc.runs...); len(got) != 1 || got[0].Outcome != tc.want {
				t.Errorf("merged to %v, want %s", got, tc.want)
			}
		})
	}
}

func TestFocusOnMatchesTheNamedTestsOnly(t *testing.T) {
	pattern := regexp.MustCompile(focusOn([]string{"[sig-a] works (really)", "[sig-b] does"}))
	for text, want := range map[string]bool{
		"Kubernetes e2e suite [sig-a] works (really)": true,
		"Kubernetes e2e suite [sig-b] does":           true,
		"Kubernetes e2e suite [sig-b] does more":      false,
		"Kubernetes e2e suite s works really":         false,
	} {
		if got := pattern.MatchString(text); got != want {
			t.Errorf("%q: matches %v, want %v", text, got, want)
		}
	}
}

func TestPartsAreTellingGinkgoWhatToRun(t *testing.T) {
	s := suite{programs: "/programs", kubectl: "/kubectl", kubeconfig: "/config", reports: "/reports"}
	tests := map[string]struct {
		options runOptions
		nodes   int
		want    [][]string // what each part's arguments must hold
	}{
		"everything": {
			options: runOptions{which: "parallel,serial", processes: 7, timeout: time.Hour},
			want: [][]string{
				{"--procs=7", "--timeout=1h0m0s", "--label-filter=!Serial", "--json-report=parallel.json", "--kubeconfig=/config"},
				{"--procs=1", "--label-filter=Serial", "--json-report=serial.json"},
			},
		},
		"some, without those that must be alone": {
			options: runOptions{which: "parallel", focus: "a|b", skip: "c"},
			want:    [][]string{{"--focus=a|b", "--skip=c"}},
		},
		"tests of another label": {
			options: runOptions{which: "parallel", labels: "Feature:NetworkPolicy || Slow"},
			want:    [][]string{{"--label-filter=(Feature:NetworkPolicy || Slow) && !Serial"}},
		},
		"several nodes": {
			options: runOptions{which: "serial"}, nodes: 3, want: [][]string{{"--num-nodes=3"}},
		},
		"no part of that name": {options: runOptions{which: "all"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			parts := tc.options.parts()
			if len(parts) != len(tc.want) {
				t.Fatalf("%d parts, want %d", len(parts), len(tc.want))
			}
			for i, part := range parts {
				s.nodes = tc.nodes
				args := s.arguments(part)
				for _, want := range tc.want[i] {
					if !slices.Contains(args, want) {
						t.Errorf("part %s lacks %s: %q", part.name, want, args)
					}
				}
			}
		})
	}
}

func TestJudge(t *testing.T) {
	results := []result{{Name: "good", Outcome: passed}, {Name: "bad", Outcome: failed, Message: "broke"}, {Name: "cut", Outcome: notRun}}
	tests := map[string]struct {
		names []string
		code  int
		says  string
	}{
		"all passed":              {names: []string{"good"}, code: 0, says: "1 of 1 passed"},
		"one failed":              {names: []string{"good", "bad"}, code: 1, says: `failed: bad: "broke"`},
		"one was not got to":      {names: []string{"cut"}, code: 1, says: "not run: cut"},
		"one is no test any more": {names: []string{"gone"}, code: 1, says: "unknown: gone"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if code := judge(&out, tc.names, results); code != tc.code || !strings.Contains(out.String(), tc.says) {
				t.Errorf("code %d, want %d; says %q, want %q in it", code, tc.code, out.String(), tc.says)
			}
		})
	}
}

func TestReasonOf(t *testing.T) {
	tests := map[string]struct{ message, want string }{
		"the first line": {message: "\n  timed out\nand more", want: `"timed out"`},
		"a matcher":      {message: "Expected\n    <int>: 2\nto equal\n    <int>: 1", want: `"Expected <int>: 2 to equal <int>: 1"`},
		"a label first":  {message: "stderr:\nno such thing", want: `"stderr: no such thing"`},
		"a refusal of another's": {
			message: "Told to stop:\n{\n s: pods \"pod-12345\" is forbidden: no such account\n}",
			want:    `"is forbidden: no such account"`,
		},
		"refused fields": {
			message: `Pod "a" is invalid: [spec.volumes[0].projected.sources[12].podCertificate: Forbidden: not supported by Keelson yet: no, ` +
				`spec.containers[0].volumeMounts: Forbidden: not supported by Keelson yet: no, ` +
				`spec.initContainers[1].securityContext.runAsUser: Forbidden: not supported by Keelson yet: no]`,
			want: refusedFields + "securityContext.runAsUser, volumes.projected.sources.podCertificate",
		},
		"a refused field of a template": {
			message: `ReplicationController "a" is invalid: [spec.template.spec.containers[0].resources.limits[example.com/x]: Forbidden: not supported by Keelson yet: no]`,
			want:    refusedFields + "resources.limits",
		},
		"what changes from run to run": {
			message: "pod projected-4711 (uid 0b5e7c2e-1111-2222-3333-444455556666) at 10.244.0.7:80 after 300.1s",
			want:    `"pod projected-<n> (uid <uid>) at <address> after <seconds>"`,
		},
		"a generated name": {message: "no resize-test-4tvbw and no pod-state", want: `"no resize-test-<random> and no pod-state"`},
		"quotes":           {message: `got "a"`, want: `"got 'a'"`},
		"no words":         {message: "", want: `""`},
		"very long":        {message: strings.Repeat("ä", 500), want: `"` + strings.Repeat("ä", reasonLength) + `…"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := reasonOf(tc.message); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if !isAutomatic(tc.want) {
				t.Errorf("%s counts as a person's reason", tc.want)
			}
		})
	}
}

func TestReasonsThatAreNoLongerTrueAreReplaced(t *testing.T) {
	l := lists{passing: map[string]bool{}, slow: map[string]bool{}, notApplicable: map[string]string{}, failing: map[string]string{
		"once":     "Deployments have no controller.",
		"a person": "Needs a clock that runs backwards.",
	}}
	after, _ := l.record([]result{
		{Name: "once", Outcome: failed, Message: "no pods"},
		{Name: "a person", Outcome: failed, Message: "timed out"},
	}, false)
	want := map[string]string{"once": `"no pods"`, "a person": "Needs a clock that runs backwards."}
	if diff := cmp.Diff(want, after.failing); diff != "" {
		t.Errorf("failing (-want +got):\n%s", diff)
	}
}
