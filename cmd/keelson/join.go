package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keelson-dev/keelson/cluster/join"
	"github.com/keelson-dev/keelson/cmd/internal/cli"
)

func newJoin() *cobra.Command {
	o := join.NewOptions()
	cmd := &cobra.Command{
		Use:   "join --token ID.SECRET --ca-hash sha256:… HOST:PORT",
		Short: "Make this machine a node of a cluster that runs elsewhere.",
		Long: `Make this machine a node of a cluster that runs elsewhere, and wait until it is ready.

'keelson token create --print-join-command' on the cluster's machine prints the command.
The token is sent to nobody but a server whose authority has the hash. Without arguments,
on a machine that has joined, it starts the node's programs again. With --systemd they are
a service, which starts at boot.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &cli.UsageError{Err: fmt.Errorf("%d arguments: name one server, HOST:PORT", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.Server = args[0]
			}
			if o.Server != "" || o.Token != "" || o.CAHash != "" || !join.Joined(*o) {
				if err := o.Validate(); err != nil {
					return &cli.UsageError{Err: err}
				}
			}
			return unfinished(join.Join(cmd.Context(), *o, cmd.OutOrStdout()))
		},
	}
	o.AddDirFlags(cmd.Flags())
	o.AddJoinFlags(cmd.Flags())
	return cmd
}

func newLeave() *cobra.Command {
	o := join.NewOptions()
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Take this machine out of the cluster that it joined, and remove every trace of the node.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return unfinished(join.Leave(cmd.Context(), *o, cmd.OutOrStdout()))
		},
	}
	o.AddDirFlags(cmd.Flags())
	return cmd
}

func newSuperviseNode() *cobra.Command {
	o := join.NewOptions()
	cmd := &cobra.Command{
		Use:    "supervise-node",
		Short:  "Keep the programs of a joined node running in the foreground; 'join' starts this.",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return join.Supervise(cmd.Context(), *o)
		},
	}
	o.AddDirFlags(cmd.Flags())
	return cmd
}
