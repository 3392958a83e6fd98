// Package cli turns a component's options into its command: grouped --help,
// a versioned YAML config file that flags override, structured logs, signals
// and exit codes. Every binary of the project starts through it, so that they
// all behave alike.
//
// It never knows what a component does and keeps no state: a process that was
// killed starts again from its flags and its config file.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // offers --logging-format=json
	"k8s.io/component-base/term"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/version"
)

// Options is what every component's *Options type offers.
type Options interface {
	// AddFlags binds flags, in named groups, to the fields.
	AddFlags(fss *cliflag.NamedFlagSets)
	// Validate returns every problem at once, each naming its flag or field.
	Validate() error
}

// Component describes a binary, or a subcommand that has its own options.
type Component[O any, P interface {
	*O
	Options
}] struct {
	// Use is the command name as typed, for example keelson-node.
	Use string
	// Kind is the kind of the config file, for example NodeConfiguration.
	Kind string
	// Short is the one-line description; Long what --help says above the flags.
	Short, Long string
	// New returns options holding the defaults.
	New func() P
	// Run does the work until ctx ends. What it returns after ctx ended because
	// of a signal does not count as a failure if it is the context's own error.
	Run func(ctx context.Context, o O) error
}

// New builds the command of a component.
func New[O any, P interface {
	*O
	Options
}](c Component[O, P]) *cobra.Command {
	shown := newInvocation(c)
	cmd := &cobra.Command{
		Use:   c.Use,
		Short: c.Short,
		Long:  c.Long,
		// The invocation parses the arguments itself: once to find --config, and
		// again on top of what the file says.
		DisableFlagParsing: true,
		Args:               cobra.ArbitraryArgs,
		SilenceUsage:       true,
		SilenceErrors:      true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, c, args)
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.Flags().AddFlagSet(shown.all)
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		printUsage(cmd, shown.groups)
		return nil
	})
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n", cmp.Or(cmd.Long, cmd.Short))
		printUsage(cmd, shown.groups)
	})
	return cmd
}

func printUsage(cmd *cobra.Command, groups cliflag.NamedFlagSets) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Usage:\n  %s [flags]\n", cmd.CommandPath())
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(out, "  %s    %s\n", sub.CommandPath(), sub.Short)
		}
	}
	width, _, err := term.TerminalSize(out)
	if err != nil {
		width = 0 // not a terminal: do not wrap
	}
	cliflag.PrintSections(out, groups, width)
}

// invocation is one reading of the command line into fresh options.
type invocation[O any, P interface {
	*O
	Options
}] struct {
	options P
	logging *logsapi.LoggingConfiguration
	groups  cliflag.NamedFlagSets
	all     *pflag.FlagSet

	configFile string
	help       bool
	version    bool
}

func newInvocation[O any, P interface {
	*O
	Options
}](c Component[O, P]) *invocation[O, P] {
	i := &invocation[O, P]{options: c.New(), logging: logsapi.NewLoggingConfiguration()}
	i.options.AddFlags(&i.groups)
	logsapi.AddFlags(i.logging, i.groups.FlagSet("logging"))
	global := i.groups.FlagSet("global")
	global.StringVar(&i.configFile, "config", "", fmt.Sprintf("Config file in YAML (apiVersion %s, kind %s). Flags given on the command line win over it.", ConfigAPIVersion, c.Kind))
	global.BoolVarP(&i.help, "help", "h", false, "Show this help.")
	global.BoolVar(&i.version, "version", false, "Print the version and exit.")

	i.all = pflag.NewFlagSet(c.Use, pflag.ContinueOnError)
	i.all.SetOutput(io.Discard)
	for _, name := range i.groups.Order {
		i.all.AddFlagSet(i.groups.FlagSets[name])
	}
	return i
}

func (i *invocation[O, P]) parse(args []string) error {
	if err := i.all.Parse(args); err != nil {
		return &UsageError{Err: err}
	}
	if rest := i.all.Args(); len(rest) > 0 {
		return &UsageError{Err: fmt.Errorf("unexpected argument %q: every setting is a --flag", rest[0])}
	}
	return nil
}

func run[O any, P interface {
	*O
	Options
}](cmd *cobra.Command, c Component[O, P], args []string) error {
	i := newInvocation(c)
	if err := i.parse(args); err != nil {
		return err
	}
	switch {
	case i.help:
		return cmd.Help()
	case i.version:
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", cmd.CommandPath(), version.Get())
		return nil
	}
	if i.configFile != "" {
		var err error
		if i, err = withConfigFile(c, i.configFile, args); err != nil {
			return err
		}
	}
	if err := validate(i); err != nil {
		return &UsageError{Err: err}
	}
	if err := logsapi.ValidateAndApply(i.logging, nil); err != nil {
		return &UsageError{Err: fmt.Errorf("set up logging: %w", err)}
	}
	defer klog.Flush()
	klog.FromContext(cmd.Context()).Info("Starting", "component", c.Use, "version", version.Get().Version, "commit", version.Get().Commit)
	return c.Run(cmd.Context(), *i.options)
}

func validate[O any, P interface {
	*O
	Options
}](i *invocation[O, P]) error {
	return errors.Join(
		i.options.Validate(),
		logsapi.Validate(i.logging, nil, field.NewPath("logging")).ToAggregate(),
	)
}

// withConfigFile reads the file over the defaults and the arguments over both.
func withConfigFile[O any, P interface {
	*O
	Options
}](c Component[O, P], path string, args []string) (*invocation[O, P], error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &UsageError{Err: fmt.Errorf("read the file given by --config: %w", err)}
	}
	i := newInvocation(c)
	if err := decodeConfig(data, c.Kind, i.options, i.logging); err != nil {
		return nil, &UsageError{Err: fmt.Errorf("config file %s: %w", path, err)}
	}
	return i, i.parse(args)
}
