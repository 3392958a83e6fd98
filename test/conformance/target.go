package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
)

// registryConfigs is where keelson-node looks for mirrors of registries.
const registryConfigs = "/etc/containerd/certs.d"

// etcLayers holds what this machine's /etc differs in from the real one.
const etcLayers = "/run/conformance-etc"

// startTarget starts a cluster whose nodes find the suite's images. It must run on a
// throw-away machine: it changes /etc.
func startTarget(ctx context.Context, p parts, root string, o runOptions) (*envcluster.Cluster, error) {
	cluster, err := newTarget(root, o)
	if err != nil {
		return nil, err
	}
	if err := loadImages(ctx, p.conformance, cluster.Registry); err != nil {
		cluster.Close()
		return nil, err
	}
	if _, err := cluster.Up(); err != nil {
		cluster.DumpLogs(os.Stderr)
		cluster.Close()
		return nil, err
	}
	err = checkNobodyAnswers(ctx)
	if err == nil && o.nodes > 1 {
		err = labelZones(ctx, cluster)
	}
	if err != nil {
		return nil, errors.Join(err, cluster.Down())
	}
	return cluster, nil
}

// kubectl runs it with the administrator's rights and returns what it printed.
func kubectl(ctx context.Context, cluster *envcluster.Cluster, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, cluster.KubectlPath, append([]string{"--kubeconfig", cluster.PlainKubeconfig()}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// nodeNames are those of the cluster's nodes.
func nodeNames(ctx context.Context, cluster *envcluster.Cluster) ([]string, error) {
	names, err := kubectl(ctx, cluster, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
	return strings.Fields(names), err
}

// labelZones puts each node into a zone of its own, as nodes of a cloud would say
// themselves: tests of topology leave themselves out otherwise.
func labelZones(ctx context.Context, cluster *envcluster.Cluster) error {
	names, err := nodeNames(ctx, cluster)
	if err != nil {
		return err
	}
	for i, name := range names {
		if _, err := kubectl(ctx, cluster, "label", "node", name, fmt.Sprintf("%s=zone-%d", corev1.LabelTopologyZone, i+1)); err != nil {
			return err
		}
	}
	return nil
}

// clientNear and clientFar are the addresses of a client outside of the cluster: where it
// is plugged in, and the one that it has; tests of source addresses tell it from a node's
// by the first 16 bits.
const (
	clientNear = "198.19.0.190/24"
	clientFar  = "203.0.113.9"
)

// newClient plugs a computer in beside the nodes that is not the cluster's: no rule of the
// cluster's proxies is there, so that what it reaches a node has taken in.
func newClient(ctx context.Context, cluster *envcluster.Cluster) (*envcluster.Outsider, error) {
	names, err := nodeNames(ctx, cluster)
	if err != nil {
		return nil, err
	}
	client, err := envcluster.NewOutsider(clientNear)
	if err != nil {
		return nil, err
	}
	if err := cluster.MoveFar(client, net.ParseIP(clientFar), names); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// newTarget prepares a cluster in which the test registry answers for that of the
// suite's images.
func newTarget(root string, o runOptions) (*envcluster.Cluster, error) {
	if o.nodes > 1 {
		var flags []string
		if o.dualStack {
			flags = envcluster.DualStackFlags()
		}
		cluster, err := envcluster.NewNodes(root, o.nodes, flags...)
		if err != nil {
			return nil, err
		}
		return cluster, cluster.Mirror(imagesRegistry)
	}
	cluster, err := envcluster.New(root)
	if err != nil {
		return nil, err
	}
	return cluster, mirror(cluster.Registry.Host)
}

// mirror makes a registry on this machine answer for that of the suite's images.
func mirror(host string) error {
	upper, work := filepath.Join(etcLayers, "upper"), filepath.Join(etcLayers, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("give the machine its own /etc: %w", err)
	}
	dir := filepath.Join(registryConfigs, imagesRegistry)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("server = %q\n", "http://"+host)
	return os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644)
}

// silent are addresses where nobody may answer: outside, in the Service range, and in
// the Pod range. Many tests take a connection for a success.
var silent = []string{"192.0.2.1:80", "10.254.200.200:80", "10.244.200.200:80"}

// answerTimeout is long beside an answer on this machine.
const answerTimeout = 2 * time.Second

func checkNobodyAnswers(ctx context.Context) error {
	dialer := net.Dialer{Timeout: answerTimeout}
	var answered []string
	for _, address := range silent {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			answered = append(answered, address)
			conn.Close()
		}
	}
	if len(answered) > 0 {
		return fmt.Errorf("somebody answers at %s, where nobody is: tests would pass by accident", strings.Join(answered, ", "))
	}
	return nil
}
