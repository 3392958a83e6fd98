package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-dev/keelson/cluster/local"
	"github.com/keelson-dev/keelson/cluster/tokens"
	"github.com/keelson-dev/keelson/cmd/internal/cli"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Create, list and delete the tokens by which machines join the cluster.",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := knownCommand(cmd, args); err != nil {
				return err
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenDelete(), newTokenGenerate())
	return cmd
}

func newTokenCreate() *cobra.Command {
	o := local.NewOptions()
	spec := tokens.Spec{TTL: 24 * time.Hour, Usages: []string{tokens.Authentication, tokens.Signing}}
	printJoin := false
	cmd := &cobra.Command{
		Use:   "create [TOKEN]",
		Short: "Create a token and print it.",
		Long: `Create a token and print it. Whoever has it can make any machine a node of this
cluster until it expires or is deleted: pass it on as you would a password.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) == 1 {
				spec.Token, err = tokens.Parse(args[0])
			} else {
				spec.Token, err = tokens.Generate()
			}
			if err == nil {
				err = spec.Validate()
			}
			if err != nil {
				return &cli.UsageError{Err: err}
			}
			return local.TokenCreate(cmd.Context(), *o, spec, printJoin, cmd.OutOrStdout())
		},
	}
	o.AddDirFlags(cmd.Flags())
	cmd.Flags().DurationVar(&spec.TTL, "ttl", spec.TTL, "How long the token is good. 0: until it is deleted.")
	cmd.Flags().StringSliceVar(&spec.Usages, "usages", spec.Usages, "What it may be used for: authentication, which joining needs, and signing.")
	cmd.Flags().StringVar(&spec.Description, "description", "", "What it is for, in words for people.")
	cmd.Flags().BoolVar(&printJoin, "print-join-command", false, "Print the whole command to type on the machine that is to join.")
	return cmd
}

func newTokenList() *cobra.Command {
	o := local.NewOptions()
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the tokens, without their secret halves.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return local.TokenList(cmd.Context(), *o, cmd.OutOrStdout())
		},
	}
	o.AddDirFlags(cmd.Flags())
	return cmd
}

func newTokenDelete() *cobra.Command {
	o := local.NewOptions()
	cmd := &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete tokens; machines that joined with them stay.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &cli.UsageError{Err: fmt.Errorf("name the ID of a token: 'keelson token list' shows them")}
			}
			ids := make([]string, len(args))
			for i, arg := range args {
				id, err := tokens.ParseID(arg)
				if err != nil {
					return &cli.UsageError{Err: fmt.Errorf("argument %d: %w", i+1, err)}
				}
				ids[i] = id
			}
			return local.TokenDelete(cmd.Context(), *o, ids, cmd.OutOrStdout())
		},
	}
	o.AddDirFlags(cmd.Flags())
	return cmd
}

func newTokenGenerate() *cobra.Command {
	return &cobra.Command{
		Use:   "generate",
		Short: "Print a new token without creating it anywhere.",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := tokens.Generate()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
}
