package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/rollingupdate"
	"github.com/keelson-dev/keelson/version"
)

// rollingUpdateOptions are the flags of `keelson rolling-update`.
type rollingUpdateOptions struct {
	kubeconfig, context, namespace, file string
	period, timeout                      time.Duration
	rollback                             bool
}

func newRollingUpdate() *cobra.Command {
	o := &rollingUpdateOptions{period: time.Minute, timeout: 5 * time.Minute}
	cmd := &cobra.Command{
		Use:   "rolling-update OLD -f NEW.yaml",
		Short: "Replace the Pods of one ReplicationController by those of another, one by one.",
		Long: `Replace the Pods of one ReplicationController by those of another, one by one.

There are never fewer Pods available than the old one had, and never more than one
above that. In the end the old one is deleted. The new one's selector must have a
different value for a key of the old one's. Without spec.replicas it gets the size of
the old one.

The apiVersion of the manifest says which view of the cluster is meant:
core.keelson.dev/v1, or v1 with the kubeconfig of a gateway.

Interrupted at any point, the same command continues; --rollback goes back instead.
New applications use Deployments, which do this inside the cluster.`,
		Example: "  keelson rolling-update web-v1 -f web-v2.yaml --update-period=10s\n  keelson rolling-update web-v1 -f web-v2.yaml --rollback",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(args); err != nil {
				return &cli.UsageError{Err: err}
			}
			return o.run(cmd, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "filename", "f", o.file, "Manifest of the new ReplicationController, - for standard input.")
	flags.DurationVar(&o.period, "update-period", o.period, "Wait between starting new Pods and ending old ones.")
	flags.DurationVar(&o.timeout, "timeout", o.timeout, "Give up when nothing has happened for so long. The update can be continued.")
	flags.BoolVar(&o.rollback, "rollback", o.rollback, "Go back to the old ReplicationController.")
	flags.StringVarP(&o.namespace, "namespace", "n", o.namespace, "Namespace. Default: that of the context.")
	flags.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "Kubeconfig file with your credentials. Default: $KUBECONFIG, else ~/.kube/config.")
	flags.StringVar(&o.context, "context", o.context, "Context in it. Default: the current one.")
	return cmd
}

func (o *rollingUpdateOptions) validate(args []string) error {
	switch {
	case len(args) != 1:
		return fmt.Errorf("want the name of the old ReplicationController, got %d arguments", len(args))
	case o.file == "":
		return errors.New("-f: the manifest of the new ReplicationController is missing")
	case o.period < 0:
		return fmt.Errorf("--update-period: %s is negative", o.period)
	case o.timeout <= 0:
		return fmt.Errorf("--timeout: %s is not positive", o.timeout)
	}
	return nil
}

func (o *rollingUpdateOptions) run(cmd *cobra.Command, old string) error {
	manifest, err := o.manifest(cmd.InOrStdin())
	if err != nil {
		return err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: o.context}
	overrides.Context.Namespace = o.namespace
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	config, err := loader.ClientConfig()
	if err != nil {
		return fmt.Errorf("--kubeconfig, --context: %w", err)
	}
	config.UserAgent = "keelson/" + version.Get().Version
	namespace, _, err := loader.Namespace()
	if err != nil {
		return fmt.Errorf("--kubeconfig, --context: %w", err)
	}
	if in := manifest.GetNamespace(); in != "" && in != namespace {
		return fmt.Errorf("the namespace from the provided object %q does not match the namespace %q. You must pass '--namespace=%s' to perform this operation.", in, namespace, in)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	return rollingupdate.Run(cmd.Context(), rollingupdate.Options{
		API: client.Resource(rollingupdate.Resource(manifest)).Namespace(namespace),
		Old: old, Manifest: manifest, Rollback: o.rollback,
		UpdatePeriod: o.period, Timeout: o.timeout, Out: cmd.OutOrStdout(),
	})
}

func (o *rollingUpdateOptions) manifest(stdin io.Reader) (*unstructured.Unstructured, error) {
	if o.file == "-" {
		return rollingupdate.Manifest(stdin)
	}
	file, err := os.Open(o.file)
	if err != nil {
		return nil, fmt.Errorf("-f: %w", err)
	}
	defer func() { _ = file.Close() }()
	manifest, err := rollingupdate.Manifest(file)
	if err != nil {
		return nil, fmt.Errorf("-f %s: %w", o.file, err)
	}
	return manifest, nil
}
