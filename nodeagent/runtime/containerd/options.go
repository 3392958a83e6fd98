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
	// StateDir holds the pipes of logs and the shared memory of Pods; it need not survive
	// a reboot. Everything in it belongs to this package.
	StateDir string
	// PauseBinary is the static pause program; default "pause" beside this executable.
	PauseBinary string
	// Snapshotter holds images and containers' file systems; default "overlayfs".
	Snapshotter string
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
	if o.PauseBinary == "" {
		executable, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find this executable, to look for the pause program beside it: %w", err)
		}
		o.PauseBinary = filepath.Join(filepath.Dir(executable), "pause")
	}
	var err error
	if o.PauseBinary, err = filepath.Abs(o.PauseBinary); err != nil {
		return o, fmt.Errorf("PauseBinary: %w", err)
	}
	return o, o.validate()
}

func (o Options) validate() error {
	var problems []error
	if !filepath.IsAbs(o.Address) {
		problems = append(problems, fmt.Errorf("Address %q must be an absolute path", o.Address))
	}
	if !filepath.IsAbs(o.StateDir) {
		problems = append(problems, fmt.Errorf("StateDir %q must be an absolute path", o.StateDir))
	}
	if info, err := os.Stat(o.PauseBinary); err != nil {
		problems = append(problems, fmt.Errorf("PauseBinary: %w; build it with make -C build/pause or name it with --pause-binary", err))
	} else if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		problems = append(problems, fmt.Errorf("PauseBinary %s is not an executable file", o.PauseBinary))
	}
	return errors.Join(problems...)
}
