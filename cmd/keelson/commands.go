package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-dev/keelson/cluster/local"
	"github.com/keelson-dev/keelson/cmd/internal/cli"
	"github.com/keelson-dev/keelson/version"
)

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "keelson",
		Short: "Run a container cluster on this machine.",
		Long:  "Run a container cluster on this machine: a stock kube-apiserver and etcd, and Keelson's own manager and node agent.",
		Args:  knownCommand,
	}
	// Not cobra's own flag: its template would keep in the program every method of every
	// type (docs/design/benchmarks.md).
	shown := root.Flags().BoolP("version", "v", false, "Print the version.")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *shown {
			return printVersion(cmd)
		}
		return cmd.Help()
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &cli.UsageError{Err: err} })
	root.AddCommand(newUp(), newDown(), newStatus(), newNode(), newToken(), newJoin(), newLeave(), newManifests(), newSuperviseNode(), newConvert(), newGateway(), newKubectl(), newRollingUpdate(), newSupervise(), newVersion())
	return root
}

func newUp() *cobra.Command {
	o := local.NewOptions()
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the cluster in the background and wait until it is ready.",
		Long: `Start the cluster in the background and wait until it is ready.

Running it again is harmless: it repairs what is missing and says so when the cluster is up already.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Validate(); err != nil {
				return &cli.UsageError{Err: err}
			}
			return unfinished(local.Up(cmd.Context(), *o, cmd.OutOrStdout()))
		},
	}
	o.AddDirFlags(cmd.Flags())
	o.AddUpFlags(cmd.Flags())
	return cmd
}

func newDown() *cobra.Command {
	o := local.NewOptions()
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End the cluster and remove every trace of it.",
		Long: `End the cluster and remove every trace of it: containers, processes, mounts,
network namespaces, interfaces, iptables rules and, unless --keep-data is given, its data.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Validate(); err != nil {
				return &cli.UsageError{Err: err}
			}
			return unfinished(local.Down(cmd.Context(), *o, cmd.OutOrStdout()))
		},
	}
	o.AddDirFlags(cmd.Flags())
	o.AddDownFlags(cmd.Flags())
	return cmd
}

func newStatus() *cobra.Command {
	o := local.NewOptions()
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the components; the exit code is 0 when all are ready.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return local.Status(*o, cmd.OutOrStdout())
		},
	}
	o.AddDirFlags(cmd.Flags())
	return cmd
}

func newSupervise() *cobra.Command {
	o := local.NewOptions()
	cmd := &cobra.Command{
		Use:    "supervise",
		Short:  "Keep the components running in the foreground; 'up' starts this.",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return local.Supervise(cmd.Context(), *o)
		},
	}
	o.AddDirFlags(cmd.Flags())
	o.AddSuperviseFlags(cmd.Flags())
	return cmd
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version.",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return printVersion(cmd) },
	}
}

func printVersion(cmd *cobra.Command) error {
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "keelson %s\n", version.Get())
	return err
}

// unfinished makes an interruption a failure: unlike a server that is told to end, up
// and down have not done what they were asked for.
func unfinished(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted: " + err.Error())
	}
	return err
}

// knownCommand sees what is left when no subcommand matched.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return &cli.UsageError{Err: fmt.Errorf("unknown command %q: there are %s", args[0], strings.Join(names, ", "))}
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &cli.UsageError{Err: fmt.Errorf("unexpected argument %q: every setting is a --flag", args[0])}
	}
	return nil
}
