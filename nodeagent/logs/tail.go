package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Limits of a termination message taken from the log (terminationMessagePolicy
// FallbackToLogsOnError), as upstream.
const (
	TerminationLines = 80
	TerminationBytes = 2048
)

const tailChunk = 32 << 10

// Tail returns the text of the last maxLines lines of a log file, without times and
// stream names, and of that the last maxBytes bytes. Entries that are not in the CRI
// format are skipped.
func Tail(path string, maxLines, maxBytes int) (string, error) {
	file, err := openLog(path)
	if err != nil {
		return "", fmt.Errorf("open container log: %w", err)
	}
	defer file.Close()
	data, err := lastEntries(file, maxLines, maxBytes)
	if err != nil {
		return "", fmt.Errorf("read the end of container log %s: %w", path, err)
	}
	return tailText(data, maxLines, maxBytes), nil
}

// lastEntries reads backwards until it holds enough for tailText.
func lastEntries(file *os.File, maxLines, maxBytes int) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var data []byte
	for start := info.Size(); start > 0; {
		length := min(start, tailChunk)
		start -= length
		chunk := make([]byte, length, length+int64(len(data)))
		if _, err := file.ReadAt(chunk, start); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		data = append(chunk, data...)
		whole := data
		if start > 0 { // the first entry may be torn
			whole = data[bytes.IndexByte(data, '\n')+1:]
		}
		lines, text := measure(whole)
		if lines > maxLines || text >= maxBytes {
			return whole, nil
		}
	}
	return data, nil
}

// measure counts complete lines and bytes of text.
func measure(data []byte) (lines, text int) {
	for entry := range bytes.Lines(data) {
		parsed, ok := parseEntry(entry)
		if !ok {
			continue
		}
		text += len(parsed.text)
		if !parsed.partial {
			lines++
			text++
		}
	}
	return lines, text
}

// tailText joins the pieces of lines and applies both limits.
func tailText(data []byte, maxLines, maxBytes int) string {
	var lines [][]byte
	var line []byte
	open := false
	for entry := range bytes.Lines(data) {
		parsed, ok := parseEntry(entry)
		if !ok {
			continue
		}
		line = append(line, parsed.text...)
		open = parsed.partial
		if !parsed.partial {
			lines = append(lines, append(line, '\n'))
			line = nil
		}
	}
	if open {
		lines = append(lines, line)
	}
	if len(lines) > maxLines {
		lines = lines[len(lines)-maxLines:]
	}
	text := slices.Concat(lines...)
	if len(text) > maxBytes {
		text = text[len(text)-maxBytes:]
	}
	return string(text)
}
