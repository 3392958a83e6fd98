package containerd

import (
	"errors"
	"fmt"
	"os"
	"regexp"

	tasktypes "github.com/containerd/containerd/api/types"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// On a machine with SELinux the processes of a Pod have a label with two categories of their
// own, and so have the files that are made for it: those of other Pods cannot be touched, even
// by root. Where the policy has no type for containers (lxc_contexts), nothing is labelled.
// Categories are taken from a set in this process's memory; resync reserves those in use.

// labels are those of one container or sandbox, empty where the machine has no SELinux.
type labels struct {
	// process is what runs, mount is what it sees.
	process, mount string
}

// levels are those that containerd's CRI plug-in takes.
var levels = regexp.MustCompile(`^s\d(-s\d)??(:c\d{1,4}(\.c\d{1,4})?(,c\d{1,4}(\.c\d{1,4})?)*)?$`)

// labelOptions are what go-selinux makes labels of: the parts that the Pod chooses.
func labelOptions(of *runtime.SELinux) ([]string, error) {
	if of == nil {
		return nil, nil
	}
	if of.Level != "" && !levels.MatchString(of.Level) {
		return nil, fmt.Errorf("the format of 'level' %q is not correct", of.Level)
	}
	var options []string
	for _, part := range []struct{ name, value string }{{"user", of.User}, {"role", of.Role}, {"type", of.Type}, {"level", of.Level}} {
		if part.value != "" {
			options = append(options, part.name+":"+part.value)
		}
	}
	return options, nil
}

// newLabels makes labels of what a Pod or container says, else those of the Pod's processes.
// own says that their categories are nobody else's, and are to be released.
func newLabels(of *runtime.SELinux, podProcess string) (made labels, own bool, err error) {
	if !selinux.GetEnabled() {
		return labels{}, false, nil
	}
	options, err := labelOptions(of)
	if err != nil {
		return labels{}, false, err
	}
	if len(options) == 0 && podProcess != "" {
		if options, err = selinux.DupSecOpt(podProcess); err != nil {
			return labels{}, false, fmt.Errorf("read the SELinux label of the Pod: %w", err)
		}
	} else {
		own = true
	}
	made.process, made.mount, err = label.InitLabels(options)
	if err != nil {
		return labels{}, false, fmt.Errorf("failed to init selinux options %+v: %w", of, err)
	}
	return made, own, nil
}

// label gives the container its labels and notes them in the record.
func (in *specInput) label(to *record, podProcess string) error {
	given, own, err := newLabels(in.config.Security.SELinux, podProcess)
	if err != nil {
		return err
	}
	in.labels, to.MountLabel = given, given.mount
	if own {
		to.ProcessLabel = given.process
	}
	return nil
}

// applyLabels changes a rendered spec. Privileged processes keep the runtime's own label.
func applyLabels(spec *specs.Spec, given labels, privileged bool) {
	spec.Linux.MountLabel = given.mount
	if !privileged {
		spec.Process.SelinuxLabel = given.process
	}
}

// relabel gives files of the machine that are made for the container alone its label.
func relabel(mounts []runtime.Mount, mountLabel string) error {
	if mountLabel == "" {
		return nil
	}
	for _, m := range mounts {
		if !m.Relabel {
			continue
		}
		if err := label.Relabel(m.HostPath, mountLabel, false); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("relabel %q with %q failed: %w", m.HostPath, mountLabel, err)
		}
	}
	return nil
}

// withContext makes the files of a new file system have a label. A bind mount has that of
// what it shows.
func withContext(mounts []*tasktypes.Mount, mountLabel string) {
	for _, m := range mounts {
		if mountLabel != "" && m.Type != "bind" {
			m.Options = append(m.Options, contextOption(mountLabel))
		}
	}
}

// contextOption is the mount option; the commas between categories are not those of options.
func contextOption(mountLabel string) string { return fmt.Sprintf("context=%q", mountLabel) }
