package runtime

import (
	"context"
	"fmt"
	"io"
)

// Streamer runs commands in running containers and joins their input and output.
type Streamer interface {
	// Exec runs command in the container and returns when it has ended and all its
	// output is written, that of processes it left behind included. *ExitError tells a
	// code other than 0. When ctx ends or a writer fails the command is killed. A Read
	// of Stdin that has begun may outlast the call.
	Exec(ctx context.Context, containerID string, command []string, streams Streams) error

	// Attach joins the container's own streams from now on, and returns when the
	// container has ended, ctx ends, or a writer fails. The container goes on. A
	// container without an input ignores Stdin. The end of Stdin ends the call too,
	// unless it closes the input of the container (stdinOnce without a terminal).
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
