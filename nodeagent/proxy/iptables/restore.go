package iptables

import (
	"bytes"
	"slices"
)

// change is the difference between the kernel and the wanted chains of one table.
type change struct {
	// blocks are chains to create beforehand, in transactions of their own.
	blocks [][]*wantedChain
	// write are chains to create or replace.
	write []*wantedChain
	// empty are chains that are not wanted but cannot be deleted.
	empty []string
	// remove are chains to delete.
	remove []string
	// insert are jumps to put first in their chain, in the order in which they end up.
	insert []*wantedJump
	// drop are rules of ours in kernel chains that are not wanted.
	drop []droppedRule
}

type droppedRule struct {
	chain, spec string
}

func (c *change) isEmpty() bool {
	return len(c.blocks)+len(c.write)+len(c.empty)+len(c.remove)+len(c.insert)+len(c.drop) == 0
}

// written returns every chain that is created or replaced.
func (c *change) written() []*wantedChain {
	return slices.Concat(append(slices.Clip(c.blocks), c.write)...)
}

// renderRestore returns the input of iptables-restore --noflush for the changes; nil
// when there is none. Naming a chain of ours creates or empties it, so that its rules
// are replaced in the same transaction.
func renderRestore(changes map[Table]*change) []byte {
	var b bytes.Buffer
	for _, table := range tables() {
		c := changes[table]
		if c == nil || c.isEmpty() {
			continue
		}
		for _, block := range c.blocks {
			b.WriteString("*" + string(table) + "\n")
			for _, chain := range block {
				b.WriteString(":" + chain.Name + " - [0:0]\n")
				chain.writeRules(&b)
			}
			b.WriteString("COMMIT\n")
		}
		b.WriteString("*" + string(table) + "\n")
		for _, chain := range c.write {
			b.WriteString(":" + chain.Name + " - [0:0]\n")
		}
		for _, name := range slices.Concat(c.empty, c.remove) {
			b.WriteString(":" + name + " - [0:0]\n")
		}
		for _, dropped := range c.drop {
			b.WriteString("-D " + dropped.chain + " " + dropped.spec + "\n")
		}
		for _, chain := range c.write {
			chain.writeRules(&b)
		}
		for _, jump := range slices.Backward(c.insert) {
			b.Write(jump.Rule.appendSpec([]byte("-I "+jump.Chain+" 1"), jump.hash))
			b.WriteByte('\n')
		}
		for _, name := range c.remove {
			b.WriteString("-X " + name + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.Bytes()
}

// wantedChain is a chain with the signature of its contents.
type wantedChain struct {
	Chain
	signature signature
}

func newWantedChain(c Chain) *wantedChain {
	w := &wantedChain{Chain: c, signature: emptySignature}
	for _, r := range c.Rules {
		w.signature = w.signature.add(r.hash())
	}
	return w
}

func (w *wantedChain) writeRules(b *bytes.Buffer) {
	for _, r := range w.Rules {
		line := append(b.AvailableBuffer(), "-A "...)
		line = append(line, w.Name...)
		line = r.appendSpec(line, r.hash())
		b.Write(append(line, '\n'))
	}
}

type wantedJump struct {
	Jump
	hash string
}
