package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/gateway/local"
	"github.com/keelson-dev/keelson/version"
)

// gatewayOptions are the flags of `keelson gateway`.
type gatewayOptions struct {
	kubeconfig, context, write string
	port                       int
	logRequests                bool
}

func newGateway() *cobra.Command {
	o := &gatewayOptions{}
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Serve the plain Kubernetes API on loopback, with your own credentials.",
		Long: `Serve the plain Kubernetes API on loopback, with your own credentials, until it is
interrupted. It writes a kubeconfig with a random token; any client that uses it finds
Keelson's kinds under their usual names, and may do what you may do.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.port < 0 || o.port > 65535 {
				return &cli.UsageError{Err: fmt.Errorf("--port: %d is outside 0-65535", o.port)}
			}
			return o.run(cmd)
		},
	}
	cmd.Flags().StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "Kubeconfig file with your credentials. Default: $KUBECONFIG, else ~/.kube/config.")
	cmd.Flags().StringVar(&o.context, "context", o.context, "Context in it. Default: the current one.")
	cmd.Flags().IntVar(&o.port, "port", o.port, "Port on 127.0.0.1. Default: any free one.")
	cmd.Flags().StringVar(&o.write, "write-kubeconfig", o.write, "Where to write the kubeconfig for clients; it is removed at the end. Default: a new folder in the one for temporary files.")
	cmd.Flags().BoolVar(&o.logRequests, "log-requests", o.logRequests, "Log every request.")
	return cmd
}

func (o *gatewayOptions) run(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	client := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context})
	config, err := client.ClientConfig()
	if err != nil {
		return fmt.Errorf("--kubeconfig, --context: %w", err)
	}
	config.UserAgent = "keelson-gateway/" + version.Get().Version
	namespace, _, err := client.Namespace()
	if err != nil {
		return fmt.Errorf("--kubeconfig, --context: %w", err)
	}
	serving := ctx
	if !o.logRequests {
		serving = klog.NewContext(ctx, logr.Discard())
	}
	g, err := local.Start(serving, local.Options{Caller: config, Port: o.port, Namespace: namespace})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	path, remove, err := o.writeKubeconfig(g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	fmt.Fprintf(cmd.OutOrStdout(), "The plain Kubernetes API of %s is at https://%s until you interrupt this. In another terminal:\n  export KUBECONFIG=%s\n  kubectl get pods\n", config.Host, g.Address(), path)
	return g.Wait(ctx)
}

// writeKubeconfig never overwrites: the file is removed at the end.
func (o *gatewayOptions) writeKubeconfig(g *local.Gateway) (path string, remove func() error, err error) {
	data, err := clientcmd.Write(*g.Kubeconfig())
	if err != nil {
		return "", nil, fmt.Errorf("encode the kubeconfig: %w", err)
	}
	path = o.write
	if path == "" {
		dir, err := os.MkdirTemp("", "keelson-gateway-")
		if err != nil {
			return "", nil, fmt.Errorf("make a folder for the kubeconfig: %w", err)
		}
		path = filepath.Join(dir, "kubeconfig")
		remove = func() error { return os.RemoveAll(dir) }
	} else {
		remove = func() error { return os.Remove(path) }
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", nil, fmt.Errorf("--write-kubeconfig: %w", err)
	}
	if _, err := file.Write(data); err != nil {
		return "", nil, errors.Join(fmt.Errorf("write the kubeconfig: %w", err), file.Close(), remove())
	}
	return path, remove, file.Close()
}
