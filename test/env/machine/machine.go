// Package machine gives a test binary a throw-away machine: network, mount,
// process and cgroup namespaces of its own on this one.
//
// Whatever a cluster under test does to interfaces, routes, iptables, mounts and
// processes stays inside; when the test ends, however it ends, the kernel ends
// every process in it and the rest goes with them. No packet can leave: the only
// interface leads to a wire that ends in the same namespace. Files outside the
// covered folders are shared with the real machine.
package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NodeIP is the machine's address, on eth0, which also carries the default
// route; a range that RFC 2544 sets aside for tests.
const NodeIP = "198.18.0.2"

// Wire is the other end of the machine's eth0. It is up and nobody answers there,
// unless a test moves it into a namespace that plays the outside world.
const Wire = "wire0"

// stageVariable tells a re-executed test binary where it is.
const stageVariable = "KEELSON_TEST_MACHINE"

const (
	stageInit = "init" // first process of the namespaces: prepares them, reaps orphans
	stageTest = "test" // the tests themselves
)

// covered are folders that the machine has to itself, empty at the start: parents of
// those that a cluster makes and removes.
var covered = []string{"/run", "/var/lib", "/var/log"}

// Main runs m on a machine of its own and returns the exit code: call it from
// TestMain. It needs root.
func Main(run func() int) int {
	switch os.Getenv(stageVariable) {
	case stageTest:
		return run()
	case stageInit:
		return report(runInit())
	default:
		if os.Geteuid() != 0 {
			fmt.Fprintln(os.Stderr, "these tests make namespaces, mounts and cgroups: run them as root")
			return 1
		}
		return report(runOutside())
	}
}

func report(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "machine for tests:", err)
		return 1
	}
	return code
}

// runOutside starts the machine and takes it away again.
func runOutside() (int, error) {
	leave, err := enterCgroups()
	if err != nil {
		return 0, err
	}
	code, err := reexec(stageInit, unix.CLONE_NEWNET|unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWCGROUP)
	return code, errors.Join(err, leave())
}

// reexec runs this test binary again with the same arguments at another stage and
// waits for it, passing SIGTERM and SIGINT on.
func reexec(stage string, cloneflags uintptr) (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneflags, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", stage, err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	if stage == stageTest {
		return reapUntil(cmd.Process.Pid)
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitCode(exit.Sys().(syscall.WaitStatus)), nil
	}
	return 0, err
}

// reapUntil collects orphans, as the first process of a machine must, until the
// given child has ended.
func reapUntil(child int) (int, error) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the tests: %w", err)
		case pid == child:
			return exitCode(status), nil
		}
	}
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// runInit prepares the namespaces in which it is the first process and runs the tests.
func runInit() (int, error) {
	if err := prepareMounts(); err != nil {
		return 0, err
	}
	if err := prepareNetwork(); err != nil {
		return 0, err
	}
	return reexec(stageTest, 0)
}

func prepareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := remountCgroups(); err != nil {
		return err
	}
	for _, dir := range covered {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("cover %s: %w", dir, err)
		}
		// Network namespaces are pinned by bind mounts that containers must see.
		if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
			return fmt.Errorf("share %s: %w", dir, err)
		}
	}
	return nil
}

func prepareNetwork() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	eth0 := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: Wire}
	if err := netlink.LinkAdd(eth0); err != nil {
		return fmt.Errorf("add eth0: %w", err)
	}
	address, err := netlink.ParseAddr(NodeIP + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(eth0, address); err != nil {
		return fmt.Errorf("address eth0: %w", err)
	}
	wire, err := netlink.LinkByName(Wire)
	if err != nil {
		return err
	}
	for _, link := range []netlink.Link{eth0, wire} {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("%s up: %w", link.Attrs().Name, err)
		}
	}
	// A default route that leads nowhere: node addresses are found through it.
	return defaultRoute(eth0)
}

func defaultRoute(link netlink.Link) error {
	gateway, err := netlink.ParseAddr("198.18.0.1/24")
	if err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.IP}); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}
