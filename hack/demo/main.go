// Command demo runs the Guestbook on the cluster that `keelson up` started and says
// what it does: images, manifests, a message through the NodePort, the message read
// back from a replica, a Pod killed and replaced. `make demo` calls it.
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
)

type options struct {
	kubectl, kubeconfig, root, registry string
	timeout                             time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.kubectl, "kubectl", "bin/k8s/kubectl", "stock kubectl")
	flag.StringVar(&o.kubeconfig, "kubeconfig", ".keelson/admin.kubeconfig", "credentials that `keelson up` wrote")
	flag.StringVar(&o.root, "root", ".", "folder with go.mod and examples/guestbook")
	flag.StringVar(&o.registry, "registry", "127.0.0.1:5557", "loopback address for the throw-away image registry")
	flag.DurationVar(&o.timeout, "timeout", 3*time.Minute, "how long any one step may take")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	for _, needed := range []struct{ path, fix string }{
		{o.kubeconfig, "start the cluster with `make up`"},
		{o.kubectl, "build it with `make k8s`"},
		{filepath.Join(o.root, "examples/guestbook/frontend.yaml"), "run this in a clone of Keelson"},
	} {
		if _, err := os.Stat(needed.path); err != nil {
			return fmt.Errorf("%s is missing: %s", needed.path, needed.fix)
		}
	}
	d := demo{options: o, out: os.Stdout}
	for _, step := range d.steps() {
		fmt.Fprintf(d.out, "\n── %s\n", step.title)
		start := time.Now()
		stepCtx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after %s", o.timeout))
		err := step.run(stepCtx)
		cancel()
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", step.title, err), d.explain(ctx))
		}
		fmt.Fprintf(d.out, "   done in %.1f s\n", time.Since(start).Seconds())
	}
	fmt.Fprint(d.out, d.closing())
	return nil
}
