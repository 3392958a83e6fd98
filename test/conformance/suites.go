package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// testSuite is a group of upstream's tests that is run, listed and held for itself.
type testSuite struct {
	name string
	// title and about head its section of the page.
	title, about string
	// labels is the filter in Ginkgo's language that chooses its tests, empty for all.
	labels string
	// focus matches the names of its tests and skip those that are not, of the chosen;
	// nil matches everything and nothing.
	focus, skip *regexp.Regexp
	// nodes is how many nodes its cluster has, dualStack whether addresses of both families.
	nodes     int
	dualStack bool
	// outside says that its tests run on a computer that is not the cluster's.
	outside bool
}

// conformanceSuite is the suite without another's name.
const conformanceSuite = "conformance"

// conformanceTests are the tests that every cluster must pass.
func conformanceTests() testSuite {
	return testSuite{name: conformanceSuite, labels: conformanceLabel, focus: regexp.MustCompile(`\[Conformance\]`), nodes: 1}
}

// suites are all, in the order of the page.
func suites() []testSuite {
	return []testSuite{
		conformanceTests(),
		{
			name: "netpol", title: "Network policies",
			about: "Upstream's tests of NetworkPolicies, on three nodes.",
			focus: regexp.MustCompile(`^\[sig-network\] Netpol`), nodes: 3,
		},
		{
			name: "network", title: "Services, addresses and names",
			about: "What upstream's `sig-network` tests beside conformance and network policies, on three nodes.",
			focus: regexp.MustCompile(`^\[sig-network\]`),
			skip:  regexp.MustCompile(`\[Conformance\]|^\[sig-network\] Netpol|^\[sig-network\] LoadBalancers|\[Feature:IPv6DualStack\]`),
			nodes: 3,
		},
		{
			name: "loadbalancer", title: "Load balancers",
			about: "Upstream's tests of Services of type LoadBalancer, on three nodes. They run on a computer that is " +
				"beside the nodes, knows nothing of the cluster and has an address of another network.",
			focus: regexp.MustCompile(`^\[sig-network\] LoadBalancers`), nodes: 3, outside: true,
		},
		{
			name: "dualstack", title: "Two families",
			about: "Upstream's tests of IPv4 and IPv6 side by side, on three nodes that have addresses of both.",
			focus: regexp.MustCompile(`\[Feature:IPv6DualStack\]`), nodes: 3, dualStack: true,
		},
	}
}

// suiteNamed finds a suite by the name that the flag gives.
func suiteNamed(name string) (testSuite, error) {
	var names []string
	for _, s := range suites() {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return testSuite{}, fmt.Errorf("--suite: there is no %q, but %s", name, strings.Join(names, ", "))
}

// belongs says whether a test is one of the suite, by its name.
func (s testSuite) belongs(name string) bool {
	return (s.focus == nil || s.focus.MatchString(name)) && (s.skip == nil || !s.skip.MatchString(name))
}

// folder is where its lists are, from the folder of lists.
func (s testSuite) folder(lists string) string {
	if s.name == conformanceSuite {
		return lists
	}
	return filepath.Join(lists, s.name)
}

// own are the results of the suite's tests.
func (s testSuite) own(results []result) []result {
	return slices.DeleteFunc(slices.Clone(results), func(r result) bool { return !s.belongs(r.Name) })
}

// loadSuites reads the lists of all suites.
func loadSuites(dir string) (map[string]lists, error) {
	all := map[string]lists{}
	var errs []error
	for _, s := range suites() {
		l, err := loadLists(s.folder(dir))
		all[s.name], errs = l, append(errs, err)
	}
	return all, errors.Join(errs...)
}

// choose completes the flags of a run by what its suite says where they say nothing.
func (o *runOptions) choose() (testSuite, error) {
	s, err := suiteNamed(o.suite)
	if err != nil {
		return s, err
	}
	if o.nodes == 0 {
		o.nodes = s.nodes
	}
	o.dualStack = o.dualStack || s.dualStack
	o.outside = o.outside || s.outside
	if o.dualStack && o.nodes == 1 {
		return s, errors.New("--dual-stack: takes several nodes: give --nodes")
	}
	if o.outside && o.nodes == 1 {
		return s, errors.New("--outside: takes several nodes: give --nodes")
	}
	if o.labels != "" {
		return s, nil // another choice than the suite's
	}
	o.labels = s.labels
	if s.labels != "" {
		return s, nil
	}
	l, err := loadLists(s.folder(listsFolder))
	if err != nil {
		return s, err
	}
	if o.focus == "" {
		// Ginkgo's pattern cannot begin where the name does: the suite's name is in front.
		o.focus = strings.TrimPrefix(s.focus.String(), "^")
	}
	skip := []string{o.skip}
	if s.skip != nil {
		skip = append(skip, strings.ReplaceAll(s.skip.String(), "^", ""))
	}
	if !o.failing && len(l.notApplicable) > 0 {
		skip = append(skip, focusOn(slices.Sorted(maps.Keys(l.notApplicable))))
	}
	o.skip = strings.Join(slices.DeleteFunc(skip, func(s string) bool { return s == "" }), "|")
	return s, nil
}

// makeFolder makes the folder of a suite's lists.
func (s testSuite) makeFolder(lists string) error { return os.MkdirAll(s.folder(lists), 0o755) }
