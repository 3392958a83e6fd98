package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/config/webhook"
)

func newManifests() *cobra.Command {
	var mode, webhookURL string
	cmd := &cobra.Command{
		Use:   "manifests",
		Short: "Print what Keelson needs in an API server: its kinds, roles, policies and webhooks.",
		Long: `Print what Keelson needs in an API server that 'keelson up' has not started: kinds,
roles, policies and the registration of webhooks. Applied again after an upgrade, it
brings them up to date.`,
		Example: `  keelson manifests --webhook-url=https://localhost:9443 | kubectl apply --server-side -f -`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sets := map[string][]config.Set{"standalone": config.Standalone(), "guest": config.Guest()}[mode]
			if sets == nil {
				return &cli.UsageError{Err: fmt.Errorf("--mode: %q is neither 'standalone' nor 'guest'", mode)}
			}
			objects, err := config.Objects(sets...)
			if err != nil {
				return err
			}
			registrations, err := webhookObjects(webhookURL)
			if err != nil {
				return err
			}
			return printObjects(cmd.OutOrStdout(), append(objects, registrations...))
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "standalone", "That of the manager: 'standalone' on a bare API server, 'guest' in a cluster that has a controller manager.")
	cmd.Flags().StringVar(&webhookURL, "webhook-url", "", "URL at which every API server calls admission, as in the manager's flag. Empty: through the Service keelson-webhook, where the manager runs in Pods of the cluster that the API server belongs to.")
	return cmd
}

func webhookObjects(url string) ([]*unstructured.Unstructured, error) {
	if url == "" {
		return webhook.ForService()
	}
	objects, err := webhook.ForURL(url)
	if err != nil {
		return nil, &cli.UsageError{Err: fmt.Errorf("--webhook-url: %w", err)}
	}
	return objects, nil
}

// printObjects writes them as documents of YAML, in the order in which they can be applied.
func printObjects(out io.Writer, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if _, err := fmt.Fprintf(out, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}
