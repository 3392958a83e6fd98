package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/keelson-dev/keelson/nodeagent/state"
)

// Options say which part of a container's log a reader wants.
type Options struct {
	// TailLines is how many of the last lines are wanted; nil means all. Pieces of one
	// line count as one, a line that has no end yet counts too.
	TailLines *int64
	// Since leaves out entries that are older; the zero time leaves out none.
	Since time.Time
	// LimitBytes ends the answer after so many bytes, times included; nil means never.
	LimitBytes *int64
	// Timestamps puts the time before each line.
	Timestamps bool
	// Follow goes on with what is written later, until Ended is closed and the file has
	// been read to its end. A nil Ended never is.
	Follow bool
	Ended  <-chan struct{}
}

// Output takes what a container wrote.
type Output struct {
	// Stdout and Stderr may be the same; nil ones are not wanted.
	Stdout, Stderr io.Writer
	// Flush is called when all that is in the file now has been written, if it is set.
	Flush func() error
}

// timeFormat always shows nine digits, as the API does.
const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// Read writes the log file at path to out and returns when it has ended, ctx has, or a
// writer fails; the end of ctx is an error. It holds one entry at a time. Entries that
// are not in the format are skipped. When the file is replaced or cut while it is
// followed, as by rotation, the rest of the old one comes first.
func Read(ctx context.Context, path string, o Options, out Output) error {
	file, err := openLog(path)
	if err != nil {
		return fmt.Errorf("open container log: %w", err)
	}
	r := &reader{path: path, file: file, writer: entryWriter{options: o, out: out}}
	defer func() { r.file.Close() }()
	if o.LimitBytes != nil {
		r.writer.remaining = *o.LimitBytes
	}
	// The watch begins before the end of the file is looked for.
	if o.Follow {
		if r.changes, err = watch(path); err != nil {
			return err
		}
		defer r.changes.close()
	} else if r.until, err = sizeOf(file); err != nil {
		return fmt.Errorf("look at container log %s: %w", path, err)
	}
	if o.TailLines != nil {
		if r.offset, err = tailOffset(file, *o.TailLines, r.writer.wants); err != nil {
			return fmt.Errorf("read the end of container log %s: %w", path, err)
		}
	}
	err = r.run(ctx, o)
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// Follow writes to out what is written to the log file at path from now on, until ended
// is closed and the file has been read to its end.
func Follow(ctx context.Context, path string, ended <-chan struct{}, out Output) error {
	return Read(ctx, path, Options{Follow: true, Ended: ended, TailLines: new(int64)}, out)
}

// reader goes through one log file and its successors.
type reader struct {
	path   string
	file   *os.File
	offset int64 // of the first byte that was not written out
	// until is where the file ended when it was opened, for a reader that does not follow:
	// who asks for the last line gets one, however fast the container writes.
	until   int64
	writer  entryWriter
	changes *changes
}

func (r *reader) run(ctx context.Context, o Options) error {
	for {
		ended := !o.Follow || closed(o.Ended) // before the drain: nothing comes after the end
		if err := r.drain(ctx); err != nil {
			return err
		}
		if ended {
			replaced, err := r.next(ctx)
			if err != nil || !replaced || !o.Follow {
				return err
			}
			continue
		}
		replaced, err := r.next(ctx)
		if err != nil {
			return err
		}
		if replaced {
			continue
		}
		if err := r.changes.wait(ctx, o.Ended); err != nil {
			return fmt.Errorf("follow container log %s: %w", r.path, err)
		}
	}
}

// drain writes every whole entry from offset to the end of the file.
func (r *reader) drain(ctx context.Context) error {
	if _, err := r.file.Seek(r.offset, io.SeekStart); err != nil {
		return fmt.Errorf("read container log %s: %w", r.path, err)
	}
	if r.until > 0 {
		return r.drainFrom(ctx, io.LimitReader(r.file, r.until-r.offset))
	}
	return r.drainFrom(ctx, r.file)
}

func sizeOf(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// drainFrom writes every whole entry of from, and moves the offset on.
func (r *reader) drainFrom(ctx context.Context, from io.Reader) error {
	lines := bufio.NewReaderSize(from, lineBuffer)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return r.writer.idle() // a torn entry is read again when it is whole
		case errors.Is(err, bufio.ErrBufferFull):
			// No entry is this long: skip it.
			skipped, err := skipLine(lines)
			if err != nil {
				return r.writer.idle() // the end of the line is not there yet
			}
			r.offset += int64(len(line)) + skipped
			continue
		case err != nil:
			return fmt.Errorf("read container log %s: %w", r.path, err)
		}
		r.offset += int64(len(line))
		if err := r.writer.write(line); err != nil {
			return err
		}
	}
}

// skipLine reads to the end of a line and returns its length.
func skipLine(lines *bufio.Reader) (int64, error) {
	var length int64
	for {
		part, err := lines.ReadSlice('\n')
		length += int64(len(part))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return length, err
		}
	}
}

// next turns to the file that follows, if the one at the path is another one now, or was
// cut. What was written to the old one before the new one was made is read first.
func (r *reader) next(ctx context.Context) (bool, error) {
	if r.changes == nil {
		return false, nil
	}
	mine, err := r.file.Stat()
	if err != nil {
		return false, fmt.Errorf("read container log %s: %w", r.path, err)
	}
	if mine.Size() < r.offset {
		r.offset = 0
		return true, nil
	}
	there, err := os.Stat(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // renamed, and not yet made again; or removed for good
	}
	if err != nil {
		return false, fmt.Errorf("read container log: %w", err)
	}
	if os.SameFile(mine, there) {
		return false, nil
	}
	// The writer opened the new file after its last write to the old one, whose size is
	// final only now.
	if mine, err = r.file.Stat(); err != nil {
		return false, fmt.Errorf("read container log %s: %w", r.path, err)
	}
	if mine.Size() > r.offset && !r.torn(mine.Size()) {
		return true, nil
	}
	return r.turnTo(ctx)
}

// turnTo opens the file that follows, and says whether there is one.
func (r *reader) turnTo(ctx context.Context) (bool, error) {
	name, err := r.successor()
	if err != nil {
		return false, err
	}
	file, err := state.OpenRegular(name)
	if errors.Is(err, os.ErrNotExist) {
		return name != r.path, nil // compressed or removed in this moment: look again
	}
	if err != nil {
		return false, fmt.Errorf("open container log: %w", err)
	}
	r.file.Close()
	r.file, r.offset = file, 0
	if strings.HasSuffix(name, CompressedSuffix) {
		return true, r.passCompressed(ctx, file)
	}
	return true, nil
}

// torn says that no entry ends between offset and the end of the file at size.
func (r *reader) torn(size int64) bool {
	lines := bufio.NewReader(io.NewSectionReader(r.file, r.offset, size-r.offset))
	_, err := skipLine(lines)
	return err != nil
}

func closed(ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}
