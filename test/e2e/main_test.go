// Package e2e drives a whole cluster as its user does: `keelson up`, stock kubectl,
// `keelson down`. It runs on a throw-away machine (test/env/machine), so it can run
// beside a cluster that is in use.
package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
	"github.com/keelson-dev/keelson/test/env/machine"
)

// cluster is what every test of this package talks to; TestMain starts it once.
var cluster *envcluster.Cluster

// Test images; their registry address is filled in by cluster.Image.
const (
	busyboxImage    = envcluster.BusyboxImage
	testserverImage = envcluster.TestserverImage
)

func TestMain(m *testing.M) {
	os.Exit(machine.Main(func() int { return runAll(m) }))
}

// runAll is up, the tests, down, and the search for what was left behind.
func runAll(m *testing.M) (code int) {
	root, err := filepath.Abs("../..")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	c, err := envcluster.New(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer c.Close()
	cluster = c
	took, err := c.Up()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		c.DumpLogs(os.Stderr)
		return 1
	}
	fmt.Printf("keelson up took %.1f s\n", took.Seconds())
	code = m.Run()
	if err := c.CheckLogs(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: in the logs:", err)
		code = 1
	}
	if code != 0 {
		c.DumpLogs(os.Stderr)
	}
	if err := errors.Join(c.Down(), c.CheckLeaks()); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: after keelson down:", err)
		code = 1
	}
	return code
}
