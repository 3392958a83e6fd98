package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keelson-dev/keelson/nodeagent/state"
)

// Suffixes of the files that rotation leaves beside a log, as upstream's kubelet: the
// log's name, a dot and a time, and one of these.
const (
	CompressedSuffix = ".gz"
	TemporarySuffix  = ".tmp"
)

// Rotated returns the files that rotation has left beside the log at path, with those of
// an interrupted compression, oldest first.
func Rotated(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path)) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the logs beside %s: %w", path, err)
	}
	prefix := filepath.Base(path) + "."
	var files []string
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), prefix); ok && rest != "" {
			files = append(files, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return files, nil
}

// openLog opens the log at path. In the moment between its renaming and the writer's
// answer that is the file that was put aside last.
func openLog(path string) (*os.File, error) {
	file, err := state.OpenRegular(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	files, listErr := Rotated(path)
	if listErr != nil || len(files) == 0 || strings.HasSuffix(files[len(files)-1], CompressedSuffix) {
		return nil, err
	}
	aside, asideErr := state.OpenRegular(files[len(files)-1])
	if asideErr != nil {
		return nil, err
	}
	return aside, nil
}

// successor returns the file that follows the one that is open, after rotation: one that
// was put aside later, or the log itself.
func (r *reader) successor() (string, error) {
	files, err := Rotated(r.path)
	if err != nil {
		return "", err
	}
	// The kernel knows the name, also after the file was compressed and removed.
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(r.file.Fd())))
	if err != nil {
		return "", fmt.Errorf("read the name of container log %s: %w", r.path, err)
	}
	name = filepath.Base(strings.TrimSuffix(name, " (deleted)"))
	if !strings.HasPrefix(name, filepath.Base(r.path)+".") {
		return r.path, nil
	}
	for _, file := range files {
		if strings.HasSuffix(file, TemporarySuffix) || strings.TrimSuffix(filepath.Base(file), CompressedSuffix) <= name {
			continue
		}
		return file, nil
	}
	return r.path, nil
}

// passCompressed writes a compressed log to out and takes it for read to its end, so
// that its successor is looked for next.
func (r *reader) passCompressed(ctx context.Context, file *os.File) error {
	plain, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("read container log %s: %w", file.Name(), err)
	}
	if err := r.drainFrom(ctx, plain); err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("read container log %s: %w", file.Name(), err)
	}
	r.offset = info.Size()
	return nil
}
