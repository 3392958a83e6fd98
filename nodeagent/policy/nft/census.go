package nft

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/policy/model"
)

// A census says what a table holds: for each of its parts, by name, a text that differs
// when what it holds differs. The kernel never changes a rule: who changes one makes
// another, which lacks our mark. So a rule is known by its mark, and not by reading it.

// mark is the comment of the rule at that place of its chain.
func mark(place int) string { return "keelson " + strconv.Itoa(place) }

func marks(count int) string {
	all := make([]string, count)
	for i := range all {
		all[i] = mark(i)
	}
	return strings.Join(all, ",")
}

// digest is of keys in any order.
func digest(keys []string) string {
	slices.Sort(keys)
	sum := sha256.New()
	for _, key := range keys {
		fmt.Fprintf(sum, "%d:%s", len(key), key)
	}
	return strconv.Itoa(len(keys)) + ":" + string(sum.Sum(nil))
}

// census is what a table should hold.
func census(t model.Table) map[string]string {
	keys := func(set map[string]bool) string {
		var all []string
		for key := range set {
			all = append(all, key)
		}
		return digest(all)
	}
	out := map[string]string{
		"table": "0", "set " + isolatedSet: keys(isolated(t)), "set " + selfSet: keys(selves(t)),
	}
	for name, verdicts := range map[string]map[string]string{ingressMap: byKey(t.Ingress), egressMap: byKey(t.Egress)} {
		var all []string
		for key, chain := range verdicts {
			all = append(all, verdictKey(key, chain))
		}
		out["set "+name] = digest(all)
	}
	for name, chain := range baseChains {
		out["chain "+name] = describe(chain.hook, nftables.ChainPriorityRef(chain.priority), nftables.ChainTypeFilter, nftables.ChainPolicyAccept) + marks(chain.rules)
	}
	for name, rules := range t.Chains {
		out["chain "+name] = marks(len(rules) + 1)
	}
	for name, s := range t.Sets {
		if s.Ranges == nil {
			out["set "+name] = keys(elements(s))
			continue
		}
		var all []string
		for _, e := range intervals(s.Ranges) {
			all = append(all, elementKey(e))
		}
		out["set "+name] = digest(all)
	}
	return out
}

// describe is how a chain hangs in the path of packets.
func describe(hook *nftables.ChainHook, priority *nftables.ChainPriority, kind nftables.ChainType, policy nftables.ChainPolicy) string {
	return fmt.Sprintf("hook %d priority %d type %s policy %d: ", *hook, *priority, kind, policy)
}

// elementKey is an element of a set; where a range ends is another than where it begins.
func elementKey(e nftables.SetElement) string { return fmt.Sprint(e.IntervalEnd, " ", string(e.Key)) }

func verdictKey(key, chain string) string {
	return key + " goto " + chain
}

// census is what the kernel's table holds.
func (w *writer) census(netns int) (map[string]string, error) {
	out := map[string]string{"table": strconv.Itoa(int(w.table.Flags))}
	chains, err := w.conn.ListChainsOfTableFamily(w.table.Family)
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if c.Table.Name != TableName {
			continue
		}
		out["chain "+c.Name] = ""
		if c.Hooknum != nil && c.Priority != nil && c.Policy != nil {
			out["chain "+c.Name] = describe(c.Hooknum, c.Priority, c.Type, *c.Policy)
		}
	}
	if err := w.readMarks(netns, out); err != nil {
		return nil, err
	}
	sets, err := w.conn.GetSets(w.table)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if out["set "+s.Name], err = w.readSet(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readSet is the digest of a set or map in the kernel.
func (w *writer) readSet(s *nftables.Set) (string, error) {
	elements, err := w.conn.GetSetElements(s)
	if err != nil {
		return "", fmt.Errorf("reading the set %s: %w", s.Name, err)
	}
	all := make([]string, 0, len(elements))
	for _, e := range elements {
		switch {
		case s.Interval:
			all = append(all, elementKey(e))
		case s.IsMap:
			chain, err := chainOf(e.Val)
			if err != nil {
				return "", fmt.Errorf("reading the map %s: %w", s.Name, err)
			}
			all = append(all, verdictKey(string(e.Key), chain))
		default:
			all = append(all, string(e.Key))
		}
	}
	return digest(all), nil
}

// chainOf reads where a verdict goes, as the kernel writes it; a verdict of another kind
// goes nowhere.
func chainOf(verdict []byte) (string, error) {
	attributes, err := netlink.NewAttributeDecoder(verdict)
	if err != nil {
		return "", err
	}
	var code uint32
	chain := ""
	for attributes.Next() {
		switch attributes.Type() {
		case unix.NFTA_VERDICT_CODE:
			code = binaryutil.BigEndian.Uint32(attributes.Bytes())
		case unix.NFTA_VERDICT_CHAIN:
			chain = attributes.String()
		}
	}
	if goes := expr.VerdictGoto; code != uint32(goes) {
		return fmt.Sprintf("(verdict %d)", code), attributes.Err()
	}
	return chain, attributes.Err()
}

// readMarks appends the marks of rules to what is said of their chains, in their order.
// The library would parse the rules, and fails at those that look at a direction of a
// connection.
func (w *writer) readMarks(netns int, out map[string]string) error {
	filter, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(TableName + "\x00")}})
	if err != nil {
		return fmt.Errorf("asking for rules: %w", err)
	}
	answers, err := ask(netns, unix.NFT_MSG_GETRULE, netlink.Request|netlink.Dump, byte(w.table.Family), filter)
	if err != nil {
		return fmt.Errorf("asking for rules: %w", err)
	}
	places := map[string]int{}
	for _, answer := range answers {
		attributes, err := netlink.NewAttributeDecoder(answer)
		if err != nil {
			return fmt.Errorf("reading a rule: %w", err)
		}
		chain, comment := "", ""
		for attributes.Next() {
			switch attributes.Type() {
			case unix.NFTA_RULE_CHAIN:
				chain = "chain " + attributes.String()
			case unix.NFTA_RULE_USERDATA:
				comment, _ = userdata.GetString(attributes.Bytes(), userdata.TypeComment)
			}
		}
		if err := attributes.Err(); err != nil {
			return fmt.Errorf("reading a rule: %w", err)
		}
		if places[chain]++; places[chain] > 1 {
			out[chain] += ","
		}
		out[chain] += comment
	}
	return nil
}

// generation is the kernel's number of all tables of the namespace together; it differs
// whenever anybody has changed any of them.
func generation(netns int) (uint32, error) {
	answers, err := ask(netns, unix.NFT_MSG_GETGEN, netlink.Request, unix.AF_UNSPEC, nil)
	if err != nil {
		return 0, fmt.Errorf("asking for the generation: %w", err)
	}
	for _, answer := range answers {
		attributes, err := netlink.NewAttributeDecoder(answer)
		if err != nil {
			return 0, fmt.Errorf("reading the generation: %w", err)
		}
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_GEN_ID {
				return binaryutil.BigEndian.Uint32(attributes.Bytes()), nil
			}
		}
	}
	return 0, fmt.Errorf("asking for the generation: the kernel did not tell it")
}

// ask sends one message to nftables and returns the attributes of each answer.
func ask(netns int, message uint16, flags netlink.HeaderFlags, family byte, attributes []byte) ([][]byte, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("connecting to netfilter: %w", err)
	}
	defer func() { _ = c.Close() }()
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | message), Flags: flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	})
	if err != nil {
		return nil, err
	}
	const header = 4
	var out [][]byte
	for _, m := range answers {
		if len(m.Data) >= header {
			out = append(out, m.Data[header:])
		}
	}
	return out, nil
}
