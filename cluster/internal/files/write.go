// Package files replaces files so that a reader, or a process killed at any
// instruction, sees either the old content or the new one, never a part.
package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Replace writes data to path through a temporary file beside it and makes the
// change durable before it returns.
func Replace(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-")
	if err != nil {
		return fmt.Errorf("create a temporary file beside %s: %w", path, err)
	}
	_, writeErr := tmp.Write(data)
	err = errors.Join(writeErr, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open %s to make a change in it durable: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("make a change in %s durable: %w", dir, err)
	}
	return nil
}
