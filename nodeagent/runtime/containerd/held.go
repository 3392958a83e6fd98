package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	utilsysctl "k8s.io/component-helpers/node/util/sysctl"

	"github.com/keelson-dev/keelson/nodeagent/namespaces"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// A sandbox that holds its namespaces by files needs no pause process (ADR 0045): the files
// lie in its folder and go with it. It runs as long as all of them are bound, which a restart
// of the machine ends.

// maxOwnShims is up to how many containers that run beside each other a Pod gets without a
// pause process. Without one each has a shim of its own, which costs more memory than the
// pause process and one shim for all from the third on.
const maxOwnShims = 2

// Files that namespaces are bound to in a sandbox's folder.
const (
	ipcFile = "ipc"
	utsFile = "uts"
)

// held are the namespaces of a sandbox without a process; an empty path is the machine's.
type held struct {
	Net string `json:"net,omitempty"`
	IPC string `json:"ipc,omitempty"`
	UTS string `json:"uts,omitempty"`
}

// needsProcess says that a sandbox cannot do without a pause process: its first process reaps
// for a shared PID namespace, owns the users of the others, or its shim serves many.
func needsProcess(config runtime.SandboxConfig) bool {
	return config.SharePID || config.Users != nil || config.Containers > maxOwnShims
}

// heldBy plans the namespaces of a sandbox without a process in its folder.
func heldBy(config runtime.SandboxConfig, dir string) *held {
	h := &held{Net: config.NetNSPath}
	if !config.HostIPC {
		h.IPC = filepath.Join(dir, ipcFile)
	}
	if config.Hostname != "" {
		h.UTS = filepath.Join(dir, utsFile)
	}
	return h
}

// own are the namespaces that this package made, not the Pod network.
func (h *held) own() []string {
	var paths []string
	for _, path := range []string{h.IPC, h.UTS} {
		if path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

// hold makes the namespaces and sets what is the Pod's in them.
func (h *held) hold(hostname string, sysctls map[string]string) error {
	if err := h.checkSysctls(sysctls); err != nil {
		return err
	}
	return namespaces.OnOwnThread(func() error {
		flags := 0
		if h.IPC != "" {
			flags |= unix.CLONE_NEWIPC
		}
		if h.UTS != "" {
			flags |= unix.CLONE_NEWUTS
		}
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("make the namespaces of a sandbox: %w", err)
		}
		if h.UTS != "" {
			if err := unix.Sethostname([]byte(hostname)); err != nil {
				return fmt.Errorf("set the host name %q of a sandbox: %w", hostname, err)
			}
		}
		if h.Net != "" {
			if err := namespaces.Enter(h.Net, unix.CLONE_NEWNET); err != nil {
				return err
			}
		}
		if err := setSysctls(sysctls); err != nil {
			return err
		}
		return h.bind()
	})
}

// bind makes files hold the namespaces of the calling thread.
func (h *held) bind() error {
	for name, path := range map[string]string{"ipc": h.IPC, "uts": h.UTS} {
		if path == "" {
			continue
		}
		if err := namespaces.Bind("/proc/thread-self/ns/"+name, path); err != nil {
			return err
		}
	}
	return nil
}

// checkSysctls refuses parameters that would be the machine's. Admission on the node has
// refused them before; runc does so a second time for a sandbox with a process.
func (h *held) checkSysctls(sysctls map[string]string) error {
	for name := range sysctls {
		var own bool
		switch namespace, _, _ := utilsysctl.GetNamespace(name); namespace {
		case utilsysctl.NetNamespace:
			own = h.Net != ""
		case utilsysctl.IPCNamespace:
			own = h.IPC != ""
		}
		if clean := filepath.Join("/", sysctlPath(name)); !own || clean != "/"+sysctlPath(name) {
			return fmt.Errorf("sysctl %q is not in a namespace of the Pod's own", name)
		}
	}
	return nil
}

// setSysctls sets kernel parameters for the namespaces of the calling thread.
func setSysctls(sysctls map[string]string) error {
	for name, value := range sysctls {
		path := filepath.Join("/proc/sys", sysctlPath(name))
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("set the sysctl %s of a sandbox: %w", name, err)
		}
	}
	return nil
}

// sysctlPath is where a parameter lies below /proc/sys. As sysctl(8) has it, the first
// separator tells which one the name is written with: a/b.c/d or a.b/c.d.
func sysctlPath(name string) string {
	first := strings.IndexAny(name, "./")
	if first < 0 || name[first] == '/' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		default:
			return r
		}
	}, name)
}

// alive tells whether the namespaces are still held.
func (h *held) alive() (bool, error) {
	for _, path := range h.own() {
		bound, err := namespaces.Bound(path)
		if !bound || err != nil {
			return false, err
		}
	}
	if h.Net == "" {
		return true, nil
	}
	return namespaces.Bound(h.Net)
}

// release lets go of the namespaces; processes in them keep them.
func (h *held) release() error {
	var errs []error
	for _, path := range h.own() {
		errs = append(errs, namespaces.Unbind(path))
	}
	return errors.Join(errs...)
}

// settleHeld finds out whether a sandbox without a process still runs. The object is busy.
func (r *Runtime) settleHeld(o *object) error {
	f := r.objects.facts(o)
	if f.status.finished() {
		return nil
	}
	alive, err := o.record.Held.alive()
	if err != nil {
		return err
	}
	switch {
	case alive && !f.running:
		r.objects.change(o, func(f *facts) { f.running = true })
	case !alive:
		r.sandboxEnded(o)
	}
	return nil
}

// stopHeld ends a sandbox without a process. When it is interrupted the next process finds
// a namespace missing, and so that the sandbox has ended.
func (r *Runtime) stopHeld(o *object) error {
	o.busy.Lock()
	defer o.busy.Unlock()
	if !r.objects.facts(o).running {
		return nil
	}
	if err := o.record.Held.release(); err != nil {
		return err
	}
	r.sandboxEnded(o)
	return nil
}
