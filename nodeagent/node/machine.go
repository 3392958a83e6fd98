// Package node makes this machine a Node in the API and keeps it one: it registers
// the object, renews the Lease that says the agent lives, and writes what the machine
// has and whether Pods can run here.
//
// It writes only its own Node and Lease. It never deletes either, never taints, and
// reports no condition that it does not measure. After a crash the objects are read
// back and carried on; a Node that somebody deleted is registered again.
package node

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what does not change while the agent runs.
type Machine struct {
	CPUs        int
	MemoryBytes int64
	// PIDs is how many processes and threads there can be; 0 when it is not known.
	PIDs int64
	// HugePages are the bytes of large pages by their size in bytes.
	HugePages map[int64]int64

	Hostname, MachineID, SystemUUID, BootID string
	KernelVersion, OSImage                  string
	OS, Architecture                        string
}

// ReadMachine reads the machine. Identifiers that it does not have stay empty.
func ReadMachine() (Machine, error) {
	m := Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS, Architecture: runtime.GOARCH}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Machine{}, fmt.Errorf("reading the machine's memory: %w", err)
	}
	if m.MemoryBytes, err = parseMemTotal(string(meminfo)); err != nil {
		return Machine{}, err
	}
	if m.Hostname, err = os.Hostname(); err != nil {
		return Machine{}, fmt.Errorf("reading the machine's name: %w", err)
	}
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return Machine{}, fmt.Errorf("reading the kernel's version: %w", err)
	}
	m.KernelVersion = unix.ByteSliceToString(uname.Release[:])
	if m.PIDs, err = strconv.ParseInt(readLine("/proc/sys/kernel/pid_max"), 10, 64); err != nil {
		m.PIDs = 0
	}
	m.MachineID = readLine("/etc/machine-id")
	m.SystemUUID = readLine("/sys/class/dmi/id/product_uuid")
	m.BootID = readLine("/proc/sys/kernel/random/boot_id")
	osRelease, _ := os.ReadFile("/etc/os-release")
	m.OSImage = parseOSImage(string(osRelease))
	return m, nil
}

// parseMemTotal reads the size of the memory from /proc/meminfo, in bytes.
func parseMemTotal(meminfo string) (int64, error) {
	for line := range strings.Lines(meminfo) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading MemTotal of /proc/meminfo: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("/proc/meminfo has no MemTotal")
}

// parseOSImage reads PRETTY_NAME from /etc/os-release.
func parseOSImage(osRelease string) string {
	for line := range strings.Lines(osRelease) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return "Linux"
}

func readLine(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Scan()
	return strings.TrimSpace(scanner.Text())
}

// DefaultRouteIP returns the first IPv4 address of the interface with the default
// route.
func DefaultRouteIP() (netip.Addr, error) {
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return netip.Addr{}, fmt.Errorf("reading the routes: %w", err)
	}
	name := parseDefaultInterface(string(routes))
	if name == "" {
		return netip.Addr{}, errors.New("this machine has no default route")
	}
	link, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("reading interface %s: %w", name, err)
	}
	addresses, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("reading the addresses of interface %s: %w", name, err)
	}
	for _, a := range addresses {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is4() && !prefix.Addr().IsLoopback() {
			return prefix.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %s, which has the default route, has no IPv4 address", name)
}

// parseDefaultInterface returns the interface of the default route with the lowest
// metric in /proc/net/route, empty without one.
func parseDefaultInterface(routes string) string {
	const fieldName, fieldDestination, fieldMetric, fieldMask, fields = 0, 1, 6, 7, 8
	best, bestMetric := "", -1
	for line := range strings.Lines(routes) {
		f := strings.Fields(line)
		if len(f) < fields || f[fieldDestination] != "00000000" || f[fieldMask] != "00000000" {
			continue
		}
		metric, err := strconv.Atoi(f[fieldMetric])
		if err == nil && (bestMetric < 0 || metric < bestMetric) {
			best, bestMetric = f[fieldName], metric
		}
	}
	return best
}
