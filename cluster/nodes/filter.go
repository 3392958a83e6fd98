package nodes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// chain is the name of our chain in every table.
	chain = "KEELSON-NODES"
	// filterTimeout bounds one call of iptables, which waits for the lock of others.
	filterTimeout = 30 * time.Second
)

// hook is where the kernel's own chain leads to ours.
type hook struct{ table, from string }

var (
	hooksHere = []hook{{"nat", "POSTROUTING"}, {"filter", "FORWARD"}, {"filter", "INPUT"}, {"raw", "PREROUTING"}}
	// In a node there is nothing but cuts.
	hooksInside = []hook{{"raw", "PREROUTING"}}
)

// ApplyTraffic plugs the ports of nodes in, or out where they are cut off, and writes
// the rules on which packets pass. nodes are all of the cluster, running or not.
func (m *Machine) ApplyTraffic(ctx context.Context, nodes []Node) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	inside := make([]map[string][]drop, len(m.options.networks()))
	for i, network := range m.options.networks() {
		var here []drop
		here, inside[i] = m.options.plannedDrops(network, nodes)
		errs = append(errs, applyFilter(ctx, programOf(network), renderHere(network, here), hooksHere))
	}
	for _, n := range nodes {
		running, err := m.Running(n)
		if err != nil || !running {
			errs = append(errs, err)
			continue
		}
		if err := m.plug(n); err != nil {
			errs = append(errs, fmt.Errorf("plug node %s: %w", n.Name, err))
		}
		err = m.Enter(n.Name, func() error { return m.filterInside(ctx, n.Name, inside) })
		if err != nil {
			errs = append(errs, fmt.Errorf("filter the packets of node %s: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
}

// filterInside drops what a node drops, of each network; it is called in the node.
func (m *Machine) filterInside(ctx context.Context, name string, drops []map[string][]drop) error {
	var errs []error
	for i, network := range m.options.networks() {
		errs = append(errs, applyFilter(ctx, programOf(network), renderInside(drops[i][name]), hooksInside))
	}
	return errors.Join(errs...)
}

// programOf is the program that knows the packets of a network.
func programOf(network netip.Prefix) string {
	if network.Addr().Is6() {
		return "ip6tables"
	}
	return "iptables"
}

func (m *Machine) plug(n Node) error {
	port, err := netlink.LinkByName(m.options.portName(n.Address))
	if isNotFound(err) {
		return nil // its wire is not there yet: this is called again
	}
	if err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(Bridge)
	if err != nil {
		return err
	}
	plugged := port.Attrs().MasterIndex == bridge.Attrs().Index
	switch unplug := n.Cut.unplugged(); {
	case unplug && plugged:
		return netlink.LinkSetNoMaster(port)
	case !unplug && !plugged:
		return netlink.LinkSetMaster(port, bridge)
	}
	return nil
}

// renderHere is what this machine does with packets of nodes: it translates those that
// leave for the world, lets them through whatever its own policy is, and drops those
// that are cut. What the bridge leads from one port to another it does not track: with
// br_netfilter the kernel shows it to this machine's tables, and its own proxy would take
// what is for the node that announces the address of a load balancer.
func renderHere(network netip.Prefix, drops []drop) string {
	return render("nat", []string{
		"-s " + network.String() + " ! -o " + Bridge + " -j MASQUERADE",
	}) + render("filter", []string{
		"-i " + Bridge + " -j ACCEPT",
		"-o " + Bridge + " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	}) + render("raw", append(rulesOf(drops),
		"-i "+Bridge+" -d "+network.String()+" -m addrtype ! --dst-type LOCAL -j CT --notrack",
	))
}

func renderInside(drops []drop) string { return render("raw", rulesOf(drops)) }

func rulesOf(drops []drop) []string {
	var rules []string
	for _, d := range drops {
		rules = append(rules, d.rule())
	}
	return rules
}

// render is a table in the format of iptables-restore; naming our chain empties it.
func render(table string, rules []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n:%s - [0:0]\n", table, chain)
	for _, rule := range rules {
		fmt.Fprintf(&b, "-A %s %s\n", chain, rule)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// applyFilter writes the rules and leads the kernel's chains to them, in the network
// namespace of the calling thread.
func applyFilter(ctx context.Context, program, rules string, hooks []hook) error {
	if err := iptables(ctx, rules, program+"-restore", "--noflush", "--wait"); err != nil {
		return err
	}
	for _, h := range hooks {
		if iptables(ctx, "", program, "--wait", "-t", h.table, "-C", h.from, "-j", chain) == nil {
			continue
		}
		if err := iptables(ctx, "", program, "--wait", "-t", h.table, "-I", h.from, "-j", chain); err != nil {
			return err
		}
	}
	return nil
}

// removeFilters removes our chains from this machine.
func (m *Machine) removeFilters(ctx context.Context) error {
	var errs []error
	for _, network := range m.options.networks() {
		errs = append(errs, removeChains(ctx, programOf(network)))
	}
	return errors.Join(errs...)
}

func removeChains(ctx context.Context, program string) error {
	for _, h := range hooksHere {
		for iptables(ctx, "", program, "--wait", "-t", h.table, "-C", h.from, "-j", chain) == nil {
			if err := iptables(ctx, "", program, "--wait", "-t", h.table, "-D", h.from, "-j", chain); err != nil {
				return err
			}
		}
	}
	for _, table := range []string{"nat", "filter", "raw"} {
		if iptables(ctx, "", program, "--wait", "-t", table, "-S", chain) != nil {
			continue // there is none
		}
		if err := errors.Join(
			iptables(ctx, "", program, "--wait", "-t", table, "-F", chain),
			iptables(ctx, "", program, "--wait", "-t", table, "-X", chain),
		); err != nil {
			return err
		}
	}
	return nil
}

func iptables(ctx context.Context, input, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, filterTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
