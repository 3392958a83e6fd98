package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/hostfiles"
	"github.com/keelson-dev/keelson/nodeagent/logs"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/state"
)

const (
	hostsMount    = "/etc/hosts"
	resolvMount   = "/etc/resolv.conf"
	hostnameMount = "/etc/hostname"

	// maxTerminationMessage is what is read of a termination message, in bytes.
	maxTerminationMessage = 4096
)

// PodsFolder is the name of PodsDir below the root folder.
const PodsFolder = "pods"

// PodsDir holds one folder for each Pod, named by its UID. It is made before anything
// else of the Pod is on disk, and removed last.
func (m *Manager) PodsDir() string { return filepath.Join(m.RootDir, PodsFolder) }

func (m *Manager) podDir(id runtime.PodIdentity) string {
	return filepath.Join(m.PodsDir(), string(id.UID))
}

// logDir holds the logs of all containers of a Pod.
func (m *Manager) logDir(id runtime.PodIdentity) string {
	return filepath.Join(m.PodLogDir, logDirName(id))
}

// logDirName is the name of a Pod's folder of logs, as upstream.
func logDirName(id runtime.PodIdentity) string {
	return fmt.Sprintf("%s_%s_%s", id.Namespace, id.Name, id.UID)
}

func (m *Manager) makeLogFolder(id runtime.PodIdentity, container string, attempt uint32) (string, error) {
	dir := filepath.Join(m.logDir(id), container)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the folder of logs: %w", err)
	}
	return filepath.Join(dir, strconv.FormatUint(uint64(attempt), 10)+".log"), nil
}

func (m *Manager) logLink(id runtime.PodIdentity, container, containerID string) string {
	return filepath.Join(m.ContainerLogDir, fmt.Sprintf("%s_%s_%s-%s.log", id.Name, id.Namespace, container, containerID))
}

func (m *Manager) linkLog(id runtime.PodIdentity, container, containerID, logPath string) error {
	if err := os.MkdirAll(m.ContainerLogDir, 0o755); err != nil {
		return err
	}
	err := os.Symlink(logPath, m.logLink(id, container, containerID))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// writePodFiles writes what the Pod sees in /etc. The files follow from the Pod and
// can be made again at any time, so they are not synced to disk; one that already
// says the right thing is left alone, because containers have it mounted.
func (m *Manager) writePodFiles(pod *keelsonv1.Pod, attachment Attachment) error {
	files, notices, err := m.renderPodFiles(pod, attachment)
	if err != nil {
		return err
	}
	dir := filepath.Join(m.podDir(identity(pod)), "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the Pod's folder: %w", err)
	}
	changed := false
	for name, content := range files {
		path := filepath.Join(dir, name)
		if have, err := os.ReadFile(path); err == nil && string(have) == content {
			continue
		}
		changed = true
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing the Pod's %s: %w", name, err)
		}
	}
	if changed {
		for _, n := range notices {
			m.Recorder.Record(pod, Note{Type: corev1.EventTypeWarning, Reason: n.Reason, Message: n.Message})
		}
	}
	return nil
}

func (m *Manager) renderPodFiles(pod *keelsonv1.Pod, attachment Attachment) (map[string]string, []hostfiles.Notice, error) {
	machineResolver, err := readOptional(m.ResolverFile)
	if err != nil {
		return nil, nil, err
	}
	resolver, notices := hostfiles.ComputeResolver(pod, m.DNS, hostfiles.ParseResolver(machineResolver))
	files := map[string]string{"resolv.conf": resolver.Render()}
	if pod.Spec.HostNetwork {
		machineHosts, err := readOptional(m.HostsFile)
		if err != nil {
			return nil, nil, err
		}
		files["hosts"] = hostfiles.RenderHostNetworkHosts(machineHosts, pod.Spec.HostAliases)
		files["hostname"] = m.Hostname + "\n"
		return files, notices, nil
	}
	hostname, domain, err := hostfiles.Hostname(pod, m.DNS.Domain)
	if err != nil {
		return nil, nil, err
	}
	files["hosts"] = hostfiles.RenderHosts(attachment.IPs(), hostname, domain, pod.Spec.HostAliases)
	kernel, err := hostfiles.KernelHostname(pod, m.DNS.Domain)
	if err != nil {
		return nil, nil, err
	}
	files["hostname"] = kernel + "\n"
	return files, notices, nil
}

