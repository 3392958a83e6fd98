package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/convert"
	"github.com/keelson-dev/keelson/gateway/table"
)

func newConvert() *cobra.Command {
	var (
		to      string
		inPlace bool
	)
	cmd := &cobra.Command{
		Use:   "convert [flags] FILE|DIRECTORY|- ...",
		Short: "Rewrite manifests between the Kubernetes form and Keelson's.",
		Long: `Rewrite manifests, the output of Helm and kustomizations between the two forms of
Keelson's kinds: apiVersion v1 and core.keelson.dev/v1, apps/v1 and apps.keelson.dev/v1,
and so on for batch/v1, autoscaling/v2 and policy/v1. Only those names change, also
in references to objects (owners, scale targets, the objects of Events), in the targets
and patches of a kustomization, and in what kubectl remembers as last applied; comments
and formatting stay. Other kinds stay as they are, and so do rules of roles, which name
resources and not objects.

A directory stands for every .yaml, .yml and .json file below it, "-" for standard
input. When one file cannot be converted, its line is named and nothing is written.`,
		Example: `  keelson convert pod.yaml | kubectl apply -f -
  helm template my-release ./chart | keelson convert - | kubectl apply -f -
  keelson convert --in-place deploy/
  kubectl get pods.core.keelson.dev -o yaml | keelson convert --to=kubernetes -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &cli.UsageError{Err: errors.New("nothing to convert: name files or directories, or - for standard input")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			form, err := convert.ParseForm(to)
			if err != nil {
				return &cli.UsageError{Err: fmt.Errorf("--to: %w", err)}
			}
			return convert.Files{
				Converter: convert.New(table.Keelson(), form), InPlace: inPlace,
				In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Notes: cmd.ErrOrStderr(),
			}.Run(args)
		},
	}
	cmd.Flags().StringVar(&to, "to", string(convert.Keelson), "The form to write: 'keelson' or 'kubernetes'.")
	cmd.Flags().BoolVarP(&inPlace, "in-place", "i", false, "Write the files instead of standard output; those without changes are left alone.")
	return cmd
}
