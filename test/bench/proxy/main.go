// Command proxy measures the Service proxy beside stock kube-proxy in iptables mode: ours
// on our Services and EndpointSlices, kube-proxy on the built-in ones with the same
// contents, each with a fresh API server and in a network namespace of its own.
//
//	go build -o bin/machine ./hack/machine && go build -o bin/bench/proxy ./test/bench/proxy
//	bin/machine bin/bench/proxy --services 1000,5000
//
// Measured are: the time from the start of the process until the Services work, by
// connections to some that are spread over all; the time from the update of one
// EndpointSlice until connections reach the new endpoint; and HTTP requests, each with a
// connection of its own, through cluster addresses. It needs root, and makes nothing but
// network namespaces and one pair of interfaces, which it removes. The figures are for
// reading beside each other; the load is printed with them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson-dev/keelson/test/bench/internal/program"
)

type options struct {
	services []int
	// endpoints of each Service, changes to measure.
	endpoints, changes int
	sides              []string
	folder             string
	timeout            time.Duration
	traffic            time.Duration
	rounds             int
}

func main() {
	program.Main("proxy", func(ctx context.Context) error {
		o, err := parse()
		if err != nil {
			return err
		}
		return run(ctx, o)
	})
}

func parse() (options, error) {
	var o options
	services := flag.String("services", "1000,5000", "numbers of Services to measure with, separated by commas")
	flag.IntVar(&o.endpoints, "endpoints", 10, "endpoints of each Service")
	flag.IntVar(&o.changes, "changes", 30, "changes of endpoints to measure")
	sides := flag.String("sides", "keelson,stock", "whom to measure")
	flag.StringVar(&o.folder, "bin", "bin", "folder with keelson-node, k8s/ and stock/ (`make build k8s stock`)")
	flag.DurationVar(&o.timeout, "timeout", 15*time.Minute, "end one measurement after this time")
	flag.DurationVar(&o.traffic, "traffic", 2*time.Second, "how long to send requests in one round")
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of requests; the median counts")
	flag.Parse()
	if o.rounds < 1 || o.changes < 1 {
		return o, errors.New("--rounds and --changes: at least 1")
	}
	if o.endpoints < 1 || o.endpoints > 100 {
		return o, fmt.Errorf("--endpoints: %d is not between 1 and 100", o.endpoints)
	}
	for text := range strings.SplitSeq(*services, ",") {
		count, err := strconv.Atoi(text)
		if most := maxEndpoints / o.endpoints; err != nil || count < probes || count > most {
			return o, fmt.Errorf("--services: %q is no number from %d to %d", text, probes, most)
		}
		o.services = append(o.services, count)
	}
	o.sides = strings.Split(*sides, ",")
	for _, name := range o.sides {
		if name != keelson && name != stock {
			return o, fmt.Errorf("--sides: %q is neither %s nor %s", name, keelson, stock)
		}
	}
	return o, nil
}

// result is one side's measurement.
type result struct {
	full     time.Duration
	p50, p99 time.Duration
	// rules are those of both tables, rss in MiB.
	rules int
	rss   float64
}

func run(ctx context.Context, o options) error {
	fmt.Printf("%d endpoints per Service, %s, load average at the start %s\n", o.endpoints, backend(), program.Load())
	fmt.Printf("%8s %8s %10s %10s %10s %8s %8s %6s\n", "services", "side", "full", "p50", "p99", "rules", "RSS MiB", "load")
	for _, count := range o.services {
		if err := compare(ctx, o, count); err != nil {
			return err
		}
	}
	return nil
}

// compare measures each side by itself, and then sends requests through the rules that
// they have left, in turns.
func compare(ctx context.Context, o options, count int) (err error) {
	results, nodes := map[string]result{}, map[string]*namespace{}
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.remove())
		}
	}()
	for i, name := range o.sides {
		if nodes[name], err = newNamespace(ctx, i); err != nil {
			delete(nodes, name)
			return err
		}
		r, err := measure(ctx, o, name, count, nodes[name])
		if err != nil {
			return fmt.Errorf("%s with %d Services: %w", name, count, err)
		}
		results[name] = r
		fmt.Printf("%8d %8s %10s %10s %10s %8d %8.0f %6s\n", count, name, r.full.Round(time.Millisecond),
			r.p50.Round(time.Millisecond), r.p99.Round(time.Millisecond), r.rules, r.rss, program.Load())
	}
	ratio := func(a, b time.Duration) float64 { return a.Seconds() / b.Seconds() }
	ours, theirs := results[keelson], results[stock]
	both := ours.full > 0 && theirs.full > 0
	if both {
		fmt.Printf("%8d    ratio %10.2f %10.2f %10.2f %8.2f %8.2f\n", count, ratio(ours.full, theirs.full),
			ratio(ours.p50, theirs.p50), ratio(ours.p99, theirs.p99), float64(ours.rules)/float64(theirs.rules), ours.rss/theirs.rss)
	}
	rounds := map[string][]traffic{}
	for range o.rounds {
		for _, name := range o.sides {
			rounds[name] = append(rounds[name], nodes[name].sendRequests(ctx, count, o.traffic))
		}
	}
	for _, name := range o.sides {
		t := median(rounds[name])
		fmt.Printf("%8d %8s requests/s %.0f, p99 %s, failed %d\n", count, name, t.perSecond, t.p99.Round(10*time.Microsecond), t.failed)
	}
	if both {
		a, b := median(rounds[keelson]), median(rounds[stock])
		fmt.Printf("%8d    ratio requests/s %.2f, p99 %.2f, load %s\n", count, a.perSecond/b.perSecond, ratio(a.p99, b.p99), program.Load())
	}
	return nil
}

// median takes that of each figure, and the sum of the failures.
func median(rounds []traffic) traffic {
	var rates []float64
	var times []time.Duration
	failed := 0
	for _, t := range rounds {
		rates, times, failed = append(rates, t.perSecond), append(times, t.p99), failed+t.failed
	}
	slices.Sort(rates)
	return traffic{perSecond: rates[len(rates)/2], p99: percentile(times, 0.5), failed: failed}
}

// percentile returns the value below which that part of the sorted values is.
func percentile(values []time.Duration, part float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(part*float64(len(values))))]
}

// measure runs one side from an empty API server, and leaves its rules.
func measure(ctx context.Context, o options, name string, count int, n *namespace) (r result, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "keelson-proxy-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := newSide(name, o.folder, dir, n)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.fill(ctx, count, o.endpoints); err != nil {
		return r, err
	}
	start := time.Now()
	if err := s.startProxy(ctx); err != nil {
		return r, err
	}
	if r.full, err = s.untilAllWork(ctx, count, start); err != nil {
		return r, errors.Join(err, s.program.LogTail())
	}
	changes, err := s.changeEndpoints(ctx, count, o.changes)
	if err != nil {
		return r, errors.Join(err, s.program.LogTail())
	}
	r.p50, r.p99 = percentile(changes, 0.5), percentile(changes, 0.99)
	if r.rules, err = n.countRules(ctx); err != nil {
		return r, err
	}
	if want := (count - probes) * o.endpoints; r.rules < want {
		return r, fmt.Errorf("%d rules, want at least %d: not every endpoint has one", r.rules, want)
	}
	r.rss, err = s.rss()
	return r, err
}
