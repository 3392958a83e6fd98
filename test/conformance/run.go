package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
	"github.com/keelson-dev/keelson/test/env/machine"
)

// conformanceLabel is the label of the tests that every cluster must pass.
const conformanceLabel = "Conformance"

// runOptions are the flags of run and check.
type runOptions struct {
	focus, skip string
	labels      string
	processes   int
	timeout     time.Duration
	which       string
	failing     bool
	kubeconfig  string
	reports     string
	suite       string
	nodes       int
	dualStack   bool
	outside     bool
}

func (o *runOptions) addFlags(flags *flag.FlagSet) {
	flags.IntVar(&o.processes, "procs", 10, "how many tests to run at once")
	flags.StringVar(&o.suite, "suite", conformanceSuite, "which of upstream's tests: conformance, netpol, network, loadbalancer or dualstack")
	flags.IntVar(&o.nodes, "nodes", 0, "how many nodes the cluster has; 1 is the machine itself; 0 is what the suite needs")
	flags.BoolVar(&o.dualStack, "dual-stack", false, "give nodes, Pods and Services addresses of both families")
	flags.BoolVar(&o.outside, "outside", false, "run the tests on a computer beside the nodes, with an address of another network, and not on the cluster's machine")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "kubeconfig", "which of the kubeconfigs in the cluster's data directory to use")
	flags.StringVar(&o.reports, "reports", "", "folder for reports and logs; by default a new one in bin/conformance/reports")
}

// runAll runs the conformance tests: first those that stand others beside them, then the rest.
func runAll(ctx context.Context, args []string) (int, error) {
	var o runOptions
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	o.addFlags(flags)
	flags.StringVar(&o.focus, "focus", "", "regular expression; run only tests whose name matches")
	flags.StringVar(&o.skip, "skip", "", "regular expression; leave out tests whose name matches")
	flags.StringVar(&o.labels, "labels", "", "filter of labels in Ginkgo's language: choose from these tests and not from the suite's")
	flags.DurationVar(&o.timeout, "timeout", 90*time.Minute, "end each of the two parts after this time")
	flags.StringVar(&o.which, "parts", "parallel,serial", "which tests to run: parallel, those that stand others beside them; serial, the rest; or both")
	flags.BoolVar(&o.failing, "failing", false, "run the tests that are listed as failing, and no others")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if o.failing {
		if o.focus != "" {
			return 2, errors.New("--failing and --focus: choose one of them")
		}
		if err := o.focusOnFailing(); err != nil {
			return 1, err
		}
	}
	s, err := o.choose()
	if err != nil {
		return 2, err
	}
	if len(o.parts()) == 0 {
		return 2, fmt.Errorf("--parts %q: name parallel, serial or both, with a comma between them", o.which)
	}
	for name, expression := range map[string]string{"focus": o.focus, "skip": o.skip} {
		if _, err := regexp.Compile(expression); err != nil {
			return 2, fmt.Errorf("--%s: %w", name, err)
		}
	}
	must, err := loadLists(s.folder(listsFolder))
	if err != nil {
		return 1, err
	}
	return onMachine(ctx, o, func(results []result) int {
		summarise(os.Stdout, results)
		return must.tellLost(os.Stdout, results)
	}, o.parts()...)
}

// focusOnFailing chooses the tests that are listed as failing.
func (o *runOptions) focusOnFailing() error {
	s, err := suiteNamed(o.suite)
	if err != nil {
		return err
	}
	l, err := loadLists(s.folder(listsFolder))
	if err != nil {
		return err
	}
	if len(l.failing) == 0 {
		return errors.New("--failing: no test is listed as failing")
	}
	o.focus = focusOn(slices.Sorted(maps.Keys(l.failing)))
	return nil
}

// tellLost names the tests that must pass, ran and did not; the exit code says whether
// there are any.
func (l lists) tellLost(w io.Writer, results []result) int {
	_, lost := l.record(results, false)
	for _, r := range lost {
		fmt.Fprintf(w, "\nmust pass and did not: %s\n", r.Name)
	}
	return min(1, len(lost))
}

