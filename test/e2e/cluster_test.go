package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/keelson-dev/keelson/test/env/leaks"
	"github.com/keelson-dev/keelson/test/imagebuild"
)

// Cluster is one that `keelson up` started, and an image registry beside it.
type Cluster struct {
	root        string // the module's folder
	dataDir     string
	kubectlPath string
	keelsonPath string
	registry    *imagebuild.Registry
	before      leaks.Snapshot
}

// Test images; their registry address is filled in by image.
const (
	busyboxImage    = "test/busybox:v1"
	testserverImage = "test/testserver:v1"
)

func newCluster() (*Cluster, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		root:        root,
		kubectlPath: filepath.Join(assetsDir(root), "kubectl"),
		keelsonPath: filepath.Join(root, "bin/keelson"),
	}
	for _, program := range []string{c.kubectlPath, c.keelsonPath} {
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("%w: run `make build k8s` first", err)
		}
	}
	if c.before, err = leaks.Take(); err != nil {
		return nil, err
	}
	if c.dataDir, err = os.MkdirTemp("", "keelson-e2e-"); err != nil {
		return nil, err
	}
	if c.registry, err = imagebuild.StartRegistry("127.0.0.1:0", nil); err != nil {
		return nil, err
	}
	return c, c.pushImages()
}

// assetsDir is where kube-apiserver, etcd and kubectl are.
func assetsDir(root string) string {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return dir
	}
	return filepath.Join(root, "bin/k8s")
}

func (c *Cluster) pushImages() error {
	busybox, err := imagebuild.Busybox()
	if err != nil {
		return err
	}
	program := filepath.Join(c.dataDir, "testserver")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./test/images/testserver")
	build.Dir, build.Env = c.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("compile testserver: %w\n%s", err, out)
	}
	server, err := imagebuild.Busybox()
	if err != nil {
		return err
	}
	server.Files["/testserver"] = imagebuild.File{HostPath: program}
	server.Config = v1.Config{Entrypoint: []string{"/testserver"}, Cmd: []string{"http", ":8080"}, Env: server.Config.Env}
	for name, spec := range map[string]imagebuild.Spec{busyboxImage: busybox, testserverImage: server} {
		image, err := imagebuild.Build(spec, runtime.GOARCH)
		if err != nil {
			return err
		}
		if _, _, err := c.registry.Push(context.Background(), image, name); err != nil {
			return err
		}
	}
	return nil
}

// image is the full name of a test image.
func (c *Cluster) image(name string) string { return c.registry.Host + "/" + name }

func (c *Cluster) kubeconfig() string { return filepath.Join(c.dataDir, "admin.kubeconfig") }

// keelson runs the command with this cluster's data directory.
func (c *Cluster) keelson(args ...string) (string, error) {
	cmd := exec.Command(c.keelsonPath, append(args, "--data-dir", c.dataDir)...)
	// Not a pipe: the supervisor that `up` leaves behind must not hold it open.
	out, err := os.CreateTemp("", "keelson-out-")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	runErr := cmd.Run()
	text, err := os.ReadFile(out.Name())
	return string(text), errors.Join(runErr, err)
}

func (c *Cluster) up() error {
	start := time.Now()
	out, err := c.keelson("up")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	fmt.Printf("keelson up took %.1f s\n", time.Since(start).Seconds())
	return nil
}

// downAndCheckLeaks ends the cluster and reports everything it left on the machine.
func (c *Cluster) downAndCheckLeaks() error {
	if out, err := c.keelson("down"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	after, err := leaks.Take()
	if err != nil {
		return err
	}
	return c.before.Compare(after)
}

func (c *Cluster) close() {
	_ = c.registry.Close()
	if os.Getenv("KEELSON_E2E_KEEP") == "" {
		_ = os.RemoveAll(c.dataDir)
	}
}

// dumpLogs prints the end of every component's log.
func (c *Cluster) dumpLogs(w io.Writer) {
	files, _ := filepath.Glob(filepath.Join(c.dataDir, "logs", "*.log"))
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
