package convert

// kind of a node.
type kind int

const (
	scalar kind = iota
	mapping
	sequence
	alias
)

// node is a value of a document together with its place in the text.
type node struct {
	kind kind
	// from, to is the place of the value: a scalar with its quotes, an alias with its
	// star. For a mapping and a sequence only from is set, and for an empty scalar
	// both are equal.
	from, to int
	line     int
	style    style
	// text is a scalar's value. isString is false for numbers, booleans and null.
	text     string
	isString bool
	anchored bool
	// target is what an alias stands for.
	target *node
	// items are the elements of a sequence.
	items []*node
	// members are those of a mapping, in the order of the text.
	members []member
}

type member struct {
	key, value *node
}

// style is how a scalar is written.
type style int

const (
	plain style = iota
	doubleQuoted
	singleQuoted
	literal
	folded
)

// resolved is what n stands for.
func (n *node) resolved() *node {
	if n != nil && n.kind == alias {
		return n.target
	}
	return n
}

// get returns the value of key, not resolved: nil when it is absent. Keys that come from
// a merge ("<<") count last, as YAML has it.
func (n *node) get(key string) *node {
	return n.lookup(key, nil)
}

// lookup leaves out the mappings of seen: merges may form a circle, or name the same
// mapping over and over.
func (n *node) lookup(key string, seen map[*node]bool) *node {
	if n == nil || n.kind != mapping || seen[n] {
		return nil
	}
	for _, m := range n.members {
		if m.key.text == key && m.key.kind == scalar {
			return m.value
		}
	}
	for _, m := range n.members {
		if m.key.kind != scalar || m.key.text != "<<" || m.key.style != plain {
			continue
		}
		if seen == nil {
			seen = map[*node]bool{}
		}
		seen[n] = true
		merged := []*node{m.value}
		if from := m.value.resolved(); from.kind == sequence {
			merged = from.items
		}
		for _, from := range merged {
			if value := from.resolved().lookup(key, seen); value != nil {
				return value
			}
		}
	}
	return nil
}

// own tells whether the mapping itself, not a merge, has the key.
func (n *node) own(key string) bool {
	for _, m := range n.members {
		if m.key.kind == scalar && m.key.text == key {
			return true
		}
	}
	return false
}

// textOf returns the string that key holds, or "".
func (n *node) textOf(key string) string {
	value := n.get(key).resolved()
	if value == nil || value.kind != scalar || !value.isString {
		return ""
	}
	return value.text
}

// document is a parsed text: its top-level values and every alias in it.
type document struct {
	roots   []*node
	aliases []*node
}
