package containerd

import (
	"fmt"
	"net/url"
	"os"

	"golang.org/x/sys/unix"
)

// outputURI tells the shim where a container's output goes: it starts the program as
// "<program> log <path>" and gives it the reading ends of two pipes (binary logging).
func outputURI(program, path string) string {
	uri := url.URL{Scheme: "binary", Path: program, RawQuery: url.Values{"log": {path}}.Encode()}
	return uri.String()
}

// makeLog creates the log file of a container. The logger would wait for a missing
// folder and drop output until then; the start is the place to complain.
func makeLog(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return fmt.Errorf("create container log: %w", err)
	}
	return file.Close()
}
