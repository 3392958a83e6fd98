package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every binary.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
)

// UsageError marks an error that the person who typed the command can fix by
// typing it differently or by editing the config file.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Main runs the command with the process's arguments and returns its exit
// code. SIGTERM or SIGINT ends the command's context; a second one ends the
// process at once. Unless GOGC is set, it tunes the garbage collector first.
func Main(cmd *cobra.Command) int {
	tuneGarbage()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on a signal has its default effect
	return Execute(ctx, cmd, os.Stderr)
}

// Execute runs the command under ctx and reports its error on stderr.
func Execute(ctx context.Context, cmd *cobra.Command, stderr io.Writer) int {
	cmd.SilenceErrors = true
	cmd.SilenceUsage = true
	called, err := cmd.ExecuteContextC(ctx)
	code := exitCode(ctx, err)
	if code == ExitOK {
		return code
	}
	fmt.Fprintf(stderr, "%s: %v\n", cmd.Name(), err)
	if code == ExitUsage {
		fmt.Fprintf(stderr, "See '%s --help'.\n", called.CommandPath())
	}
	return code
}

func exitCode(ctx context.Context, err error) int {
	var usage *UsageError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		return ExitUsage
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return ExitOK
	default:
		return ExitFailure
	}
}
