// Command controller is an example of an Ingress controller: it watches Ingresses of its
// class and the Services that they name, and passes HTTP requests on by host and path.
// It knows nothing of Keelson: it runs on every Kubernetes cluster, as the controllers
// that people use run on Keelson.
//
// It speaks HTTP only: it warns of Ingresses that want TLS, with an event, and serves them
// without. It keeps nothing: started again, it reads all Ingresses and Services before it
// listens. When the API is away, it goes on with what it knows.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// headerTime bounds how long a client may take to say what it wants.
	headerTime = 10 * time.Second
	// lastAnswers is how long requests may take that are on their way at the end.
	lastAnswers = 10 * time.Second
)

type options struct {
	listen  string
	class   string
	publish string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", ":8080", "address to take requests at")
	flag.StringVar(&o.class, "class", "example", "name of the IngressClass whose Ingresses are served")
	flag.StringVar(&o.publish, "publish-service", "", "NAMESPACE/NAME of the Service in front of this program, whose addresses are written into the status of Ingresses; empty: none are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the cluster's API: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client of the cluster's API: %w", err)
	}
	publish, err := parseName(o.publish)
	if err != nil {
		return fmt.Errorf("--publish-service: %w", err)
	}
	w := newWatcher(client, o.class, publish)
	watched := make(chan error, 1)
	go func() { watched <- w.run(ctx) }()
	select {
	case <-w.ready:
	case err := <-watched:
		return err
	}
	server := &http.Server{Addr: o.listen, Handler: newProxy(&w.routes), ReadHeaderTimeout: headerTime}
	slog.Info("Listening", "address", o.listen, "class", o.class)
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", o.listen, err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAnswers)
	defer cancel()
	return errors.Join(server.Shutdown(ending), <-watched)
}
