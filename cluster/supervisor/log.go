package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"
)

const (
	logCheckPeriod = 5 * time.Second
	// maxLogSize times two is what one component's logs may take.
	maxLogSize = 16 << 20
)

// LogFile is where a component's output goes.
func LogFile(dir, component string) string { return filepath.Join(dir, component+".log") }

// openLog opens a log for a child to write to by itself: with a pipe through the
// supervisor, a killed supervisor would take every child with it (SIGPIPE).
func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return f, nil
}

// sizeOf is 0 for a log that is not there.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// maxLastLine is how much of a log's last line is worth telling.
const maxLastLine = 400

// lastLine returns the last line that was written to a log beyond the given size, or
// the one that begins a Go program's panic, for people to read: "" when there is
// nothing, or it cannot be read.
func lastLine(path string, beyond int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size := sizeOf(path)
	if size < beyond { // cut meanwhile: all of it is new
		beyond = 0
	}
	const window = 16 << 10
	from := max(beyond, size-window)
	text := make([]byte, size-from)
	n, err := f.ReadAt(text, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	line := lastWords(text[:n])
	if len(line) > maxLastLine {
		line = append(bytes.ToValidUTF8(line[:maxLastLine], nil), "…"...)
	}
	return string(line)
}

func lastWords(text []byte) []byte {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: ")) {
			return bytes.TrimSpace(line)
		}
	}
	text = bytes.TrimSpace(text)
	return text[bytes.LastIndexByte(text, '\n')+1:]
}

// rotateIfLarge copies a log beyond limit to path.1 and cuts it. Because the
// writer appends, it goes on at the start. Lines written between the copy and the
// cut are lost; that is the price of children that own their log.
func rotateIfLarge(path string, limit int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() <= limit {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, copyErr := io.Copy(to, from)
	if err := errors.Join(copyErr, to.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return os.Truncate(path, 0)
}

func (s *supervisor) keepLogsSmall(ctx context.Context) {
	ticker := s.options.Clock.NewTicker(logCheckPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		for _, c := range s.current() {
			if err := rotateIfLarge(LogFile(s.options.LogDir, c.Name), maxLogSize); err != nil {
				klog.FromContext(ctx).Error(err, "Cannot rotate a log", "component", c.Name)
			}
		}
	}
}
