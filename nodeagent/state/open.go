package state

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenRegular opens for reading a file that this agent or its programs have made, in a
// place that a Pod may reach through a hostPath volume. It follows no link at the end of
// path and opens nothing but an ordinary file, so that nobody is shown another file of
// the machine, or made to wait.
func OpenRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: it is no ordinary file: %s", path, info.Mode().Type())
	}
	if err != nil {
		_ = file.Close() // nothing was written
		return nil, err
	}
	return file, nil
}
