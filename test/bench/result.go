package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// Result is everything that one run measured.
type Result struct {
	Target  string    `json:"target"`
	Time    time.Time `json:"time"`
	Machine string    `json:"machine"`
	// Up is how long the cluster took until its node was ready.
	Up     float64 `json:"upSeconds"`
	Starts *Starts `json:"starts,omitempty"`
	Scale  *Scale  `json:"scale,omitempty"`
	// Creation is there when --create asks for it.
	Creation *Creation  `json:"creation,omitempty"`
	Costs    []Interval `json:"costs,omitempty"`
}

// Interval is what the processes cost in one part of the run.
type Interval struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
	Usage   []Usage `json:"usage"`
	// Requests are there for the interval in which many Pods start.
	Requests Requests `json:"requests,omitempty"`
}

func newResult(t target, up time.Duration) *Result {
	return &Result{Target: t.Name(), Time: time.Now().UTC(), Machine: describeMachine(), Up: up.Seconds()}
}

func describeMachine() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d processors, Linux %s, %s", runtime.NumCPU(), unix.ByteSliceToString(name.Release[:]), runtime.GOARCH)
}

// settle is how long a cluster is left alone before it counts as idle: caches fill
// and garbage of the start is collected.
const settle = 10 * time.Second

// addUsage watches the processes of an idle cluster for a time.
func (r *Result) addUsage(ctx context.Context, what string, during time.Duration) error {
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	before, err := takeProcesses()
	if err != nil {
		return err
	}
	return r.addInterval(what, before, func() error { return sleep(ctx, during) })
}

// addInterval adds what the processes use during something, after an earlier look.
func (r *Result) addInterval(what string, before map[int]process, during func() error) error {
	start := time.Now()
	if err := during(); err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	after, err := takeProcesses()
	if err != nil {
		return err
	}
	r.Costs = append(r.Costs, Interval{What: what, Seconds: seconds, Usage: sumUsage(before, after)})
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// print writes the tables that a person reads.
func (r *Result) print(w io.Writer) error {
	fmt.Fprintf(w, "%s (%s)\n", r.Target, r.Machine)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\nSeconds\tmedian\tp90\tmax\t\n")
	fmt.Fprintf(t, "cluster ready\t%.2f\t\t\t\n", r.Up)
	if s := r.Starts; s != nil {
		row := func(what string, d Distribution) {
			fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.3f\t\n", what, d.quantile(0.5), d.quantile(0.9), d.quantile(1))
		}
		row("one Pod: created", s.Created)
		row("bound", s.Bound)
		row("Running", s.Running)
		row("Ready", s.Ready)
		row("deleted", s.Gone)
	}
	if c := r.Creation; c != nil {
		fmt.Fprintf(t, "%d Pods no node takes: created\t%.2f\t\t\t\n", c.Pods, c.Seconds)
	}
	if s := r.Scale; s != nil {
		fmt.Fprintf(t, "%d Pods: created\t%.2f\t\t\t\n", s.Pods, s.Created)
		fmt.Fprintf(t, "bound\t%.2f\t\t\t\n", s.Bound)
		fmt.Fprintf(t, "all ready\t%.2f\t\t\t\n", s.AllReady)
		fmt.Fprintf(t, "all deleted\t%.2f\t\t\t\n", s.Gone)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, interval := range r.Costs {
		if err := interval.print(w); err != nil {
			return err
		}
	}
	return nil
}

func (i Interval) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\n%s, %.0f s\tprocesses\tRSS MiB\tPSS MiB\tCPU s\tCPU %%\t\n", i.What, i.Seconds)
	total := Usage{Program: "all but workload"}
	row := func(u Usage) {
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%.1f\t%.2f\t%.1f\t\n", u.Program, u.Count, mib(u.RSS), mib(u.PSS), u.CPU, 100*u.CPU/i.Seconds)
	}
	for _, u := range i.Usage {
		row(u)
		if !u.Workload {
			total.Count, total.RSS, total.PSS, total.CPU = total.Count+u.Count, total.RSS+u.RSS, total.PSS+u.PSS, total.CPU+u.CPU
		}
	}
	row(total)
	if err := t.Flush(); err != nil {
		return err
	}
	return i.Requests.print(w)
}

func mib(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// write keeps the result for programs.
func (r *Result) write(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
