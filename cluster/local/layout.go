// Package local runs a whole cluster on one machine: etcd, kube-apiserver, the
// manager, the node agent and, where the machine has none, containerd, under one
// supervisor in the background.
//
// It owns its data directory, its run directory and the processes it started, and
// touches nothing else; what the node agent made (containers, interfaces, rules)
// is removed by the agent's own cleanup. Recovery after a crash: everything is
// derived from the settings in the data directory; `up` ends what a dead
// supervisor left behind and starts afresh, while containers keep running, and
// `down` works from any state, again and again.
package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Layout is where a cluster keeps its files.
type Layout struct {
	// Data outlives a reboot, Run does not.
	Data, Run string
}

func newLayout(dataDir, runDir string) (Layout, error) {
	data, err := filepath.Abs(dataDir)
	if err != nil {
		return Layout{}, fmt.Errorf("--data-dir: %w", err)
	}
	// Children are recognised by this path, so it must not depend on how the
	// person came here; one that is not there (yet, or any more) has no link but above it.
	if resolved, err := filepath.EvalSymlinks(data); err == nil {
		data = resolved
	} else if parent, err := filepath.EvalSymlinks(filepath.Dir(data)); err == nil {
		data = filepath.Join(parent, filepath.Base(data))
	}
	return Layout{Data: data, Run: filepath.Clean(runDir)}, nil
}

func (l Layout) settingsFile() string { return filepath.Join(l.Data, "cluster.json") }
func (l Layout) commandLock() string  { return filepath.Join(l.Data, "command.lock") }
func (l Layout) stateFile() string    { return filepath.Join(l.Data, "supervisor.json") }
func (l Layout) logDir() string       { return filepath.Join(l.Data, "logs") }
func (l Layout) pkiDir() string       { return filepath.Join(l.Data, "pki") }
func (l Layout) etcdDir() string      { return filepath.Join(l.Data, "etcd") }
func (l Layout) nodeDir() string      { return filepath.Join(l.Data, "node") }

// nodeConfigFile holds settings of the node that the cluster's owner may change.
func (l Layout) nodeConfigFile() string { return filepath.Join(l.Data, "node.yaml") }

// staticPodsDir is for manifests of the cluster's owner; down leaves them there.
func (l Layout) staticPodsDir() string { return filepath.Join(l.Data, "static-pods") }

// imagesDir is for archives of images, which nodes import: ours, and the owner's, which
// down leaves there.
func (l Layout) imagesDir() string  { return filepath.Join(l.Data, "images") }
func (l Layout) configDir() string  { return filepath.Join(l.Data, "config") }
func (l Layout) webhookDir() string { return filepath.Join(l.Data, "webhook") }

// nodesDir holds what several nodes keep, each in a folder of its name.
func (l Layout) nodesDir() string            { return filepath.Join(l.Data, "nodes") }
func (l Layout) nodeData(name string) string { return filepath.Join(l.nodesDir(), name) }

// nodePins holds the namespaces of several nodes, and appliedFile what the supervisor
// made of the last change to them.
func (l Layout) nodePins() string    { return filepath.Join(l.Run, "nodes") }
func (l Layout) appliedFile() string { return filepath.Join(l.Run, "nodes.json") }

func (l Layout) containerdRoot() string { return filepath.Join(l.Data, "containerd") }

// Kubeconfig is the file for the person who runs the cluster: through the gateway,
// where the kinds have their usual names.
func (l Layout) Kubeconfig() string { return filepath.Join(l.Data, "kubeconfig") }

// AdminKubeconfig leads to the API server itself, where they are custom resources.
func (l Layout) AdminKubeconfig() string { return filepath.Join(l.Data, "admin.kubeconfig") }

func (l Layout) kubeconfig(component string) string {
	return filepath.Join(l.configDir(), component+".kubeconfig")
}

func (l Layout) containerdConfig() string { return filepath.Join(l.configDir(), "containerd.toml") }

// supervisorLock is in the run directory, because names of interfaces and chains
// are too: a machine holds one cluster at a time.
func (l Layout) supervisorLock() string { return filepath.Join(l.Run, "supervisor.lock") }
func (l Layout) tenantFile() string     { return filepath.Join(l.Run, "data-dir") }

// settingsCopy lets `down` end a cluster whose data directory was removed by hand.
func (l Layout) settingsCopy() string { return filepath.Join(l.Run, "cluster.json") }

func (l Layout) containerdState() string { return filepath.Join(l.Run, "containerd", "state") }
func (l Layout) containerdSocket() string {
	return filepath.Join(l.Run, "containerd", "containerd.sock")
}

