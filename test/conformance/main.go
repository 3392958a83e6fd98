// Command conformance runs the conformance tests of Kubernetes against a cluster that
// `keelson up` starts on a throw-away machine (test/env/machine), and keeps the lists of
// those that pass, fail and cannot apply.
//
//	go run ./test/conformance images          assemble the images (after hack/build-conformance.sh)
//	go run ./test/conformance run             run all tests, or those of --focus
//	go run ./test/conformance check           run a sample of the passing ones; fail when one fails
//	go run ./test/conformance with COMMAND    run a command beside such a cluster, to look into a failure
//	go run ./test/conformance record REPORTS  move the lists after a run
//	go run ./test/conformance document        write docs/conformance.md
//
// It never looks at the name of a test but to choose which ones run and to report. Runs
// need root and leave nothing but reports in bin/conformance/reports; one that was
// killed leaves a temporary folder as well.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
)

func main() {
	os.Exit(dispatch(os.Args[1:]))
}

// command is one of the program's verbs; it returns the exit code.
type command func(ctx context.Context, args []string) (int, error)

func dispatch(args []string) int {
	commands := map[string]command{
		"images": images, "run": runAll, "check": check, "with": with, "record": record, "document": document,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go run ./test/conformance images|run|check|with|record|document [flags], from the module's folder")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := commands[args[0]](ctx, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 2
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	return code
}

// listsFolder is where the lists are, from the module's folder.
const listsFolder = "test/conformance"

// documentFile is the generated page, from the module's folder.
const documentFile = "docs/conformance.md"

func folders() (root string, p parts, err error) {
	root, err = os.Getwd()
	if err != nil {
		return "", parts{}, err
	}
	if _, err := os.Stat(filepath.Join(root, listsFolder)); err != nil {
		return "", parts{}, fmt.Errorf("%w: run this from the module's folder", err)
	}
	p = parts{bin: filepath.Join(root, "bin"), controlPlane: envcluster.AssetsDir(root)}
	// Ginkgo counts its way between folders by their names: no link may be among them.
	if p.conformance, err = filepath.EvalSymlinks(filepath.Join(p.bin, "conformance")); err != nil {
		return "", parts{}, fmt.Errorf("%w: run `make conformance-images` first", err)
	}
	return root, p, nil
}

func images(_ context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	_, p, err := folders()
	if err != nil {
		return 1, err
	}
	if err := assembleImages(p); err != nil {
		return 1, err
	}
	fmt.Println("The images are in", imagesFolder(p.conformance))
	return 0, nil
}

func record(_ context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("record", flag.ContinueOnError)
	lower := flags.Bool("lower", false, "also move tests from the passing ones to the failing ones")
	name := flags.String("suite", conformanceSuite, "whose lists: conformance, netpol, network, loadbalancer or dualstack")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if flags.NArg() == 0 {
		return 2, errors.New("name the folder with the reports of a run, or several")
	}
	var runs [][]result
	for _, dir := range flags.Args() {
		results, err := readReports(dir)
		if err != nil {
			return 1, err
		}
		runs = append(runs, results)
	}
	s, err := suiteNamed(*name)
	if err != nil {
		return 2, err
	}
	l, err := loadLists(s.folder(listsFolder))
	if err != nil {
		return 1, err
	}
	after, lost := l.record(s.own(merge(runs...)), *lower)
	if err := errors.Join(s.makeFolder(listsFolder), after.save(s.folder(listsFolder))); err != nil {
		return 1, err
	}
	fmt.Printf("%d pass (%+d), %d fail, %d do not apply\n",
		len(after.passing), len(after.passing)-len(l.passing), len(after.failing), len(after.notApplicable))
	for _, r := range lost {
		fmt.Printf("passed before: %s: %s\n", r.Name, reasonOf(r.Message))
	}
	code, err := document(context.Background(), nil)
	if len(lost) > 0 && !*lower {
		code = 1
	}
	return code, err
}

func document(_ context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("document", flag.ContinueOnError)
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	all, err := loadSuites(listsFolder)
	if err != nil {
		return 1, err
	}
	version, err := suiteVersion(".")
	if err != nil {
		return 1, err
	}
	return 0, os.WriteFile(documentFile, []byte(writeDocument(all, version)), 0o644)
}
