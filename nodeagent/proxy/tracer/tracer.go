// Package tracer follows one packet through the rules of an iptables-save, so that
// tests can say "from A to B:80 reaches these endpoints" instead of comparing rules. It
// understands what the proxy renders and refuses everything else. For tests only.
package tracer

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Packet is the first packet of a connection unless State says otherwise.
type Packet struct {
	From netip.Addr
	To   netip.AddrPort
	// Protocol is tcp or udp.
	Protocol string
	// In is the interface that it comes in through; empty when this node sends it.
	In string
	// State is its conntrack state: NEW (the default), INVALID, ESTABLISHED.
	State string
	// Lists are the names of recent lists that the sender, or everybody, is on.
	Lists []string
}

// Outcome is one possible fate of the packet.
type Outcome struct {
	// To is where it goes in the end.
	To netip.AddrPort
	// Verdict is "forwarded", "local" (delivered on this node), "sent" (leaves this node
	// that made it), "rejected" or "dropped".
	Verdict    string
	Masquerade bool
	// List is the recent list that the sender was put on.
	List string
	// Probability of this fate.
	Probability float64
}

// Node is the machine the packet passes.
type Node struct {
	// Save is the output of iptables-save.
	Save string
	// Addresses are those of the node.
	Addresses []netip.Addr
}

// Trace returns every possible outcome, those that are alike added up, ordered by
// destination.
func (n Node) Trace(p Packet) ([]Outcome, error) {
	t := &trace{node: n, packet: p, chains: map[string][]rule{}}
	if t.packet.State == "" {
		t.packet.State = "NEW"
	}
	if err := t.parse(); err != nil {
		return nil, err
	}
	first := "PREROUTING"
	if p.In == "" {
		first = "OUTPUT"
	}
	var out []Outcome
	for _, s := range t.through("nat", first, state{to: p.To, probability: 1}) {
		out = append(out, t.filter(s)...)
	}
	if t.err != nil {
		return nil, t.err
	}
	return merge(out), nil
}

// filter takes a packet that was translated, or not, through the filter table and the
// last part of nat.
func (t *trace) filter(s state) []Outcome {
	chain, verdict := "FORWARD", "forwarded"
	switch {
	case t.packet.In == "":
		chain, verdict = "OUTPUT", "sent"
	case t.local(s.to.Addr()):
		chain, verdict = "INPUT", "local"
	}
	var out []Outcome
	s.verdict = ""
	for _, f := range t.through("filter", chain, s) {
		o := Outcome{To: f.to, Verdict: verdict, List: f.list, Probability: f.probability}
		switch {
		case f.verdict == "REJECT" || f.verdict == "DROP":
			o.Verdict = map[string]string{"REJECT": "rejected", "DROP": "dropped"}[f.verdict]
			out = append(out, o)
			continue
		case verdict == "local":
			out = append(out, o)
			continue
		}
		f.verdict = ""
		for _, last := range t.through("nat", "POSTROUTING", f) {
			o.Masquerade, o.Probability = last.verdict == "MASQUERADE", last.probability
			out = append(out, o)
		}
	}
	return out
}

func merge(outcomes []Outcome) []Outcome {
	sum := map[Outcome]float64{}
	for _, o := range outcomes {
		p := o.Probability
		o.Probability = 0
		sum[o] += p
	}
	merged := slices.Collect(maps.Keys(sum))
	for i := range merged {
		merged[i].Probability = sum[merged[i]]
	}
	slices.SortFunc(merged, func(a, b Outcome) int {
		return cmp.Or(a.To.Compare(b.To), cmp.Compare(a.Verdict, b.Verdict), cmp.Compare(a.List, b.List))
	})
	return merged
}

type state struct {
	to          netip.AddrPort
	mark        uint64
	translated  bool
	list        string
	verdict     string
	probability float64
}

type rule struct {
	text   string
	words  []string
	target string
	args   []string
}

type trace struct {
	node   Node
	packet Packet
	// chains by "table chain".
	chains map[string][]rule
	err    error
	depth  int
}

func (t *trace) local(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(t.node.Addresses, a)
}

func (t *trace) parse() error {
	table := ""
	for line := range strings.Lines(t.node.Save) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
		}
		rest, ok := strings.CutPrefix(line, "-A ")
		if !ok {
			continue
		}
		chain, spec, _ := strings.Cut(rest, " ")
		r, err := parseRule(spec)
		if err != nil {
			return err
		}
		t.chains[table+" "+chain] = append(t.chains[table+" "+chain], r)
	}
	return nil
}

// parseRule splits a rule at its target and takes the comment out. One that only takes
// note of something has none.
func parseRule(spec string) (rule, error) {
	r := rule{text: spec}
	if before, after, ok := strings.Cut(spec, `-m comment --comment "`); ok {
		_, rest, closed := strings.Cut(after, `"`)
		if !closed {
			return rule{}, fmt.Errorf("comment without end in %q", spec)
		}
		spec = before + rest
	}
	words := strings.Fields(spec)
	i := slices.Index(words, "-j")
	if i < 0 && slices.Contains(words, "--set") {
		r.words = words
		return r, nil
	}
	if i < 0 || i+1 >= len(words) {
		return rule{}, fmt.Errorf("rule without target: %q", r.text)
	}
	r.words, r.target, r.args = words[:i], words[i+1], words[i+2:]
	return r, nil
}

