package nodes

import (
	"context"
	"errors"
	"fmt"
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
	here, inside := m.options.plannedDrops(nodes)
	errs := []error{applyFilter(ctx, m.options.renderHere(here), hooksHere)}
	for _, n := range nodes {
		running, err := m.Running(n)
		if err != nil || !running {
			errs = append(errs, err)
			continue
		}
		if err := m.plug(n); err != nil {
			errs = append(errs, fmt.Errorf("plug node %s: %w", n.Name, err))
		}
		err = m.Enter(n.Name, func() error { return applyFilter(ctx, renderInside(inside[n.Name]), hooksInside) })
		if err != nil {
			errs = append(errs, fmt.Errorf("filter the packets of node %s: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
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
// that are cut.
func (o Options) renderHere(drops []drop) string {
	return render("nat", []string{
		"-s " + o.Network.String() + " ! -o " + Bridge + " -j MASQUERADE",
	}) + render("filter", []string{
		"-i " + Bridge + " -j ACCEPT",
		"-o " + Bridge + " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	}) + renderInside(drops)
}

func renderInside(drops []drop) string {
	var rules []string
	for _, d := range drops {
		rules = append(rules, d.rule())
	}
	return render("raw", rules)
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
func applyFilter(ctx context.Context, rules string, hooks []hook) error {
	if err := iptables(ctx, rules, "iptables-restore", "--noflush", "--wait"); err != nil {
		return err
	}
	for _, h := range hooks {
		if iptables(ctx, "", "iptables", "--wait", "-t", h.table, "-C", h.from, "-j", chain) == nil {
			continue
		}
		if err := iptables(ctx, "", "iptables", "--wait", "-t", h.table, "-I", h.from, "-j", chain); err != nil {
			return err
		}
	}
	return nil
}

// removeFilters removes our chains from this machine.
func removeFilters(ctx context.Context) error {
	for _, h := range hooksHere {
		for iptables(ctx, "", "iptables", "--wait", "-t", h.table, "-C", h.from, "-j", chain) == nil {
			if err := iptables(ctx, "", "iptables", "--wait", "-t", h.table, "-D", h.from, "-j", chain); err != nil {
				return err
			}
		}
	}
	for _, table := range []string{"nat", "filter", "raw"} {
		if iptables(ctx, "", "iptables", "--wait", "-t", table, "-S", chain) != nil {
			continue // there is none
		}
		if err := errors.Join(
			iptables(ctx, "", "iptables", "--wait", "-t", table, "-F", chain),
			iptables(ctx, "", "iptables", "--wait", "-t", table, "-X", chain),
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
