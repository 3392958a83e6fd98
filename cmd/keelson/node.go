package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keelson-dev/keelson/cluster/local"
	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/cmd/internal/cli"
)

func newNode() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "List, stop, start, cut off, add and delete the nodes of a cluster that 'up --nodes N' made.",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownCommand(cmd, args); err != nil {
				return err
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newNodeList(),
		newNodeChange("stop", "Switch a node off as a power cut does; its Node object stays.", local.NodeStop),
		newNodeChange("start", "Switch a node on and wait until it is ready.", local.NodeStart),
		newNodeChange("restart", "Reset a node: switch it off and on again.", local.NodeRestart),
		newNodeChange("heal", "Connect a node again that was cut off.", local.NodeHeal),
		newNodeChange("delete", "Switch a node off for good and remove its Node object and its data; or remove the Node object of a machine that joined and has left.", local.NodeDelete),
		newNodeCut(), newNodeAdd())
	return cmd
}

func newNodeList() *cobra.Command {
	o := local.NewOptions()
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the nodes and where each stands on this machine.",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return local.NodeList(*o, cmd.OutOrStdout()) },
	}
	o.AddDirFlags(cmd.Flags())
	return cmd
}

type nodeChange func(ctx context.Context, o local.Options, name string, out io.Writer) error

func newNodeChange(verb, short string, change nodeChange) *cobra.Command {
	o := local.NewOptions()
	cmd := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.Validate(); err != nil {
				return &cli.UsageError{Err: err}
			}
			return unfinished(change(cmd.Context(), *o, args[0], cmd.OutOrStdout()))
		},
	}
	o.AddDirFlags(cmd.Flags())
	o.AddTimeoutFlag(cmd.Flags())
	return cmd
}

func newNodeCut() *cobra.Command {
	cut := nodes.Cut{From: nodes.Everybody}
	cmd := newNodeChange("cut", "Let a node's traffic get lost, until 'heal'.",
		func(ctx context.Context, o local.Options, name string, out io.Writer) error {
			if err := cut.Validate(); err != nil {
				return &cli.UsageError{Err: err}
			}
			return local.NodeCut(ctx, o, name, cut, out)
		})
	cmd.Long = `Let a node's traffic get lost, until 'heal'. Nobody is told: packets vanish on their
way, as behind a broken switch. What the node is cut off from replaces what it was
before.`
	cmd.Flags().StringVar((*string)(&cut.From), "from", string(cut.From), "Whom to cut it off from: control-plane (API server and gateway), nodes (the others, with their Pods), or all, which pulls its cable.")
	cmd.Flags().StringVar((*string)(&cut.Only), "only", "", "Lose packets of one direction: those that the node has sent, or those that it should have received. Default: both.")
	return cmd
}

func newNodeAdd() *cobra.Command {
	var address string
	cmd := newNodeChange("add", "Make one more node and wait until it is ready.",
		func(ctx context.Context, o local.Options, name string, out io.Writer) error {
			return local.NodeAdd(ctx, o, name, address, out)
		})
	cmd.Flags().StringVar(&address, "address", "", "Its address in the network of nodes. Default: the lowest that is free.")
	return cmd
}

func oneNode(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &cli.UsageError{Err: fmt.Errorf("%d arguments: name one node; 'keelson node list' shows them", len(args))}
	}
	return nil
}
