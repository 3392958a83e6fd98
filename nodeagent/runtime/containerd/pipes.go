package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// pipes are the named pipes that carry the streams of one process between its shim and
// this process. The shim keeps both ends of each open, so either side may come later.
type pipes struct {
	dir             string
	stdin, terminal bool
}

func (p pipes) stdinPath() string {
	if !p.stdin {
		return ""
	}
	return filepath.Join(p.dir, "stdin")
}

func (p pipes) stdoutPath() string { return filepath.Join(p.dir, "stdout") }

// stderrPath is empty with a terminal, which has one output.
func (p pipes) stderrPath() string {
	if p.terminal {
		return ""
	}
	return filepath.Join(p.dir, "stderr")
}

// make creates what is not there.
func (p pipes) make() error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of a process's streams: %w", err)
	}
	for _, path := range []string{p.stdinPath(), p.stdoutPath(), p.stderrPath()} {
		if path == "" {
			continue
		}
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the named pipe %s: %w", path, err)
		}
	}
	return nil
}

func (p pipes) remove() error {
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove the streams of a process: %w", err)
	}
	return nil
}

// openPipes are this process's ends. Stdin and Stderr may be nil.
type openPipes struct {
	stdin, stdout, stderr *os.File
}

// open opens this side. Reading before the shim has opened its side finds the end of
// the stream.
func (p pipes) open() (openPipes, error) {
	var o openPipes
	var err error
	if o.stdout, err = openOutput(p.stdoutPath()); err != nil {
		return openPipes{}, err
	}
	if path := p.stderrPath(); path != "" {
		if o.stderr, err = openOutput(path); err != nil {
			o.close()
			return openPipes{}, err
		}
	}
	if path := p.stdinPath(); path != "" {
		if o.stdin, err = openInput(path); err != nil {
			o.close()
			return openPipes{}, err
		}
	}
	return o, nil
}

func openOutput(path string) (*os.File, error) {
	file, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the output of a process: %w", err)
	}
	return file, nil
}

// openInput opens a pipe for writing. Both directions, because the kernel refuses to
// open one for writing alone as long as nobody reads.
func openInput(path string) (*os.File, error) {
	file, err := os.OpenFile(path, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the input of a process: %w", err)
	}
	return file, nil
}

func (o openPipes) close() {
	for _, file := range []*os.File{o.stdin, o.stdout, o.stderr} {
		if file != nil {
			_ = file.Close() // nothing is buffered here, and a second close is no fault
		}
	}
}
