// Command bench measures a one-node cluster on a throw-away machine (test/env/machine):
// how long Pods take, and what the cluster's own processes cost.
//
//	go run ./test/bench                    what `keelson up` starts
//	go run ./test/bench --stock bin/stock  stock Kubernetes of the same version
//
// It changes nothing outside the machine and its temporary folder and compares nothing
// by itself: the figures are for reading beside another run on the same, otherwise
// quiet computer (docs/design/benchmarks.md). Interrupted, it leaves a temporary folder.
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
	"time"

	"k8s.io/client-go/rest"

	"github.com/keelson-dev/keelson/test/env/machine"
)

// target is a cluster that can be measured.
type target interface {
	// Name says what it is, with its version.
	Name() string
	// Up starts it and returns when its node is ready.
	Up(ctx context.Context) error
	// Down ends it.
	Down() error
	// Config has the rights of an administrator.
	Config() (*rest.Config, error)
	// Group is the API group of Pods and ReplicationControllers, at version v1.
	Group() string
	// Image is the full name of a test image.
	Image(name string) string
	// DumpLogs explains a failure.
	DumpLogs()
}

type options struct {
	stock  string
	json   string
	starts int
	pods   int
	create int
	idle   time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.stock, "stock", "", "measure stock Kubernetes with the kubelet, kube-proxy, kube-controller-manager and kube-scheduler in this folder (`make stock` builds them)")
	flag.StringVar(&o.json, "json", "", "also write the result to this file as JSON")
	flag.IntVar(&o.starts, "starts", 20, "how many single Pods to start, one after another; 0 leaves this out")
	flag.IntVar(&o.pods, "pods", 100, "replicas of the large ReplicationController; 0 leaves this out")
	flag.IntVar(&o.create, "create", 0, "replicas of a ReplicationController whose Pods no node takes, to see how fast they are created; 0 leaves this out")
	flag.DurationVar(&o.idle, "idle", time.Minute, "for how long to watch what idle processes cost; 0 leaves this out")
	flag.Parse()
	if err := o.validate(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	os.Exit(machine.Main(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := run(ctx, o); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
		return 0
	}))
}

// maxPods is below what one node takes: 110 on either side by default.
const maxPods = 105

func (o options) validate() error {
	var errs []error
	if flag.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q: there are flags only", flag.Arg(0)))
	}
	if o.starts < 0 {
		errs = append(errs, fmt.Errorf("--starts is %d: give 0 or more", o.starts))
	}
	if o.pods < 0 || o.pods > maxPods {
		errs = append(errs, fmt.Errorf("--pods is %d: one node takes 0 to %d", o.pods, maxPods))
	}
	if o.create < 0 {
		errs = append(errs, fmt.Errorf("--create is %d: give 0 or more", o.create))
	}
	if o.idle < 0 {
		errs = append(errs, fmt.Errorf("--idle is %s: give 0 or more", o.idle))
	}
	return errors.Join(errs...)
}

func run(ctx context.Context, o options) (err error) {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	t, err := newTarget(root, o.stock)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			t.DumpLogs()
		}
		err = errors.Join(err, t.Down())
	}()
	start := time.Now()
	if err := t.Up(ctx); err != nil {
		return err
	}
	result := newResult(t, time.Since(start))
	if err := measure(ctx, t, o, result); err != nil {
		return err
	}
	return errors.Join(result.print(os.Stdout), result.write(o.json))
}

func newTarget(root, stock string) (target, error) {
	if stock != "" {
		return newStock(root, stock)
	}
	return newKeelson(root)
}

// measure fills the result: an idle cluster, single Pods, many Pods, many idle Pods.
func measure(ctx context.Context, t target, o options, into *Result) error {
	w, err := newWorkload(ctx, t)
	if err != nil {
		return err
	}
	if o.idle > 0 {
		progress("Watching the idle cluster for %s", o.idle)
		if err := into.addUsage(ctx, "idle, no Pod", o.idle); err != nil {
			return err
		}
	}
	if o.starts > 0 {
		progress("Starting %d Pods one after another", o.starts)
		if into.Starts, err = w.startPods(ctx, o.starts); err != nil {
			return err
		}
	}
	if o.create > 0 {
		progress("Creating %d Pods that no node takes", o.create)
		into.Creation = &Creation{Pods: o.create}
		if err := w.createOnly(ctx, into.Creation); err != nil {
			return err
		}
	}
	if o.pods == 0 {
		return nil
	}
	if err := startMany(ctx, t, w, o, into); err != nil {
		return err
	}
	if o.idle > 0 {
		progress("Watching the cluster with %d idle Pods for %s", o.pods, o.idle)
		if err := into.addUsage(ctx, fmt.Sprintf("idle, %d Pods", o.pods), o.idle); err != nil {
			return err
		}
	}
	progress("Deleting it")
	return w.scaleDown(ctx, into.Scale)
}

// startMany starts many Pods at once, and counts what that costs processes and API server.
func startMany(ctx context.Context, t target, w *workload, o options, into *Result) error {
	progress("Applying a ReplicationController of %d Pods", o.pods)
	config, err := t.Config()
	if err != nil {
		return err
	}
	requests, err := takeRequests(ctx, config)
	if err != nil {
		return err
	}
	before, err := takeProcesses()
	if err != nil {
		return err
	}
	into.Scale = &Scale{Pods: o.pods}
	up := func() error { return w.scaleUp(ctx, into.Scale) }
	if err := into.addInterval(fmt.Sprintf("starting %d Pods", o.pods), before, up); err != nil {
		return err
	}
	after, err := takeRequests(ctx, config)
	if err != nil {
		return err
	}
	into.Costs[len(into.Costs)-1].Requests = after.since(requests)
	return nil
}

// progress tells the person who waits; results go to standard output.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// moduleRoot is the closest folder upwards that holds go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod here or above: run it inside the source tree")
		}
		dir = filepath.Dir(dir)
	}
}
