// Package join tests how a second machine joins a cluster of `keelson up`, and leaves it:
// a machine of namespaces, wired to the first by a bridge, on one throw-away machine.
package join

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/keelson-dev/keelson/cluster/nodes"
	envcluster "github.com/keelson-dev/keelson/test/env/cluster"
	"github.com/keelson-dev/keelson/test/env/machine"
	"github.com/keelson-dev/keelson/test/env/systemd"
)

const secondName = "attic"

var (
	// cluster is the one that the second machine joins.
	cluster *envcluster.Cluster
	// machines has the second machine.
	machines *nodes.Machine
	second   = nodes.Node{Name: secondName, Address: netip.MustParseAddr("198.19.0.2"), Boot: 1}
	options  = nodes.Options{Network: netip.MustParsePrefix("198.19.0.0/24"), CgroupRoot: "/keelson-join"}
)

func TestMain(m *testing.M) {
	os.Exit(machine.Main(func() int { return runAll(m) }))
}

func runAll(m *testing.M) (code int) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return complain(err)
	}
	folder, err := os.MkdirTemp("", "keelson-join-")
	if err != nil {
		return complain(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	ctx := context.Background()
	options.Dir, second.Data = filepath.Join(folder, "pins"), filepath.Join(folder, "disk")
	bin, removeSystemd, err := systemd.Install(folder)
	if err != nil {
		return complain(err)
	}
	defer func() {
		if err := removeSystemd(); err != nil {
			code = complain(err)
		}
	}()
	systemdBin = bin
	machines = nodes.New(options)
	defer func() {
		if err := errors.Join(machines.Remove(ctx, second.Name), machines.RemoveNetwork(ctx)); err != nil {
			code = complain(err)
		}
	}()
	err = errors.Join(os.MkdirAll(second.Data, 0o755), machines.EnsureNetwork())
	if err == nil {
		err = machines.Ensure(ctx, second)
	}
	if err == nil {
		err = machines.ApplyTraffic(ctx, []nodes.Node{second}) // plugs its wire in
	}
	if err != nil {
		return complain(err)
	}
	c, err := envcluster.NewAt(root, options.Gateway().String())
	if err != nil {
		return complain(err)
	}
	defer c.Close()
	cluster = c
	if _, err := c.Up(); err != nil {
		c.DumpLogs(os.Stderr)
		return complain(err)
	}
	code = m.Run()
	if code != 0 {
		c.DumpLogs(os.Stderr)
	}
	if err := errors.Join(c.Down(), c.CheckLeaks()); err != nil {
		code = complain(fmt.Errorf("after keelson down: %w", err))
	}
	return code
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "e2e/join:", err)
	return 1
}
