package nft

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/policy/model"
)

// census counts what a table should hold, by the name of a chain or set.
func census(t model.Table) map[string]int {
	out := map[string]int{
		"set " + ingressMap: len(t.Ingress), "set " + egressMap: len(t.Egress),
		"set " + isolatedSet: len(isolated(t)), "set " + selfSet: len(isolated(t)),
	}
	for name, n := range baseRules {
		out["chain "+name] = n
	}
	for name, rules := range t.Chains {
		out["chain "+name] = len(rules) + 1
	}
	for name, s := range t.Sets {
		out["set "+name] = len(s.Addresses) + len(s.Endpoints) + len(intervals(s.Ranges))
	}
	return out
}

// census counts what the kernel's table holds.
func (w *writer) census(netns int) (map[string]int, error) {
	out := map[string]int{}
	chains, err := w.conn.ListChainsOfTableFamily(w.table.Family)
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if c.Table.Name != TableName {
			continue
		}
		out["chain "+c.Name] = 0
	}
	if err := w.countRules(netns, out); err != nil {
		return nil, err
	}
	sets, err := w.conn.GetSets(w.table)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		elements, err := w.conn.GetSetElements(s)
		if err != nil {
			return nil, err
		}
		out["set "+s.Name] = len(elements)
	}
	return out, nil
}

// countRules adds one for each rule to its chain. The library would parse the rules, and
// fails at those that look at a direction of a connection.
func (w *writer) countRules(netns int, out map[string]int) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return fmt.Errorf("connecting to netfilter: %w", err)
	}
	defer func() { _ = c.Close() }()
	filter, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(TableName + "\x00")}})
	if err != nil {
		return fmt.Errorf("asking for rules: %w", err)
	}
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(w.table.Family), unix.NFNETLINK_V0, 0, 0}, filter...),
	})
	if err != nil {
		return fmt.Errorf("asking for rules: %w", err)
	}
	for _, m := range answers {
		const header = 4
		if len(m.Data) < header {
			continue
		}
		attributes, err := netlink.NewAttributeDecoder(m.Data[header:])
		if err != nil {
			return fmt.Errorf("reading a rule: %w", err)
		}
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_RULE_CHAIN {
				out["chain "+attributes.String()]++
			}
		}
		if err := attributes.Err(); err != nil {
			return fmt.Errorf("reading a rule: %w", err)
		}
	}
	return nil
}
