package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Executor runs the two commands of iptables that the driver needs.
type Executor interface {
	// Save returns the output of iptables-save for all tables.
	Save(ctx context.Context) ([]byte, error)
	// Restore feeds input to iptables-restore --noflush. It changes everything or
	// nothing of each table.
	Restore(ctx context.Context, input []byte) error
}

// Driver brings the kernel to the wanted chains. Set, Remove and SetJumps only record;
// Apply does all IO. It is not safe for concurrent use.
type Driver struct {
	executor Executor

	wanted map[chainKey]*wantedChain
	jumps  []*wantedJump
	// rules counts those wanted.
	rules map[Table]int

	// kernel is what the last read or write left; meaningful when loaded.
	kernel kernelState
	loaded bool
	// dirty are the chains whose wanted state changed since the last successful Apply.
	dirty map[chainKey]struct{}
}

// NewDriver returns a driver that wants no chain and has not read the kernel yet.
func NewDriver(executor Executor) *Driver {
	return &Driver{executor: executor, wanted: map[chainKey]*wantedChain{}, rules: map[Table]int{}, dirty: map[chainKey]struct{}{}}
}

// Set records the wanted contents of chains.
func (d *Driver) Set(chains ...Chain) {
	for _, c := range chains {
		key, w := chainKey{c.Table, c.Name}, newWantedChain(c)
		if old := d.wanted[key]; old != nil {
			if old.signature == w.signature {
				continue
			}
			d.rules[c.Table] -= len(old.Rules)
		}
		d.wanted[key] = w
		d.rules[c.Table] += len(c.Rules)
		d.dirty[key] = struct{}{}
	}
}

// Remove records that a chain is not wanted any more.
func (d *Driver) Remove(table Table, name string) {
	key := chainKey{table, name}
	if old := d.wanted[key]; old != nil {
		d.rules[table] -= len(old.Rules)
		delete(d.wanted, key)
		d.dirty[key] = struct{}{}
	}
}

// SetJumps records the wanted rules in kernel chains, all of them.
func (d *Driver) SetJumps(jumps []Jump) {
	wanted := make([]*wantedJump, 0, len(jumps))
	for _, j := range jumps {
		wanted = append(wanted, &wantedJump{Jump: j, hash: j.Rule.hash()})
	}
	same := func(a, b *wantedJump) bool { return a.Jump == b.Jump }
	if slices.EqualFunc(d.jumps, wanted, same) {
		return
	}
	d.jumps = wanted
	d.Invalidate()
}

// Rules returns the number of wanted rules in our chains of a table.
func (d *Driver) Rules(table Table) int { return d.rules[table] }

// Invalidate makes the next Apply read the kernel and compare everything.
func (d *Driver) Invalidate() { d.loaded = false }

// Result says what an Apply did.
type Result struct {
	// Full is set when the kernel was read and everything compared.
	Full bool
	// Written and Removed count chains, Jumps the rules in kernel chains that were
	// added or dropped.
	Written, Removed, Jumps int
	// Bytes is the size of the input of iptables-restore; zero when nothing differed.
	Bytes int
}

// Apply writes what differs between the kernel and the wanted state. After an error
// the next Apply reads the kernel again; it is safe to call it until it succeeds.
func (d *Driver) Apply(ctx context.Context) (Result, error) {
	result := Result{Full: !d.loaded}
	if !d.loaded {
		if err := d.load(ctx); err != nil {
			return result, err
		}
	}
	changes := d.planChanges(result.Full)
	for _, c := range changes {
		result.Written += len(c.written())
		result.Removed += len(c.remove)
		result.Jumps += len(c.insert) + len(c.drop)
	}
	input := renderRestore(changes)
	result.Bytes = len(input)
	if len(input) > 0 {
		if err := d.executor.Restore(ctx, input); err != nil {
			d.loaded = false
			return result, explainRestore(err, input)
		}
	}
	d.settle(changes)
	return result, nil
}

func (d *Driver) load(ctx context.Context) error {
	data, err := d.executor.Save(ctx)
	if err != nil {
		return fmt.Errorf("reading the kernel's iptables rules: %w", err)
	}
	state, err := parseSave(data)
	if err != nil {
		return fmt.Errorf("reading the kernel's iptables rules: %w", err)
	}
	d.kernel, d.loaded = state, true
	return nil
}

