package iptables

import (
	"bytes"
	"fmt"
	"strings"
)

type chainKey struct {
	table Table
	name  string
}

// kernelState is what iptables-save said of our chains and of our rules elsewhere.
type kernelState struct {
	// chains are ours, with a signature of their contents.
	chains map[chainKey]signature
	// jumps are rules of ours in chains that are not ours, in order.
	jumps map[chainKey][]savedRule
	// pinned chains of ours are referenced by rules of others: they can be emptied but
	// not deleted.
	pinned map[chainKey]bool
	// nft is set when the programs write to nf_tables.
	nft bool
}

type savedRule struct {
	hash string
	// spec is the text after "-A CHAIN ".
	spec string
}

func newKernelState() kernelState {
	return kernelState{
		chains: map[chainKey]signature{},
		jumps:  map[chainKey][]savedRule{},
		pinned: map[chainKey]bool{},
	}
}

// parseSave reads the output of iptables-save. It looks at chain names, targets and
// our hashes only.
func parseSave(data []byte) (kernelState, error) {
	state := newKernelState()
	var table Table
	number := 0
	for raw := range bytes.Lines(data) {
		number++
		line := strings.TrimRight(string(raw), "\r\n")
		if line == "" {
			continue
		}
		switch line[0] {
		case '*':
			table = Table(line[1:])
		case '#':
			state.nft = state.nft || strings.Contains(line, "(nf_tables)")
		case 'C': // COMMIT
			table = ""
		case ':':
			name, _, _ := strings.Cut(line[1:], " ")
			if ours(name) && table != "" {
				state.chains[chainKey{table, name}] = emptySignature
			}
		case '-':
			if table == "" {
				return kernelState{}, fmt.Errorf("line %d of iptables-save is a rule outside of a table: %q", number, line)
			}
			state.addRule(table, line)
		}
	}
	return state, nil
}

func (s *kernelState) addRule(table Table, line string) {
	rest, ok := strings.CutPrefix(line, "-A ")
	if !ok {
		return
	}
	name, spec, _ := strings.Cut(rest, " ")
	key, hash := chainKey{table, name}, ruleHash(spec)
	if ours(name) {
		mark := hash
		if mark == "" {
			mark = line
		}
		s.chains[key] = s.chains[key].add(mark)
		return
	}
	target := targetOf(spec)
	switch {
	case hash != "" && (target == "" || ours(target)):
		s.jumps[key] = append(s.jumps[key], savedRule{hash: hash, spec: spec})
	case ours(target):
		s.pinned[chainKey{table, target}] = true
	}
}

func ours(chain string) bool { return strings.HasPrefix(chain, ChainPrefix) }

// targetOf returns the chain that a rule jumps or goes to, when it is one of ours.
func targetOf(spec string) string {
	for _, flag := range []string{"-j ", "-g "} {
		i := strings.LastIndex(spec, flag+ChainPrefix)
		if i < 0 || (i > 0 && spec[i-1] != ' ') {
			continue
		}
		name, _, _ := strings.Cut(spec[i+len(flag):], " ")
		return name
	}
	return ""
}
