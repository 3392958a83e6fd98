package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
)

// Options configure a Runtime.
type Options struct {
	// Address is containerd's socket; default /run/containerd/containerd.sock.
	Address string
	// Namespace is the containerd namespace of everything this package creates;
	// default "keelson".
	Namespace string
	// StateDir holds the shared memory of Pods; it need not survive a reboot. Everything in
	// it belongs to this package.
	StateDir string
	// PauseBinary is the static pause program; default "pause" beside this executable.
	PauseBinary string
	// LoggerBinary is the static program that writes the log of a container; default
	// "keelson-logger" beside this executable.
	LoggerBinary string
	// Snapshotter holds images and containers' file systems; default "overlayfs".
	Snapshotter string
	// RegistryConfigDir is containerd's folder of registry configurations, such as
	// /etc/containerd/certs.d: mirrors, authorities. Empty, or without an entry for a
	// registry: the registry itself is asked.
	RegistryConfigDir string
	// Clock is for tests.
	Clock clock.Clock
	// Log is silent by default.
	Log logr.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.Address == "" {
		o.Address = "/run/containerd/containerd.sock"
	}
	if o.Namespace == "" {
		o.Namespace = "keelson"
	}
	if o.Snapshotter == "" {
		o.Snapshotter = "overlayfs"
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Log.IsZero() {
		o.Log = logr.Discard()
	}
	var err error
	if o.PauseBinary, err = programPath(o.PauseBinary, "pause"); err != nil {
		return o, fmt.Errorf("PauseBinary: %w", err)
	}
	if o.LoggerBinary, err = programPath(o.LoggerBinary, "keelson-logger"); err != nil {
		return o, fmt.Errorf("LoggerBinary: %w", err)
	}
	return o, o.validate()
}

// programPath is the absolute path of a program that lies beside this executable
// unless it is named.
func programPath(named, name string) (string, error) {
	if named != "" {
		return filepath.Abs(named)
	}
	executable, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this executable, to look for %s beside it: %w", name, err)
	}
	return filepath.Join(filepath.Dir(executable), name), nil
}

func (o Options) validate() error {
	var problems []error
	if !filepath.IsAbs(o.Address) {
		problems = append(problems, fmt.Errorf("Address %q must be an absolute path", o.Address))
	}
	if !filepath.IsAbs(o.StateDir) {
		problems = append(problems, fmt.Errorf("StateDir %q must be an absolute path", o.StateDir))
	}
	if o.RegistryConfigDir != "" && !filepath.IsAbs(o.RegistryConfigDir) {
		problems = append(problems, fmt.Errorf("RegistryConfigDir %q must be an absolute path", o.RegistryConfigDir))
	}
	problems = append(problems,
		checkProgram("PauseBinary", o.PauseBinary, "make -C build/pause", "--pause-binary"),
		checkProgram("LoggerBinary", o.LoggerBinary, "make -C build/logger", "--logger-binary"))
	return errors.Join(problems...)
}

func checkProgram(field, path, build, flag string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w; build it with %s or name it with %s", field, err, build, flag)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s %s is not an executable file", field, path)
	}
	return nil
}