// parts splits a run into the tests that stand others beside them, by Ginkgo's label,
// and the rest.
func (o runOptions) parts() []part {
	labels := ""
	if o.labels != "" {
		labels = "(" + o.labels + ") && "
	}
	list := []part{
		{name: "parallel", labels: labels + "!Serial", processes: o.processes},
		{name: "serial", labels: labels + "Serial", processes: 1},
	}
	chosen := strings.Split(o.which, ",")
	list = slices.DeleteFunc(list, func(p part) bool { return !slices.Contains(chosen, p.name) })
	for i := range list {
		list[i].focus, list[i].skip, list[i].timeout = o.focus, o.skip, o.timeout
	}
	return list
}

// check runs a sample of the tests that must pass.
func check(ctx context.Context, args []string) (int, error) {
	var o runOptions
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	o.addFlags(flags)
	seed := flags.String("seed", "", "what the choice of the sample depends on; the commit by default")
	size := flags.Int("count", 80, "how many tests to run; 0 runs all that must pass")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Minute, "end the run after this time")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	s, err := o.choose()
	if err != nil {
		return 2, err
	}
	l, err := loadLists(s.folder(listsFolder))
	if err != nil {
		return 1, err
	}
	names := slices.Sorted(maps.Keys(l.passing))
	if *size > 0 {
		if *seed == "" {
			if *seed, err = commit(); err != nil {
				return 1, err
			}
		}
		names = l.sample(*seed, *size)
	}
	if len(names) == 0 {
		return 1, fmt.Errorf("%s names no test", filepath.Join(s.folder(listsFolder), passingFile))
	}
	sample := part{name: "check", focus: focusOn(names), processes: o.processes, timeout: o.timeout}
	return onMachine(ctx, o, func(results []result) int { return judge(os.Stdout, names, results) }, sample)
}

// commit is the checked out one.
func commit() (string, error) {
	out, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("ask git for the commit, which chooses the sample (--seed does otherwise): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// judge tells which of the named tests did not pass.
func judge(w io.Writer, names []string, results []result) int {
	outcomes := map[string]result{}
	for _, r := range results {
		outcomes[r.Name] = r
	}
	bad := 0
	for _, name := range names {
		r, known := outcomes[name]
		switch {
		case !known:
			bad++
			fmt.Fprintf(w, "unknown: %s: the suite has no such test; correct %s\n", name, passingFile)
		case r.Outcome != passed:
			bad++
			fmt.Fprintf(w, "%s: %s: %s\n", r.Outcome, name, reasonOf(r.Message))
		}
	}
	fmt.Fprintf(w, "%d of %d passed\n", len(names)-bad, len(names))
	if bad > 0 {
		return 1
	}
	return 0
}

// onMachine runs parts against a new cluster on a machine of its own and gives what
// they came to to tell.
func onMachine(ctx context.Context, o runOptions, tell func([]result) int, list ...part) (int, error) {
	root, p, err := folders()
	if err != nil {
		return 1, err
	}
	if o.reports == "" {
		// Told to the program's next stages by the environment: they parse the same flags.
		o.reports = os.Getenv(reportsVariable)
	}
	if o.reports == "" {
		o.reports = filepath.Join(p.conformance, "reports", time.Now().Format("20060102-150405"))
		if err := os.Setenv(reportsVariable, o.reports); err != nil {
			return 1, err
		}
	}
	if o.reports, err = filepath.Abs(o.reports); err != nil {
		return 1, err
	}
	code := machine.Main(func() int {
		results, err := runParts(ctx, o, root, p, list)
		if err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
			tell(results)
			return 1
		}
		return tell(results)
	})
	return code, nil
}

// with runs a command beside a cluster, which KUBECONFIG names for it. PATH begins with
// the suite's programs and kubectl.
func with(ctx context.Context, args []string) (int, error) {
	var o runOptions
	flags := flag.NewFlagSet("with", flag.ContinueOnError)
	o.addFlags(flags)
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if flags.NArg() == 0 {
		return 2, errors.New("name the command to run")
	}
	if _, err := o.choose(); err != nil {
		return 2, err
	}
	root, p, err := folders()
	if err != nil {
		return 1, err
	}
	return machine.Main(func() int {
		cluster, err := startTarget(ctx, p, root, o)
		if err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
			return 1
		}
		defer cluster.Close()
		cmd := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(cluster.DataDir, o.kubeconfig), "DATA_DIR="+cluster.DataDir,
			"PATH="+strings.Join([]string{p.conformance, filepath.Dir(cluster.KubectlPath), os.Getenv("PATH")}, ":"))
		if err := errors.Join(cmd.Run(), cluster.Down()); err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
			return 1
		}
		return 0
	}), nil
}

