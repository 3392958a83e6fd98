// Package cluster starts a Keelson cluster as its user does, with `keelson up`, and
// an image registry beside it, for programs that drive one: the end-to-end tests and
// the benchmarks. It belongs on a throw-away machine (test/env/machine) and keeps
// nothing outside its data directory; a run that was killed leaves that directory.
package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/keelson-dev/keelson/test/env/leaks"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// Cluster is one that `keelson up` started, and an image registry beside it.
type Cluster struct {
	// Root is the module's folder, DataDir that of the cluster.
	Root, DataDir string
	// KubectlPath is stock kubectl.
	KubectlPath string
	// Registry serves the test images.
	Registry    *imagebuild.Registry
	keelsonPath string
	before      leaks.Snapshot
	// upFlags are those of `keelson up` beside the data directory.
	upFlags []string
}

// New prepares a cluster from the programs below root/bin without starting it.
func New(root string) (*Cluster, error) { return newCluster(root, "127.0.0.1:0") }

func newCluster(root, registry string) (*Cluster, error) {
	c := &Cluster{
		Root:        root,
		KubectlPath: filepath.Join(AssetsDir(root), "kubectl"),
		keelsonPath: filepath.Join(root, "bin/keelson"),
	}
	for _, program := range []string{c.KubectlPath, c.keelsonPath} {
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("%w: run `make build k8s` first", err)
		}
	}
	var err error
	if c.before, err = leaks.Take(); err != nil {
		return nil, err
	}
	if c.DataDir, err = os.MkdirTemp("", "keelson-e2e-"); err != nil {
		return nil, err
	}
	if c.Registry, err = imagebuild.StartRegistry(registry, nil); err != nil {
		return nil, err
	}
	return c, PushImages(c.Registry, root)
}

// AssetsDir is where kube-apiserver, etcd and kubectl are.
func AssetsDir(root string) string {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return dir
	}
	return filepath.Join(root, "bin/k8s")
}

// Image is the full name of a test image.
func (c *Cluster) Image(name string) string { return c.Registry.Host + "/" + name }

// Kubeconfig is the file with the administrator's credentials.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.DataDir, "admin.kubeconfig") }

// PlainKubeconfig is the administrator's file for the plain Kubernetes API, through
// the gateway.
func (c *Cluster) PlainKubeconfig() string { return filepath.Join(c.DataDir, "kubeconfig") }

// Keelson runs the command with this cluster's data directory and returns what it
// printed.
func (c *Cluster) Keelson(args ...string) (string, error) {
	cmd := exec.Command(c.keelsonPath, append(args, "--data-dir", c.DataDir)...)
	// Not a pipe: the supervisor that `up` leaves behind must not hold it open.
	out, err := os.CreateTemp("", "keelson-out-")
	if err != nil {
		return "", err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	runErr := cmd.Run()
	text, err := os.ReadFile(out.Name())
	return string(text), errors.Join(runErr, err, os.Remove(out.Name()))
}

// Up starts the cluster and returns when it is ready.
func (c *Cluster) Up() (took time.Duration, err error) {
	start := time.Now()
	out, err := c.Keelson(append([]string{"up"}, c.upFlags...)...)
	if err != nil {
		return 0, fmt.Errorf("keelson up: %w\n%s", err, out)
	}
	return time.Since(start), nil
}

// Down ends the cluster.
func (c *Cluster) Down() error {
	if out, err := c.Keelson("down"); err != nil {
		return fmt.Errorf("keelson down: %w\n%s", err, out)
	}
	return nil
}

// CheckLeaks reports everything that the cluster has left on the machine since New.
func (c *Cluster) CheckLeaks() error {
	after, err := leaks.Take()
	if err != nil {
		return err
	}
	return c.before.Compare(after)
}

// Close ends the registry and removes the data directory, unless KEELSON_E2E_KEEP
// is set.
func (c *Cluster) Close() {
	_ = c.Registry.Close()
	if os.Getenv("KEELSON_E2E_KEEP") == "" {
		_ = os.RemoveAll(c.DataDir)
	}
}

// DumpLogs prints the end of every component's log.
func (c *Cluster) DumpLogs(w io.Writer) {
	files, _ := filepath.Glob(filepath.Join(c.DataDir, "logs", "*.log"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		lines = lines[max(0, len(lines)-80):]
		fmt.Fprintf(w, "==> %s (last %d lines)\n%s\n", filepath.Base(file), len(lines), strings.Join(lines, "\n"))
	}
}
