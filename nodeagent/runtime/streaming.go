package runtime

import (
	"context"
	"fmt"
	"io"
)

// Streamer runs commands in running containers and joins their input and output.
type Streamer interface {
	// Exec runs command in the container and returns when it has ended and all its
	// output is written. *ExitError tells a code other than 0. When ctx ends the
	// command is killed.
	Exec(ctx context.Context, containerID string, command []string, streams Streams) error

	// Attach joins the container's own streams from now on, and returns when the
	// container has ended, ctx ends, or a writer fails. The container goes on.
	Attach(ctx context.Context, containerID string, streams Streams) error
}

// Streams are the client's ends; nil ones are not wanted.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	// Stderr is nil with TTY.
	Stderr io.Writer
	TTY    bool
	// Resize delivers the sizes of the client's terminal; nil without TTY.
	Resize <-chan TerminalSize
}

// TerminalSize is in characters.
type TerminalSize struct{ Width, Height uint16 }

// ExitError says that a command ran and ended with a code other than 0.
type ExitError struct{ Code int }

func (e *ExitError) Error() string {
	return fmt.Sprintf("command terminated with exit code %d", e.Code)
}