// owned are the files and folders in the data directory that `up` and its children
// make, in the order in which `down` removes them: the settings last, so that an
// interrupted `down` can be run again.
func (l Layout) owned() []string {
	return []string{
		l.etcdDir(), l.nodeDir(), l.nodesDir(), l.containerdRoot(), l.webhookDir(), l.configDir(), l.AdminKubeconfig(), l.Kubeconfig(),
		l.stateFile(), l.pkiDir(), l.logDir(), l.settingsFile(), l.nodeConfigFile(), l.commandLock(),
	}
}

// checkFresh refuses a data directory in which somebody keeps files under the names
// that the cluster would use, and `down` would remove.
func (l Layout) checkFresh() error {
	for _, path := range l.owned() {
		if path == l.commandLock() {
			continue
		}
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("--data-dir: %s is there already, and %s is not the folder of a cluster: choose an empty or a new one", path, l.Data)
		}
	}
	return nil
}

// tenant returns the data directory of the cluster that this machine runs, if any.
func (l Layout) tenant() (string, error) {
	data, err := os.ReadFile(l.tenantFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find out whose the run directory is: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// minSpace is what a new cluster takes before it does anything: etcd alone reserves
// 64 MiB for each of two files of its log.
const minSpace = 256 << 20

// checkSpace refuses a disk on which a new cluster could not even start: etcd says
// only that it cannot make its log.
func (l Layout) checkSpace(needed uint64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(l.Data, &fs); err != nil {
		return fmt.Errorf("find out how much space there is at %s: %w", l.Data, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < needed {
		return fmt.Errorf("--data-dir: only %d MiB are free at %s, and a new cluster needs %d MiB: make room, or choose a folder on another disk", free>>20, l.Data, needed>>20)
	}
	return nil
}

// lost says that this machine runs the cluster of a data directory whose files are
// not there any more.
func (l Layout) lost() (bool, error) {
	tenant, err := l.tenant()
	return err == nil && tenant == l.Data && !exists(l.settingsFile()) && exists(l.settingsCopy()), err
}

// checkNotLost refuses to start over what still runs without its files.
func (l Layout) checkNotLost() error {
	lost, err := l.lost()
	if err != nil || !lost {
		return err
	}
	return fmt.Errorf("the files in %s are gone, but their cluster was not ended: run 'keelson down --data-dir %s' first, which removes the rest of it", l.Data, l.Data)
}

// forget removes what little is made before there are settings; what follows from
// settings is removed by down.
func (l Layout) forget() error {
	tenant, err := l.tenant()
	if err != nil || exists(l.settingsFile()) || exists(l.settingsCopy()) && tenant == l.Data {
		return err // a cluster of ours: down has something to do
	}
	files := []string{l.commandLock()}
	if tenant == l.Data {
		files = append(files, l.tenantFile(), l.supervisorLock())
	}
	return errors.Join(removeAll(files...), removeIfEmpty(l.Run), removeIfEmpty(l.Data))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// ownedRun are the files and folders that `up` makes in the run directory.
func (l Layout) ownedRun() []string {
	return []string{filepath.Join(l.Run, "containerd"), l.appliedFile(), l.settingsCopy(), l.tenantFile(), l.supervisorLock()}
}

// Programs are the executables that a cluster consists of.
type Programs struct {
	Etcd, APIServer, Kubectl string
	Manager, Node, Gateway   string
	DNS                      string
	Pause, Logger            string
	Keelson, Containerd      string
}

// findPrograms looks where `make` puts them: our own beside this one, the control
// plane in KUBEBUILDER_ASSETS or the folder k8s beside this one.
func findPrograms(self string, getenv func(string) string) Programs {
	bin := filepath.Dir(self)
	assets := getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join(bin, "k8s")
	}
	return Programs{
		Etcd:       filepath.Join(assets, "etcd"),
		APIServer:  filepath.Join(assets, "kube-apiserver"),
		Kubectl:    filepath.Join(assets, "kubectl"),
		Manager:    filepath.Join(bin, "keelson-manager"),
		Node:       filepath.Join(bin, "keelson-node"),
		Gateway:    filepath.Join(bin, "keelson-gateway"),
		DNS:        filepath.Join(bin, "keelson-dns"),
		Pause:      filepath.Join(bin, "pause"),
		Logger:     filepath.Join(bin, "keelson-logger"),
		Keelson:    self,
		Containerd: "containerd",
	}
}

// executables are the base names by which leftover children are recognised.
func (p Programs) executables() []string {
	var names []string
	for _, path := range []string{p.Etcd, p.APIServer, p.Manager, p.Node, p.Gateway, p.Keelson, p.Containerd} {
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			path = resolved
		}
		names = append(names, filepath.Base(path))
	}
	return names
}

func selfPath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return self, nil
}
