// Package e2e drives a whole cluster as its user does: `keelson up`, stock kubectl,
// `keelson down`. It runs on a throw-away machine (test/env/machine), so it can run
// beside a cluster that is in use.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/keelson-dev/keelson/test/env/machine"
)

// cluster is what every test of this package talks to; TestMain starts it once.
var cluster *Cluster

func TestMain(m *testing.M) {
	os.Exit(machine.Main(func() int { return runAll(m) }))
}

// runAll is up, the tests, down, and the search for what was left behind.
func runAll(m *testing.M) (code int) {
	c, err := newCluster()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	cluster = c
	if err := c.up(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: keelson up:", err)
		c.dumpLogs(os.Stderr)
		c.close()
		return 1
	}
	code = m.Run()
	if code != 0 {
		c.dumpLogs(os.Stderr)
	}
	if err := c.downAndCheckLeaks(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: after keelson down:", err)
		code = 1
	}
	c.close()
	return code
}
