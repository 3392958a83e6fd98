package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// lineBuffer holds the longest entry: time, stream, tag and a piece of text. Others
// write longer pieces than MaxLine; up to this size they are read.
const lineBuffer = 64 << 10

// errLimit says that LimitBytes are written.
var errLimit = errors.New("the limit of bytes is reached")

// entryWriter turns entries into what the client sees.
type entryWriter struct {
	options   Options
	out       Output
	remaining int64
	// open says per stream that its last entry was a piece of a longer line.
	open struct{ stdout, stderr bool }
	line []byte
}

// wants says that an entry's stream is asked for.
func (w *entryWriter) wants(e entry) bool { return w.stream(e) != nil }

func (w *entryWriter) stream(e entry) io.Writer {
	if e.stderr {
		return w.out.Stderr
	}
	return w.out.Stdout
}

// write writes one entry; errLimit means that nothing more is wanted.
func (w *entryWriter) write(line []byte) error {
	e, ok := parseEntry(line)
	if !ok {
		return nil
	}
	to := w.stream(e)
	if to == nil {
		return nil
	}
	at, ok := w.time(e)
	if !ok {
		return nil
	}
	open := &w.open.stdout
	if e.stderr {
		open = &w.open.stderr
	}
	w.line = w.line[:0]
	if w.options.Timestamps && !*open {
		w.line = append(at.AppendFormat(w.line, timeFormat), ' ')
	}
	w.line = append(w.line, e.text...)
	if !e.partial {
		w.line = append(w.line, '\n')
	}
	*open = e.partial
	return w.flush(to)
}

// time returns when the entry was written, as far as anybody asks; false leaves it out.
func (w *entryWriter) time(e entry) (time.Time, bool) {
	if !w.options.Timestamps && w.options.Since.IsZero() {
		return time.Time{}, true
	}
	at, err := time.Parse(time.RFC3339Nano, string(e.time))
	return at, err == nil && !at.Before(w.options.Since)
}

// idle says that nothing more is there for now.
func (w *entryWriter) idle() error {
	if w.out.Flush == nil {
		return nil
	}
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("write the container's log to its reader: %w", err)
	}
	return nil
}

func (w *entryWriter) flush(to io.Writer) error {
	line := w.line
	limited := w.options.LimitBytes != nil
	if limited {
		line = line[:min(int64(len(line)), w.remaining)]
		w.remaining -= int64(len(line))
	}
	if _, err := to.Write(line); err != nil {
		return fmt.Errorf("write the container's log to its reader: %w", err)
	}
	if limited && w.remaining == 0 {
		return errLimit
	}
	return nil
}

type entry struct {
	time, text []byte
	stderr     bool
	partial    bool
}

// parseEntry takes "<time> <stream> <tags> <text>\n"; tags are separated by colons and
// the first is F or P.
func parseEntry(line []byte) (entry, bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	at, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return entry{}, false
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || (string(stream) != stdout && string(stream) != stderr) {
		return entry{}, false
	}
	tags, text, ok := bytes.Cut(rest, []byte(" "))
	if !ok || len(tags) == 0 || (tags[0] != 'F' && tags[0] != 'P') {
		return entry{}, false
	}
	return entry{time: at, text: text, stderr: string(stream) == stderr, partial: tags[0] == 'P'}, true
}
