// Command scheduling measures how fast Pods get a Node: ours by keelson-manager and, in
// the same run, stock ones by kube-scheduler, each on a fresh API server with Nodes that
// are objects only.
//
//	go run ./test/bench/scheduling --nodes 1000,5000 --pods 10000
//
// The Pods exist before the scheduler starts; a side's time is from the first binding to
// the last. kube-scheduler runs with its defaults, except that its client's own throttle
// (50 requests a second) is off, as ours is. The figures are for reading beside each
// other on an otherwise quiet computer; the load is printed with them, and the CPU time
// that each program took for one Pod (the start of the scheduler included), which depends
// less on what else runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson-dev/keelson/test/bench/internal/program"
)

type options struct {
	nodes   []int
	pods    int
	shape   string
	sides   []string
	folder  string
	timeout time.Duration
	// profiles is the folder for CPU profiles of the API servers; empty means none.
	profiles string
}

func main() {
	program.Main("scheduling", func(ctx context.Context) error {
		o, err := parse()
		if err != nil {
			return err
		}
		return run(ctx, o)
	})
}

func parse() (options, error) {
	var o options
	nodes := flag.String("nodes", "1000,5000", "numbers of Nodes to measure with, separated by commas")
	flag.IntVar(&o.pods, "pods", 10000, "how many Pods to place")
	flag.StringVar(&o.shape, "shape", shapePlain, "what the Pods ask for: "+strings.Join(shapes(), ", "))
	sides := flag.String("sides", "keelson,stock", "whom to measure")
	flag.StringVar(&o.folder, "bin", "bin", "folder with keelson-manager, k8s/ and stock/ (`make build k8s stock`)")
	flag.StringVar(&o.profiles, "profiles", "", "write a CPU profile of each API server, from the start of the scheduler on, into this folder")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "end one measurement after this time")
	flag.Parse()
	for _, text := range strings.Split(*nodes, ",") {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 {
			return o, fmt.Errorf("--nodes: %q is no number of Nodes", text)
		}
		o.nodes = append(o.nodes, count)
		if o.pods < 1 || o.pods > count*podsPerNode {
			return o, fmt.Errorf("--pods: %d do not fit on %d Nodes of %d each", o.pods, count, podsPerNode)
		}
	}
	if !isShape(o.shape) {
		return o, fmt.Errorf("--shape: %q is none of %s", o.shape, strings.Join(shapes(), ", "))
	}
	o.sides = strings.Split(*sides, ",")
	for _, name := range o.sides {
		if name != "keelson" && name != "stock" {
			return o, fmt.Errorf("--sides: %q is neither keelson nor stock", name)
		}
	}
	return o, nil
}

// result is one side's measurement.
type result struct {
	seconds float64
	rate    float64
	// cpu is what each program computed between the start of the scheduler and the last
	// binding, in milliseconds for one Pod.
	cpu map[string]float64
	// requests are what the API server was asked for one Pod.
	requests string
}

func (r result) cpuText() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.cpu)) {
		parts = append(parts, fmt.Sprintf("%s %.2f", name, r.cpu[name]))
	}
	return strings.Join(parts, ", ")
}

func run(ctx context.Context, o options) error {
	fmt.Printf("%d Pods (%s), load average at the start %s\n", o.pods, o.shape, program.Load())
	fmt.Printf("%8s %10s %12s %14s %6s %s\n", "nodes", "side", "seconds", "Pods/second", "load", "CPU ms/Pod")
	for _, nodes := range o.nodes {
		rates := map[string]float64{}
		for _, name := range o.sides {
			r, err := measure(ctx, o, name, nodes)
			if err != nil {
				return fmt.Errorf("%s with %d Nodes: %w", name, nodes, err)
			}
			rates[name] = r.rate
			fmt.Printf("%8d %10s %12.1f %14.1f %6s %s; requests per Pod: %s\n", nodes, name, r.seconds, r.rate, program.Load(), r.cpuText(), r.requests)
		}
		if rates["stock"] > 0 && rates["keelson"] > 0 {
			fmt.Printf("%8d      ratio %.2f\n", nodes, rates["keelson"]/rates["stock"])
		}
	}
	return nil
}

// measure runs one side from an empty API server to the last binding.
func measure(ctx context.Context, o options, name string, nodes int) (r result, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "keelson-scheduling-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := newSide(name, o.folder, dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.fill(ctx, nodes, o.pods, o.shape); err != nil {
		return r, err
	}
	bound, err := s.watchBindings(ctx, o.pods)
	if err != nil {
		return r, err
	}
	return s.place(ctx, o, nodes, bound)
}

// place starts the scheduler and waits for the last binding.
func (s *side) place(ctx context.Context, o options, nodes int, bound <-chan bindings) (r result, err error) {
	asked, err := s.readRequests(ctx)
	if err != nil {
		return r, err
	}
	profiled, err := s.profiling(ctx, o.profiles, nodes)
	if err != nil {
		return r, err
	}
	before, err := readCPU()
	if err != nil {
		return r, err
	}
	if err := s.startScheduler(filepath.Join(s.dir, "scheduler.log")); err != nil {
		return r, err
	}
	select {
	case seen := <-bound:
		if seen.err != nil {
			return r, errors.Join(seen.err, s.program.LogTail())
		}
		after, err := readCPU()
		if err != nil {
			return r, err
		}
		answered, err := s.readRequests(ctx)
		if err != nil {
			return r, err
		}
		return result{
			seconds: seen.took.Seconds(), rate: float64(o.pods-1) / seen.took.Seconds(),
			cpu: after.perPod(before, o.pods), requests: answered.perPod(asked, o.pods),
		}, profiled()
	case <-s.program.Ended():
		return r, errors.Join(errors.New("the scheduler has ended"), s.program.LogTail())
	case <-ctx.Done():
		return r, errors.Join(ctx.Err(), s.program.LogTail())
	}
}
