// Package nft puts the tables of package model into the kernel, by netlink and without a
// program: one nftables table of the name keelson-policy for each family of addresses.
//
// Every change is one transaction of the kernel: packets see the rules before it or
// after it, never between. The package never touches another table, and never lets a
// packet through that another table refuses: its chains accept only for themselves.
//
// Recovery: a new process, and one that finds the table other than it left it, replaces
// the whole table in one transaction; what an earlier process left is enforced until
// then.
package nft

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/keelson-dev/keelson/nodeagent/policy/model"
)

// TableName is that of our tables, of families ip and ip6.
const TableName = "keelson-policy"

const (
	// batchBytes is how large one transaction may be, and as much for its answers.
	batchBytes = 64 << 20
	// chunk is how many elements one message carries: its length is a 16-bit number.
	chunk = 400
)

// Driver writes both tables of one network namespace. It is not safe for concurrent use.
type Driver struct {
	netns   int
	current [2]*model.Table // nil while unknown
	// verified is the generation of the kernel's tables at which they were found intact,
	// 0 for none.
	verified uint32
}

// New returns a driver of the network namespace with that file descriptor, zero for the
// process's own.
func New(netns int) *Driver { return &Driver{netns: netns} }

func (d *Driver) connect() (*nftables.Conn, error) {
	buffers := func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(batchBytes), c.SetReadBuffer(batchBytes))
	}
	c, err := nftables.New(nftables.WithNetNSFd(d.netns), nftables.WithSockOptions(buffers))
	if err != nil {
		return nil, fmt.Errorf("connecting to nftables: %w", err)
	}
	return c, nil
}

// Apply makes the kernel enforce want. After an error the tables are as they were, or as
// wanted, of each family.
func (d *Driver) Apply(want [2]model.Table) error {
	for family := range want {
		if err := d.applyFamily(model.Family(family), want[family]); err != nil {
			return fmt.Errorf("writing the table %s of family %s: %w", TableName, names[family], err)
		}
	}
	return nil
}

var names = [2]string{"ip", "ip6"}

func (d *Driver) applyFamily(family model.Family, want model.Table) error {
	have := d.current[family]
	if have != nil && have.Empty() && want.Empty() {
		return nil
	}
	c, err := d.connect()
	if err != nil {
		return err
	}
	w := &writer{conn: c, family: family, table: tableOf(family)}
	switch {
	case want.Empty():
		err = w.remove()
	case have == nil || have.Empty():
		w.replace(want)
	default:
		w.change(*have, want)
	}
	if err = errors.Join(err, w.err); err == nil {
		err = c.Flush()
	}
	if d.current[family], d.verified = nil, 0; err == nil {
		d.current[family] = &want
	}
	return err
}

func tableOf(family model.Family) *nftables.Table {
	if family == model.IPv6 {
		return &nftables.Table{Name: TableName, Family: nftables.TableFamilyIPv6}
	}
	return &nftables.Table{Name: TableName, Family: nftables.TableFamilyIPv4}
}

// writer collects one transaction.
type writer struct {
	conn   *nftables.Conn
	family model.Family
	table  *nftables.Table
	// places counts the rules of each chain that were written.
	places map[string]int
	err    error
}

func (w *writer) remove() error {
	if _, err := w.conn.ListTableOfFamily(TableName, w.table.Family); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	w.conn.DelTable(w.table)
	return nil
}

func (w *writer) replace(want model.Table) {
	w.conn.AddTable(w.table) // so that it can be deleted
	w.conn.DelTable(w.table)
	w.conn.AddTable(w.table)
	w.base()
	w.change(model.Table{}, want)
}

// change writes the difference. What is named is made before what names it, and removed
// after it.
func (w *writer) change(have, want model.Table) {
	for key, set := range want.Sets {
		old, had := have.Sets[key]
		if !had {
			w.addSet(key, set)
		}
		if set.Ranges == nil {
			w.changeElements(w.set(key, set), elements(old), elements(set))
		}
	}
	for chain := range want.Chains {
		if _, had := have.Chains[chain]; !had {
			w.conn.AddChain(&nftables.Chain{Name: chain, Table: w.table})
		}
	}
	for chain, rules := range want.Chains {
		if _, had := have.Chains[chain]; !had {
			w.addRules(chain, rules)
		}
	}
	w.changeVerdicts(w.verdicts(ingressMap), have.Ingress, want.Ingress)
	w.changeVerdicts(w.verdicts(egressMap), have.Egress, want.Egress)
	w.changeElements(w.isolated(), isolated(have), isolated(want))
	w.changeElements(w.self(), selves(have), selves(want))
	for chain := range have.Chains {
		if _, wanted := want.Chains[chain]; !wanted {
			old := &nftables.Chain{Name: chain, Table: w.table}
			w.conn.FlushChain(old)
			w.conn.DelChain(old)
		}
	}
	for key, set := range have.Sets {
		if _, wanted := want.Sets[key]; !wanted {
			w.conn.DelSet(w.set(key, set))
		}
	}
}

