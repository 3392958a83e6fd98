package containerd

import (
	"bytes"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/logs"
)

// logTime shows nine digits, as the logger program does.
const logTime = "2006-01-02T15:04:05.000000000Z"

// logFile appends the output of an interactive container to its log. A piece of a line
// is written when it is read, so that nothing is lost with this process. What the disk
// does not take is dropped and counted: a container never waits for the disk.
type logFile struct {
	path  string
	clock clock.PassiveClock

	mu   sync.Mutex
	file *os.File
	// lost are bytes of output that could not be written, cause says why.
	lost  int
	cause error
	// entries is what is being written.
	entries []byte
}

// logStream is one output of the container.
type logStream struct {
	log  *logFile
	name string
	// inLine says that the last entry was a piece of a line.
	inLine bool
}

func (s *logStream) write(text []byte) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.inLine = s.log.render(s.name, text)
	s.log.flush(len(text))
}

// end finishes a line that has no end.
func (s *logStream) end() {
	if s.inLine {
		s.write([]byte("\n"))
	}
}

// render makes entries of text and says whether the last one is a piece of a line.
func (l *logFile) render(stream string, text []byte) (inLine bool) {
	l.entries = l.entries[:0]
	if l.lost > 0 {
		l.entry("stderr", 'F', fmt.Appendf(nil, "keelson: %d bytes of output were lost here: %v", l.lost, l.cause))
	}
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		for len(line) > logs.MaxLine {
			l.entry(stream, 'P', line[:logs.MaxLine])
			line = line[logs.MaxLine:]
		}
		tag := byte('P')
		if whole {
			tag = 'F'
		}
		l.entry(stream, tag, line)
		text, inLine = rest, !whole
	}
	return inLine
}

func (l *logFile) entry(stream string, tag byte, text []byte) {
	l.entries = l.clock.Now().UTC().AppendFormat(l.entries, logTime)
	l.entries = fmt.Appendf(l.entries, " %s %c ", stream, tag)
	l.entries = append(append(l.entries, text...), '\n')
}

// flush writes the entries, which hold the given number of bytes of output, all or none.
func (l *logFile) flush(bytes int) {
	err := l.append(l.entries)
	if err != nil {
		l.lost, l.cause = l.lost+bytes, err
	} else {
		l.lost = 0
	}
}

// open opens the file at the path, and makes it if there is none.
func (l *logFile) open() (*os.File, error) {
	return os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o640)
}

// reopen turns to the file that is at the path now. When there cannot be one, it goes on
// with the old one.
func (l *logFile) reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	file, err := l.open()
	if err != nil {
		return fmt.Errorf("reopening the log of a container: %w", err)
	}
	if l.file != nil {
		_ = l.file.Close() // every entry has been written
	}
	l.file = file
	return nil
}

func (l *logFile) append(data []byte) error {
	if l.file == nil {
		file, err := l.open()
		if err != nil {
			return err
		}
		l.file = file
	}
	written, err := l.file.Write(data)
	if err == nil || written == 0 {
		return err
	}
	// A torn entry comes off the file again.
	if info, statErr := l.file.Stat(); statErr == nil {
		_ = l.file.Truncate(info.Size() - int64(written)) // else readers skip it
	}
	return err
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close() // every entry has been written
		l.file = nil
	}
}