// reportsVariable keeps the folder of reports the same on the throw-away machine.
const reportsVariable = "KEELSON_CONFORMANCE_REPORTS"

func runParts(ctx context.Context, o runOptions, root string, p parts, list []part) (results []result, err error) {
	if err := os.MkdirAll(o.reports, 0o755); err != nil {
		return nil, err
	}
	if o.reports, err = filepath.EvalSymlinks(o.reports); err != nil {
		return nil, err
	}
	cluster, err := startTarget(ctx, p, root, o)
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	s := suite{
		programs: p.conformance, kubectl: cluster.KubectlPath,
		kubeconfig: filepath.Join(cluster.DataDir, o.kubeconfig), reports: o.reports, nodes: o.nodes,
	}
	if o.outside {
		client, err := newClient(ctx, cluster)
		if err != nil {
			return nil, errors.Join(err, cluster.Down())
		}
		defer func() { err = errors.Join(err, client.Close()) }()
		s.start = client.Start
	}
	fmt.Println("Reports and logs:", o.reports)
	var runs [][]result
	for _, part := range list {
		start := time.Now()
		results, partErr := s.run(ctx, part)
		err = errors.Join(err, partErr)
		runs = append(runs, results)
		fmt.Printf("Part %s took %s: %v\n", part.name, time.Since(start).Round(time.Second), count(results))
	}
	return merge(runs...), errors.Join(err, keepLogs(cluster, o.reports), cluster.Down())
}

// keepLogs copies the logs of the cluster's components to the reports.
func keepLogs(cluster *envcluster.Cluster, reports string) error {
	return os.CopyFS(filepath.Join(reports, "cluster-logs"), os.DirFS(filepath.Join(cluster.DataDir, "logs")))
}

// readReports reads all reports of a run.
func readReports(dir string) ([]result, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no reports (*.json) in %s", dir)
	}
	var runs [][]result
	for _, file := range files {
		results, err := readReport(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
		}
		runs = append(runs, results)
	}
	return merge(runs...), nil
}

// summarise prints counts by area and what failed, by reason.
func summarise(w io.Writer, results []result) {
	areas := map[string]map[string]int{}
	reasons := map[string][]string{}
	for _, r := range results {
		if areas[r.Area] == nil {
			areas[r.Area] = map[string]int{}
		}
		areas[r.Area][r.Outcome]++
		if r.Outcome == failed || r.Outcome == declined {
			reason := reasonOf(r.Message)
			reasons[reason] = append(reasons[reason], r.Name)
		}
	}
	fmt.Fprintf(w, "%-7s %-7s %-8s %-8s\n", passed, failed, declined, notRun)
	for _, area := range slices.Sorted(maps.Keys(areas)) {
		c := areas[area]
		if c[passed]+c[failed]+c[declined] > 0 {
			fmt.Fprintf(w, "%-7d %-7d %-8d %-8d %s\n", c[passed], c[failed], c[declined], c[notRun], area)
		}
	}
	order := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(reasons[b]), len(reasons[a])), cmp.Compare(a, b))
	})
	for _, reason := range order {
		fmt.Fprintf(w, "\n%d × %s\n", len(reasons[reason]), reason)
		for _, name := range reasons[reason] {
			fmt.Fprintf(w, "    %s\n", name)
		}
	}
}