// through returns the states in which a packet can leave a chain; those without verdict
// returned from it.
func (t *trace) through(table, chain string, s state) []state {
	if t.depth++; t.depth > 10 {
		t.fail("chains nested too deep at %s", chain)
		return nil
	}
	defer func() { t.depth-- }()
	var done []state
	at := []state{s}
	for _, r := range t.chains[table+" "+chain] {
		var next []state
		for _, s := range at {
			matched, passed := t.match(r, s)
			if passed.probability > 0 {
				next = append(next, passed)
			}
			if matched.probability > 0 {
				for _, after := range t.act(table, r, matched) {
					switch after.verdict {
					case "":
						next = append(next, after)
					case "RETURN":
						after.verdict = ""
						done = append(done, after)
					default:
						done = append(done, after)
					}
				}
			}
		}
		at = next
	}
	return append(done, at...)
}

// act executes the target.
func (t *trace) act(table string, r rule, s state) []state {
	switch r.target {
	case "":
	case "ACCEPT", "DROP", "RETURN", "REJECT", "MASQUERADE":
		s.verdict = r.target
	case "DNAT":
		to, err := netip.ParseAddrPort(r.args[slices.Index(r.args, "--to-destination")+1])
		if err != nil {
			t.fail("%v in %q", err, r.text)
		}
		s.to, s.translated, s.verdict = to, true, "DNAT"
	case "MARK":
		value, mask := t.valueMask(r.args[1])
		switch r.args[0] {
		case "--set-xmark":
			s.mark = s.mark&^mask ^ value
		default:
			t.fail("unknown option in %q", r.text)
		}
	default:
		if !strings.HasPrefix(r.target, "KLS-") {
			t.fail("unknown target in %q", r.text)
			return nil
		}
		return t.through(table, r.target, s)
	}
	return []state{s}
}

// match returns the packet as it continues when the rule matches and when not; a
// probability of zero means that it cannot happen.
func (t *trace) match(r rule, s state) (matched, passed state) {
	matched, passed = s, s
	chance, not := 1.0, false
	words := r.words
	for len(words) > 0 {
		option := words[0]
		if option == "!" {
			not, words = true, words[1:]
			continue
		}
		value := ""
		if len(words) > 1 {
			value = words[1]
		}
		var ok bool
		used := 2
		switch option {
		case "-m", "--mode", "--seconds", "--mask":
			words = words[2:]
			continue
		case "--reap", "--rsource":
			words = words[1:]
			continue
		case "--probability":
			chance, ok = t.float(value), true
		case "--name":
			var what string
			command := words[2:]
			if used = 3; len(command) > 0 && command[0] == "!" {
				not, used, command = !not, 4, command[1:]
			}
			ok, what = t.recent(value, command)
			if ok && what == "--set" {
				matched.list = value
			}
		default:
			ok = t.holds(option, value, s)
		}
		if ok == not {
			return state{}, s
		}
		not, words = false, words[used:]
	}
	matched.probability *= chance
	passed.probability *= 1 - chance
	return matched, passed
}

// holds tells whether the packet is as one option with one value says.
func (t *trace) holds(option, value string, s state) bool {
	switch option {
	case "-p":
		return value == t.packet.Protocol
	case "-i":
		return t.packet.In == value || (t.packet.In == "" && value == "lo")
	case "-s":
		return t.prefix(value).Contains(t.packet.From)
	case "-d":
		return t.prefix(value).Contains(s.to.Addr())
	case "--dport":
		return value == strconv.Itoa(int(s.to.Port()))
	case "--dst-type":
		return value == "LOCAL" && t.local(s.to.Addr())
	case "--src-type":
		return value == "LOCAL" && t.local(t.packet.From)
	case "--ctstate":
		return t.hasState(value, s)
	case "--mark":
		want, mask := t.valueMask(value)
		return s.mark&mask == want
	}
	t.fail("unknown match %q with value %q", option, value)
	return false
}

func (t *trace) recent(list string, rest []string) (ok bool, what string) {
	if len(rest) == 0 {
		t.fail("recent without command")
		return false, ""
	}
	switch rest[0] {
	case "--set":
		return true, "--set"
	case "--rcheck":
		return slices.Contains(t.packet.Lists, list), "--rcheck"
	}
	t.fail("unknown recent command %q", rest[0])
	return false, ""
}

func (t *trace) hasState(list string, s state) bool {
	for name := range strings.SplitSeq(list, ",") {
		if name == t.packet.State || (name == "DNAT" && s.translated) {
			return true
		}
	}
	return false
}

func (t *trace) prefix(text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		t.fail("%v", err)
	}
	return p
}

func (t *trace) float(text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.fail("%v", err)
	}
	return f
}

func (t *trace) valueMask(text string) (value, mask uint64) {
	v, m, hasMask := strings.Cut(text, "/")
	value, err := strconv.ParseUint(v, 0, 64)
	if err != nil {
		t.fail("%v", err)
	}
	mask = 0xffffffff
	if hasMask {
		if mask, err = strconv.ParseUint(m, 0, 64); err != nil {
			t.fail("%v", err)
		}
	}
	return value, mask
}

func (t *trace) fail(format string, args ...any) {
	if t.err == nil {
		t.err = fmt.Errorf(format, args...)
	}
}
