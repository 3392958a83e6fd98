package translate

import "slices"

// Columns of a Pod that upstream's printer makes one of. A custom resource's columns are
// its fields, and an age in words cannot be one: it would change with the time.
const (
	restartsColumn    = "Restarts"
	lastRestartColumn = "Last Restart"
)

// columns says where in a Table's rows the restarts of a Pod stand. In a watch only the
// first frame says it.
type columns struct {
	// restarts and last are indexes; last is 0 (which is the name) in a Table without.
	restarts, last int
}

// read notes the columns of a Table that are defined.
func (c *columns) read(definitions []byte) {
	if !isArray(definitions) {
		return
	}
	elements, _ := appendElements(nil, definitions)
	name := func(wanted string) int {
		return slices.IndexFunc(elements, func(e element) bool {
			value := find(e.value, "name")
			return isString(value) && string(unquoted(value)) == wanted
		})
	}
	*c = columns{restarts: name(restartsColumn), last: name(lastRestartColumn)}
	if c.restarts < 0 || c.last < 0 {
		*c = columns{}
	}
}

// appendDefinitions appends the definitions of upstream's columns.
func (c columns) appendDefinitions(dst, definitions []byte) []byte {
	if c.last == 0 || !isArray(definitions) {
		return append(dst, definitions...)
	}
	elements, tail := appendElements(nil, definitions)
	w := open(dst, '[')
	for i, e := range elements {
		switch {
		case i == c.last:
		case i == c.restarts && isObject(e.value):
			w.next(e.lead)
			w.dst = appendAsString(w.dst, e.value)
		default:
			w.next(e.lead)
			w.value(e.value)
		}
	}
	return w.close(tail, ']')
}

// appendAsString appends the definition of a column as one of strings.
func appendAsString(dst, definition []byte) []byte {
	members, tail := appendMembers(nil, definition)
	w := open(dst, '{')
	for _, m := range members {
		w.next(m.lead)
		if string(m.name) == "type" {
			w.dst = append(w.dst, `"string"`...)
			continue
		}
		w.value(m.value)
	}
	return w.close(tail, '}')
}

// appendCells appends the cells of a row, of which two may be one: "4 (10s ago)".
func (c columns) appendCells(dst, cells []byte, appendCell func(dst, value []byte) []byte) []byte {
	if !isArray(cells) {
		return append(dst, cells...)
	}
	elements, tail := appendElements(nil, cells)
	joined := c.last > 0 && c.last < len(elements) && c.restarts < len(elements)
	w := open(dst, '[')
	for i, e := range elements {
		switch {
		case joined && i == c.last:
		case joined && i == c.restarts:
			w.next(e.lead)
			w.dst = appendRestarts(w.dst, e.value, elements[c.last].value)
		default:
			w.next(e.lead)
			w.dst = appendCell(w.dst, e.value)
		}
	}
	return w.close(tail, ']')
}

// appendRestarts joins a count and an age.
func appendRestarts(dst, count, ago []byte) []byte {
	text := append([]byte(nil), count...)
	if isString(count) {
		text = append(text[:0], unquoted(count)...)
	}
	if string(text) == "null" {
		text = append(text[:0], '0')
	}
	if age := string(ago); isString(ago) && age != `""` && string(text) != "0" {
		text = append(append(append(text, " ("...), unquoted(ago)...), " ago)"...)
	}
	return appendString(dst, string(text))
}