// planChanges compares the wanted chains with the kernel's: all of them when full,
// otherwise those that changed.
func (d *Driver) planChanges(full bool) map[Table]*change {
	changes := map[Table]*change{NAT: {}, Filter: {}}
	keys := d.dirty
	if full {
		keys = map[chainKey]struct{}{}
		for key := range d.wanted {
			keys[key] = struct{}{}
		}
		for key := range d.kernel.chains {
			keys[key] = struct{}{}
		}
		d.planJumps(changes)
	}
	for _, key := range slices.SortedFunc(maps.Keys(keys), compareKeys) {
		if c := changes[key.table]; c != nil {
			d.planChain(c, key)
		}
	}
	for table, c := range changes {
		if d.kernel.nft {
			c.blocks = splitNew(c, func(name string) bool {
				_, exists := d.kernel.chains[chainKey{table, name}]
				return !exists
			})
		}
	}
	return changes
}

func (d *Driver) planChain(c *change, key chainKey) {
	want := d.wanted[key]
	have, exists := d.kernel.chains[key]
	switch {
	case want != nil && (!exists || have != want.signature):
		c.write = append(c.write, want)
	case want == nil && exists && !d.kernel.pinned[key]:
		c.remove = append(c.remove, key.name)
	case want == nil && exists && have != emptySignature:
		c.empty = append(c.empty, key.name)
	}
}

// planJumps finds jumps that are missing, and rules of ours in kernel chains that are
// stale or repeated.
func (d *Driver) planJumps(changes map[Table]*change) {
	missing := map[chainKey]map[string]bool{}
	for _, j := range d.jumps {
		key := chainKey{j.Table, j.Chain}
		if missing[key] == nil {
			missing[key] = map[string]bool{}
		}
		missing[key][j.hash] = true
	}
	for _, key := range slices.SortedFunc(maps.Keys(d.kernel.jumps), compareKeys) {
		if changes[key.table] == nil {
			continue
		}
		// Repeated rules have one text, and -D takes the first; so each one beyond the
		// first costs one -D, and a wanted one stays.
		for _, rule := range d.kernel.jumps[key] {
			if missing[key][rule.hash] {
				missing[key][rule.hash] = false
				continue
			}
			changes[key.table].drop = append(changes[key.table].drop, droppedRule{key.name, rule.spec})
		}
	}
	for _, j := range d.jumps {
		if missing[chainKey{j.Table, j.Chain}][j.hash] {
			changes[j.Table].insert = append(changes[j.Table].insert, j)
		}
	}
}

// settle records what a successful write left in the kernel.
func (d *Driver) settle(changes map[Table]*change) {
	for table, c := range changes {
		for _, w := range c.written() {
			d.kernel.chains[chainKey{table, w.Name}] = w.signature
		}
		for _, name := range c.empty {
			d.kernel.chains[chainKey{table, name}] = emptySignature
		}
		for _, name := range c.remove {
			delete(d.kernel.chains, chainKey{table, name})
		}
	}
	clear(d.dirty)
}

// Check compares the kernel with the wanted state and repairs what differs.
func (d *Driver) Check(ctx context.Context) (Result, error) {
	d.Invalidate()
	return d.Apply(ctx)
}

// Cleanup removes everything that a driver ever wrote and returns an error when a
// chain has to stay because a rule of somebody else refers to it.
func Cleanup(ctx context.Context, executor Executor) error {
	d := NewDriver(executor)
	if _, err := d.Apply(ctx); err != nil {
		return fmt.Errorf("removing the proxy's iptables chains: %w", err)
	}
	var errs []error
	for _, key := range slices.SortedFunc(maps.Keys(d.kernel.chains), compareKeys) {
		errs = append(errs, fmt.Errorf(
			"chain %s of table %s was emptied but not removed: a rule that is not ours refers to it; delete that rule (see iptables-save)",
			key.name, key.table))
	}
	return errors.Join(errs...)
}

func compareKeys(a, b chainKey) int {
	if c := strings.Compare(string(a.table), string(b.table)); c != 0 {
		return c
	}
	return strings.Compare(a.name, b.name)
}
