package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// suite runs upstream's test program against one cluster.
type suite struct {
	// programs holds ginkgo and e2e.test.
	programs string
	kubectl  string
	// kubeconfig says which cluster, and with whose rights.
	kubeconfig string
	// reports is the folder for reports and logs.
	reports string
	// nodes is how many the cluster has. Some tests ask the suite and not the cluster.
	nodes int
	// start starts a program where the tests are to run; nil starts it here.
	start func(*exec.Cmd) error
}

// part is one invocation of the suite.
type part struct {
	name string
	// labels is a filter in Ginkgo's language, focus and skip are regular expressions
	// on names; empty ones choose all.
	labels, focus, skip string
	processes           int
	timeout             time.Duration
}

// names of tests hold spaces, brackets and quotes: focusOn turns them into a pattern
// that matches them and no other. Ginkgo puts the suite's name in front.
func focusOn(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	return "(" + strings.Join(quoted, "|") + ")$"
}

// run executes a part and returns its results; failed tests are results, not errors.
func (s suite) run(ctx context.Context, p part) ([]result, error) {
	report := filepath.Join(s.reports, p.name+".json")
	log, err := os.Create(filepath.Join(s.reports, p.name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, filepath.Join(s.programs, "ginkgo"), s.arguments(p)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = s.reports // tests leave files
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	start := cmd.Start
	if s.start != nil {
		start = func() error { return s.start(cmd) }
	}
	runErr := start()
	if runErr == nil {
		runErr = cmd.Wait()
	}
	// An interrupted run has its report, too.
	if _, failed := errors.AsType[*exec.ExitError](runErr); runErr != nil && !failed && ctx.Err() == nil {
		return nil, fmt.Errorf("run ginkgo: %w", runErr)
	}
	results, err := readReport(report)
	if err != nil {
		return results, fmt.Errorf("part %s (log: %s): %w", p.name, log.Name(), errors.Join(err, runErr))
	}
	return results, ctx.Err()
}

func (s suite) arguments(p part) []string {
	args := []string{
		"--procs=" + strconv.Itoa(p.processes), "--no-color", "--timeout=" + p.timeout.String(), "--poll-progress-after=0",
		"--json-report=" + p.name + ".json", "--output-dir=" + s.reports,
	}
	for _, choice := range []struct{ flag, value string }{{"label-filter", p.labels}, {"focus", p.focus}, {"skip", p.skip}} {
		if choice.value != "" {
			args = append(args, "--"+choice.flag+"="+choice.value)
		}
	}
	args = append(args, filepath.Join(s.programs, "e2e.test"), "--")
	if s.nodes > 1 {
		args = append(args, "--num-nodes="+strconv.Itoa(s.nodes))
	}
	return append(args,
		"--provider=skeleton", "--kubeconfig="+s.kubeconfig, "--kubectl-path="+s.kubectl,
		"--allowed-not-ready-nodes=-1", "--node-schedulable-timeout=1m", "--system-pods-startup-timeout=1m",
		"--report-dir="+filepath.Join(s.reports, p.name+".d"), "--e2e-output-dir="+filepath.Join(s.reports, p.name+".d"))
}
