// Package iptables keeps the proxy's chains in the kernel equal to the wanted ones.
//
// It owns every chain whose name starts with KLS- in the tables nat and filter, and
// in the kernel's own chains only the rules that carry its mark; it changes nothing
// else. Each rule's comment ends in a hash of its text, so that what the kernel holds
// is compared without understanding rules: after a crash, a restart or an interference
// the next Apply reads the tables once and writes only what differs, in one atomic
// iptables-restore.
package iptables

import (
	"encoding/base32"
	"encoding/binary"
	"hash/fnv"
	"strings"
)

// ChainPrefix starts the name of every chain that this package owns.
const ChainPrefix = "KLS-"

// markPrefix starts the hash at the end of a rule's comment.
const markPrefix = "kls:"

// Table is the name of an iptables table.
type Table string

// The tables that the proxy writes to.
const (
	NAT    Table = "nat"
	Filter Table = "filter"
)

// tables lists them in the order in which they are written.
func tables() []Table { return []Table{NAT, Filter} }

// Rule is one rule, in the words of iptables: Match ("-d 10.0.0.1/32 -p tcp") and
// Action ("-j ACCEPT"; nothing where the match itself does something). Comment says for a
// reader what the rule is for; what iptables does not accept in a comment is replaced or
// cut.
type Rule struct {
	Match   string
	Action  string
	Comment string
}

// Chain is a chain of ours with all its rules in order.
type Chain struct {
	Table Table
	Name  string
	Rules []Rule
}

// Jump is a rule of ours in a chain of the kernel. It is put first when it is missing
// and left where it is otherwise.
type Jump struct {
	Table Table
	// Chain is a built-in chain such as PREROUTING.
	Chain string
	Rule  Rule
}

// maxComment is what fits into an iptables comment (256 with its end mark), less the
// hash.
const maxComment = 255 - len(markPrefix) - 13 - 1

var hashEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// hash identifies the rule's text; it is stable across versions of Go and restarts.
func (r Rule) hash() string {
	h := fnv.New64a()
	for _, part := range []string{r.Match, "\x00", r.Action, "\x00", r.Comment} {
		_, _ = h.Write([]byte(part)) // a hash never fails to write
	}
	return hashEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, h.Sum64()))
}

// appendSpec writes the rule as it follows "-A CHAIN".
func (r Rule) appendSpec(b []byte, hash string) []byte {
	if r.Match != "" {
		b = append(append(b, ' '), r.Match...)
	}
	b = append(b, ` -m comment --comment "`...)
	if comment := r.Comment; comment != "" {
		b = append(appendComment(b, comment), ' ')
	}
	b = append(b, markPrefix...)
	b = append(b, hash...)
	b = append(b, `" `...)
	return append(b, r.Action...)
}

// appendComment writes what of a comment is safe inside quotes: a name that slipped
// past validation must not become a rule.
func appendComment(b []byte, comment string) []byte {
	comment = strings.ReplaceAll(comment[:min(len(comment), maxComment)], markPrefix, "kls_")
	for i := range len(comment) {
		c := comment[i]
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '\'' {
			c = '_'
		}
		b = append(b, c)
	}
	return b
}

// signature stands for the contents of a chain: the hashes of its rules in order. A
// rule that is not ours enters as its text.
type signature uint64

const emptySignature signature = 14695981039346656037

func (s signature) add(text string) signature {
	h := uint64(s)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return signature((h ^ 0xff) * 1099511628211)
}

// ruleHash returns the hash that a line of iptables-save carries, or "" when the rule
// was not written by us.
func ruleHash(line string) string {
	const size = 13
	i := strings.Index(line, markPrefix)
	if i < 0 || len(line) < i+len(markPrefix)+size {
		return ""
	}
	start := i + len(markPrefix)
	hash, end := line[start:start+size], line[start+size:]
	if end != "" && end[0] != '"' && end[0] != ' ' {
		return ""
	}
	return hash
}
