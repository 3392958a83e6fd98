package logs

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// tailOffset returns where the last count lines of the entries that are wanted begin. It
// reads backwards, and holds one entry and a chunk at most.
func tailOffset(file *os.File, count int64, wanted func(entry) bool) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	b := &backwards{file: file, start: info.Size()}
	// What comes after the last newline is an entry that is being written: it is read
	// when it is whole.
	if err := b.dropTorn(); err != nil {
		return 0, err
	}
	found := int64(0)
	// counted says per stream that the line to which an earlier piece would belong has
	// been counted already.
	var counted struct{ stdout, stderr bool }
	for {
		end := b.end()
		line, err := b.previous()
		if err != nil || line == nil {
			return 0, err
		}
		e, ok := parseEntry(line)
		if !ok || !wanted(e) {
			continue
		}
		open := &counted.stdout
		if e.stderr {
			open = &counted.stderr
		}
		if e.partial && *open {
			continue // an earlier piece of a line that counts already
		}
		if found == count {
			return end, nil
		}
		found, *open = found+1, true
	}
}

// backwards goes through the lines of a file from its end.
type backwards struct {
	file *os.File
	// start is the offset of data in the file; data ends where the next line ends.
	start int64
	data  []byte
}

func (b *backwards) end() int64 { return b.start + int64(len(b.data)) }

// longestLine bounds what is kept of a line, in bytes; a longer one is no entry.
const longestLine = 4 * lineBuffer

// fill reads one chunk more; false means that there is none.
func (b *backwards) fill() (bool, error) {
	length := min(b.start, tailChunk)
	if length == 0 {
		return false, nil
	}
	data := make([]byte, length+int64(len(b.data)))
	if _, err := b.file.ReadAt(data[:length], b.start-length); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	copy(data[length:], b.data)
	b.start, b.data = b.start-length, data
	return true, nil
}

func (b *backwards) dropTorn() error {
	for {
		if i := bytes.LastIndexByte(b.data, '\n'); i >= 0 {
			b.data = b.data[:i+1]
			return nil
		}
		b.data = nil // without an end it is no entry, however long
		more, err := b.fill()
		if err != nil || !more {
			return err
		}
	}
}

// previous returns the line that ends at end, nil before the first one.
func (b *backwards) previous() ([]byte, error) {
	for {
		if len(b.data) > 0 {
			if i := bytes.LastIndexByte(b.data[:len(b.data)-1], '\n'); i >= 0 {
				line := b.data[i+1:]
				b.data = b.data[:i+1]
				return line, nil
			}
		}
		if len(b.data) > longestLine {
			b.data = b.data[:0:0] // not an entry: go on before it
			if err := b.dropTorn(); err != nil {
				return nil, err
			}
			continue
		}
		more, err := b.fill()
		if err != nil {
			return nil, err
		}
		if !more {
			line := b.data
			b.data = nil
			if len(line) == 0 {
				return nil, nil
			}
			return line, nil
		}
	}
}
