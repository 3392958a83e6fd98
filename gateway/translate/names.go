package translate

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keelson-dev/keelson/gateway/table"
)

// versionKind is an apiVersion and a kind, as objects have them.
type versionKind struct{ apiVersion, kind string }

// names are the two names of everything in a table.
type names struct {
	// rows of stored kinds and of upstream kinds.
	stored, upstream map[versionKind]table.Row
	// versions are the stored apiVersions with the upstream one of each.
	versions map[string]string
	// groups are the stored groups with the upstream one of each.
	groups map[string]string
	// toUpstream replaces names in text, such as messages.
	toUpstream *strings.Replacer
}

func newNames(rows []table.Row) names {
	n := names{
		stored:   make(map[versionKind]table.Row, len(rows)),
		upstream: make(map[versionKind]table.Row, len(rows)),
		versions: make(map[string]string),
		groups:   make(map[string]string),
	}
	for _, row := range rows {
		n.stored[versionKind{row.Stored.GroupVersion().String(), row.Kind}] = row
		n.upstream[versionKind{row.Upstream.GroupVersion().String(), row.Kind}] = row
		n.versions[row.Stored.GroupVersion().String()] = row.Upstream.GroupVersion().String()
		n.groups[row.Stored.Group] = row.Upstream.Group
	}
	n.toUpstream = textReplacer(rows)
	return n
}

// textReplacer turns "pods.core.keelson.dev", "Pod.core.keelson.dev",
// `API group "core.keelson.dev"` and "core.keelson.dev/v1" into upstream's words.
func textReplacer(rows []table.Row) *strings.Replacer {
	var pairs []string
	for _, row := range rows {
		pairs = append(pairs,
			row.Stored.GroupResource().String(), row.Upstream.GroupResource().String(),
			row.StoredKind().GroupKind().String(), row.UpstreamKind().GroupKind().String(),
			`API group "`+row.Stored.Group+`"`, `API group "`+row.Upstream.Group+`"`,
			row.Stored.GroupVersion().String(), row.Upstream.GroupVersion().String(),
		)
	}
	return strings.NewReplacer(pairs...)
}

// upstreamVersion is the upstream name of a stored apiVersion. kind decides where it
// is given; without one the apiVersion alone does.
func (n *names) upstreamVersion(apiVersion, kind []byte) (string, bool) {
	if kind != nil {
		row, ok := n.stored[versionKind{string(apiVersion), string(kind)}]
		if !ok {
			return "", false
		}
		return row.Upstream.GroupVersion().String(), true
	}
	version, ok := n.versions[string(apiVersion)]
	return version, ok
}

// storedVersion is the stored name of an upstream apiVersion of kind.
func (n *names) storedVersion(apiVersion, kind []byte) (string, bool) {
	row, ok := n.upstream[versionKind{string(apiVersion), string(kind)}]
	if !ok {
		return "", false
	}
	return row.Stored.GroupVersion().String(), true
}

// version is upstreamVersion or storedVersion.
type version func(apiVersion, kind []byte) (string, bool)

// appendReference appends an object of the shape {apiVersion, kind, …}, with its
// apiVersion renamed.
func appendReference(dst, value []byte, rename version) []byte {
	if !isObject(value) {
		return append(dst, value...)
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value)
	kind := text(members, "kind")
	if kind == nil {
		return append(dst, value...)
	}
	w := open(dst, '{')
	for _, m := range members {
		w.next(m.lead)
		if string(m.name) == "apiVersion" {
			w.dst = appendVersion(w.dst, m.value, kind, rename)
			continue
		}
		w.value(m.value)
	}
	return w.close(tail, '}')
}

// appendReferences is appendReference for an array.
func appendReferences(dst, value []byte, rename version) []byte {
	if !isArray(value) {
		return append(dst, value...)
	}
	var few [4]element
	elements, tail := appendElements(few[:0], value)
	w := open(dst, '[')
	for _, e := range elements {
		w.next(e.lead)
		w.dst = appendReference(w.dst, e.value, rename)
	}
	return w.close(tail, ']')
}

// appendVersion appends the value of an apiVersion member, renamed if it has another
// name.
func appendVersion(dst, value, kind []byte, rename version) []byte {
	if isString(value) {
		if name, ok := rename(unquoted(value), kind); ok {
			return appendString(dst, name)
		}
	}
	return append(dst, value...)
}

// text is the content of the last member of this name, nil if it is no string.
func text(members []member, name string) []byte {
	var content []byte
	for i := range members {
		if string(members[i].name) == name {
			content = nil
			if isString(members[i].value) {
				content = unquoted(members[i].value)
			}
		}
	}
	return content
}

// appendString appends s as a JSON string. Bad encoding, which a valid input may have
// escaped, is replaced.
func appendString[S string | []byte](dst []byte, s S) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
