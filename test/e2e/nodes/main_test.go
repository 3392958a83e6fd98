// Package nodes tests a cluster of three nodes, with addresses of both families, on one
// throw-away machine: what only shows when Pods, Services and faults are spread over
// several. Tests run one after the
// other and leave the nodes ready; a test of another part is a file here.
package nodes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
	"github.com/keelson-dev/keelson/test/env/machine"
)

const (
	nodeCount       = 3
	busyboxImage    = envcluster.BusyboxImage
	testserverImage = envcluster.TestserverImage
)

var (
	// cluster is what every test of this package talks to; TestMain starts it once.
	cluster *envcluster.Cluster
	// nodeNames are those of its nodes.
	nodeNames []string
)

func TestMain(m *testing.M) {
	os.Exit(machine.Main(func() int { return runAll(m) }))
}

// runAll is up, the tests, down, and the search for what was left behind.
func runAll(m *testing.M) (code int) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return complain(err)
	}
	c, err := envcluster.NewNodes(root, nodeCount, envcluster.DualStackFlags()...)
	if err != nil {
		return complain(err)
	}
	defer c.Close()
	cluster = c
	took, err := c.Up()
	if err == nil {
		fmt.Printf("keelson up --nodes %d took %.1f s\n", nodeCount, took.Seconds())
		nodeNames, err = listNodes()
	}
	if err != nil {
		c.DumpLogs(os.Stderr)
		return complain(err)
	}
	code = m.Run()
	if err := c.CheckLogs(); err != nil {
		code = complain(fmt.Errorf("in the logs: %w", err))
	}
	if code != 0 {
		c.DumpLogs(os.Stderr)
	}
	if err := errors.Join(c.Down(), c.CheckLeaks()); err != nil {
		code = complain(fmt.Errorf("after keelson down: %w", err))
	}
	return code
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "e2e/nodes:", err)
	return 1
}