func readOptional(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(data), err
}

// mounts lists what the agent puts into every container. A path that the container
// mounts itself is left to it.
func (m *Manager) mounts(pod *keelsonv1.Pod, c *corev1.Container, terminationMessage string) []runtime.Mount {
	etc := filepath.Join(m.podDir(identity(pod)), "etc")
	readOnly := c.SecurityContext != nil && is(c.SecurityContext.ReadOnlyRootFilesystem, true)
	mounts := []runtime.Mount{
		{HostPath: filepath.Join(etc, "hosts"), ContainerPath: hostsMount, ReadOnly: readOnly, Relabel: true},
		{HostPath: filepath.Join(etc, "resolv.conf"), ContainerPath: resolvMount, ReadOnly: readOnly, Relabel: true},
		{HostPath: filepath.Join(etc, "hostname"), ContainerPath: hostnameMount, ReadOnly: readOnly, Relabel: true},
	}
	if terminationMessage != "" {
		mounts = append(mounts, runtime.Mount{HostPath: terminationMessage, ContainerPath: c.TerminationMessagePath, Relabel: true})
	}
	return slices.DeleteFunc(mounts, func(mount runtime.Mount) bool {
		return slices.ContainsFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool {
			return filepath.Clean(v.MountPath) == mount.ContainerPath
		})
	})
}

// makeTerminationFile makes the empty file that the container may leave its last
// words in; any user may write it.
func (m *Manager) makeTerminationFile(pod *keelsonv1.Pod, c *corev1.Container, attempt uint32) (string, error) {
	if c.TerminationMessagePath == "" {
		return "", nil
	}
	dir := filepath.Join(m.podDir(identity(pod)), "containers", c.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the container's folder: %w", err)
	}
	path := filepath.Join(dir, strconv.FormatUint(uint64(attempt), 10))
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return "", fmt.Errorf("making the termination message file: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { // the umask may have cut it
		return "", fmt.Errorf("making the termination message file: %w", err)
	}
	return path, nil
}

// withMessages returns state with the termination messages of ended containers.
func (m *Manager) withMessages(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState) runtime.PodState {
	state.Containers = slices.Clone(state.Containers)
	for i := range state.Containers {
		c := &state.Containers[i]
		if c.State != runtime.Exited || c.TerminationMessageHostPath == "" {
			continue
		}
		message, err := terminationMessage(pod, c)
		if err != nil {
			klog.FromContext(ctx).V(2).Info("Cannot read the termination message", "container", c.Name, "err", err)
		}
		if message != "" {
			c.Message = message
		}
	}
	return state
}

// terminationMessage reads the message that a container left, or the end of its log
// where its policy says so.
func terminationMessage(pod *keelsonv1.Pod, c *runtime.Container) (string, error) {
	data, err := readAtMost(c.TerminationMessageHostPath, maxTerminationMessage)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(data) > 0 || c.ExitCode == 0 || c.Message != "" || !fallsBackToLogs(pod, c.Name) {
		return string(data), nil
	}
	text, err := logs.Tail(c.LogPath, logs.TerminationLines, logs.TerminationBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return text, err
}

func fallsBackToLogs(pod *keelsonv1.Pod, container string) bool {
	falls := func(c *corev1.Container) bool {
		return c.Name == container && c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError
	}
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return falls(&c) }) ||
		slices.ContainsFunc(pod.Spec.EphemeralContainers, func(e corev1.EphemeralContainer) bool { return falls(ephemeral(&e)) })
}

func readAtMost(path string, limit int64) ([]byte, error) {
	file, err := state.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}