// elements returns the keys of what a set holds; ranges never change.
func elements(s model.Set) map[string]bool {
	out := make(map[string]bool, len(s.Addresses)+len(s.Endpoints))
	for a := range s.Addresses {
		out[string(a.AsSlice())] = true
	}
	for e := range s.Endpoints {
		out[string(endpointKey(e))] = true
	}
	return out
}

// endpointKey pads the port to a register of four bytes, as the kernel does.
func endpointKey(e netip.AddrPort) []byte {
	return append(e.Addr().AsSlice(), byte(e.Port()>>8), byte(e.Port()), 0, 0)
}

// byKey are verdicts by the key of their address.
func byKey(verdicts map[netip.Addr]string) map[string]string {
	out := make(map[string]string, len(verdicts))
	for a, chain := range verdicts {
		out[string(a.AsSlice())] = chain
	}
	return out
}

func isolated(t model.Table) map[string]bool {
	out := map[string]bool{}
	for _, m := range []map[netip.Addr]string{t.Ingress, t.Egress} {
		for a := range m {
			out[string(a.AsSlice())] = true
		}
	}
	return out
}

// selves are the pairs of an address and itself.
func selves(t model.Table) map[string]bool {
	out := map[string]bool{}
	for key := range isolated(t) {
		out[key+key] = true
	}
	return out
}

func (w *writer) changeElements(set *nftables.Set, have, want map[string]bool) {
	var add, remove []nftables.SetElement
	for key := range want {
		if !have[key] {
			add = append(add, nftables.SetElement{Key: []byte(key)})
		}
	}
	for key := range have {
		if !want[key] {
			remove = append(remove, nftables.SetElement{Key: []byte(key)})
		}
	}
	w.inChunks(remove, func(part []nftables.SetElement) error { return w.conn.SetDeleteElements(set, part) })
	w.inChunks(add, func(part []nftables.SetElement) error { return w.conn.SetAddElements(set, part) })
}

// changeVerdicts takes an address out before it puts it in again with another chain.
func (w *writer) changeVerdicts(set *nftables.Set, have, want map[netip.Addr]string) {
	var add, remove []nftables.SetElement
	for address, chain := range have {
		if want[address] != chain {
			remove = append(remove, verdict(address, chain))
		}
	}
	for address, chain := range want {
		if have[address] != chain {
			add = append(add, verdict(address, chain))
		}
	}
	w.inChunks(remove, func(part []nftables.SetElement) error { return w.conn.SetDeleteElements(set, part) })
	w.inChunks(add, func(part []nftables.SetElement) error { return w.conn.SetAddElements(set, part) })
}

func (w *writer) inChunks(all []nftables.SetElement, write func([]nftables.SetElement) error) {
	for len(all) > 0 {
		n := min(len(all), chunk)
		w.err = errors.Join(w.err, write(all[:n]))
		all = all[n:]
	}
}

// Verify reports whether the kernel still holds what was written last, and nothing else;
// if not, the next Apply replaces it. As long as nobody has changed any table of the
// network namespace that costs one question to the kernel.
func (d *Driver) Verify() (bool, error) {
	now, err := generation(d.netns)
	if err != nil {
		return false, err
	}
	if now != 0 && now == d.verified {
		return true, nil
	}
	d.verified = 0
	intact := true
	for family := range d.current {
		have := d.current[family]
		if have == nil {
			intact = false
			continue
		}
		ok, err := d.verifyFamily(model.Family(family), *have)
		if err != nil {
			return false, fmt.Errorf("reading the table %s of family %s: %w", TableName, names[family], err)
		}
		if !ok {
			d.current[family], intact = nil, false
		}
	}
	if intact {
		d.verified = now // asked before the tables were read
	}
	return intact, nil
}

// verifyFamily compares which chains and sets there are and what they hold.
func (d *Driver) verifyFamily(family model.Family, want model.Table) (bool, error) {
	c, err := d.connect()
	if err != nil {
		return false, err
	}
	w := &writer{conn: c, family: family, table: tableOf(family)}
	table, err := c.ListTableOfFamily(TableName, w.table.Family)
	if errors.Is(err, os.ErrNotExist) {
		return want.Empty(), nil
	}
	if err != nil {
		return false, err
	}
	if want.Empty() {
		return false, nil
	}
	w.table.Flags = table.Flags
	have, err := w.census(d.netns)
	return maps.Equal(have, census(want)), err
}
