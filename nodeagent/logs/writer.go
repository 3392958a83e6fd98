// Package logs owns the log files of containers: the writer of the CRI format that
// `kubectl logs` and log collectors read, and the reader of a file's last lines.
//
// Each line is "<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>"; P marks
// a piece of a line longer than MaxLine, F its last or only piece.
//
// It never starts containers or opens their pipes. After a crash the file is opened
// again for appending: what was written stays, nothing is written twice.
package logs

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// MaxLine is the longest piece of text in one entry, in bytes, as in containerd.
const MaxLine = 16 << 10

// Stream names an output of a container.
type Stream string

// Streams of a container.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// File is a container's log file. Its streams may be written from different
// goroutines; an entry is never torn.
type File struct {
	path  string
	clock clock.PassiveClock

	mu   sync.Mutex
	file *os.File
}

// Open opens the file for appending and creates it when it is missing; its folder
// must exist.
func Open(path string, c clock.PassiveClock) (*File, error) {
	file, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, clock: c, file: file}, nil
}

func openAppend(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open container log: %w", err)
	}
	return file, nil
}

// Reopen continues in a new file under the same path, after the old one was renamed.
func (f *File) Reopen() error {
	file, err := openAppend(f.path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	old := f.file
	f.file = file
	f.mu.Unlock()
	return old.Close()
}

// Close closes the file. Close the streams first: each may hold an unfinished line.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}

func (f *File) append(entries []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.file.Write(entries)
	return err
}

// NewStream returns the writer of one of the container's outputs. A StreamWriter is
// for one goroutine.
func (f *File) NewStream(stream Stream) *StreamWriter {
	return &StreamWriter{file: f, suffix: " " + string(stream) + " "}
}

// StreamWriter turns raw output into entries of the log file. All complete lines of
// one Write reach the file in one write; the text after the last newline waits for
// the next.
type StreamWriter struct {
	file    *File
	suffix  string
	pending []byte // text after the last newline, shorter than MaxLine
	entries []byte // reused buffer
	head    []byte // reused "time stream " of this write
}

// Write formats output. It returns len(output) even when the file cannot be written,
// so that a full disk does not stop the container; the error is returned with it.
func (w *StreamWriter) Write(output []byte) (int, error) {
	total := len(output)
	w.entries = w.entries[:0]
	w.stamp()
	for len(output) > 0 {
		newline := bytes.IndexByte(output, '\n')
		if newline < 0 {
			output = w.cut(output)
			w.pending = append(w.pending, output...)
			break
		}
		rest := w.cut(output[:newline])
		w.entry('F', w.pending, rest)
		w.pending = w.pending[:0]
		output = output[newline+1:]
	}
	if len(w.entries) == 0 {
		return total, nil
	}
	if err := w.file.append(w.entries); err != nil {
		return total, fmt.Errorf("write container log: %w", err)
	}
	return total, nil
}

// cut writes partial entries while pending and text together are longer than MaxLine,
// and returns what is left of text.
func (w *StreamWriter) cut(text []byte) []byte {
	for len(w.pending)+len(text) > MaxLine {
		piece := MaxLine - len(w.pending)
		w.entry('P', w.pending, text[:piece])
		w.pending, text = w.pending[:0], text[piece:]
	}
	return text
}

func (w *StreamWriter) stamp() {
	w.head = w.file.clock.Now().UTC().AppendFormat(w.head[:0], time.RFC3339Nano)
	w.head = append(w.head, w.suffix...)
}

func (w *StreamWriter) entry(tag byte, pending, text []byte) {
	w.entries = append(w.entries, w.head...)
	w.entries = append(w.entries, tag, ' ')
	w.entries = append(w.entries, pending...)
	w.entries = append(w.entries, text...)
	w.entries = append(w.entries, '\n')
}

// Finish writes the unfinished last line after the output has ended.
func (w *StreamWriter) Finish() error { return w.flush('F') }

// Suspend writes the unfinished line as a piece: whoever opens the file next
// continues it.
func (w *StreamWriter) Suspend() error { return w.flush('P') }

func (w *StreamWriter) flush(tag byte) error {
	if len(w.pending) == 0 {
		return nil
	}
	w.entries = w.entries[:0]
	w.stamp()
	w.entry(tag, w.pending, nil)
	w.pending = w.pending[:0]
	if err := w.file.append(w.entries); err != nil {
		return fmt.Errorf("write container log: %w", err)
	}
	return nil
}
