package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/env/cluster"
)

// keelson is a cluster of `keelson up`.
type keelson struct {
	*cluster.Cluster
	version string
}

func newKeelson(root string) (*keelson, error) {
	c, err := cluster.New(root)
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(filepath.Join(root, "bin/keelson"), "version").Output()
	if err != nil {
		return nil, fmt.Errorf("keelson version: %w", err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return &keelson{c, strings.TrimSpace(first)}, nil
}

func (k *keelson) Name() string  { return k.version }
func (k *keelson) Group() string { return keelsonv1.GroupVersion.Group }
func (k *keelson) DumpLogs()     { k.Cluster.DumpLogs(os.Stderr) }

func (k *keelson) Up(context.Context) error {
	_, err := k.Cluster.Up()
	return err
}

func (k *keelson) Down() error {
	defer k.Close()
	return k.Cluster.Down()
}

func (k *keelson) Config() (*rest.Config, error) {
	return clientcmd.BuildConfigFromFlags("", k.Kubeconfig())
}
