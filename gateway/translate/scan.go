package translate

import (
	"bytes"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The functions of this file read JSON that has been found valid already (by a
// jsontext.Decoder or isValid), so they check nothing and index freely.

// member is one member of an object.
type member struct {
	// lead is the white space before the name and the name with its quotes, colon and
	// the space after it: what to copy in front of a value.
	lead []byte
	// name is without quotes and escapes.
	name []byte
	// value is without the space around it.
	value []byte
}

// fewMembers is how many members fit in a buffer on the stack.
const fewMembers = 24

// appendMembers appends the members of the object to dst. tail is what stands between
// the last member and the closing brace.
func appendMembers(dst []member, object []byte) (members []member, tail []byte) {
	i := 1
	for {
		start := i
		i = skipSpace(object, i)
		if object[i] == '}' {
			return dst, object[start:i]
		}
		quote := i
		i = stringEnd(object, i)
		name := unquoted(object[quote:i])
		i = skipSpace(object, i)
		i = skipSpace(object, i+1) // the colon
		value := i
		i = valueEnd(object, i)
		dst = append(dst, member{lead: object[start:value], name: name, value: object[value:i]})
		// A space before the comma belongs to nobody; before the brace it is the tail.
		if j := skipSpace(object, i); object[j] == ',' {
			i = j + 1
		}
	}
}

// element is one element of an array, with the white space before it.
type element struct{ lead, value []byte }

// appendElements is appendMembers for arrays.
func appendElements(dst []element, array []byte) (elements []element, tail []byte) {
	i := 1
	for {
		start := i
		i = skipSpace(array, i)
		if array[i] == ']' {
			return dst, array[start:i]
		}
		value := i
		i = valueEnd(array, i)
		dst = append(dst, element{lead: array[start:value], value: array[value:i]})
		if j := skipSpace(array, i); array[j] == ',' {
			i = j + 1
		}
	}
}

// find returns the value of one member of an object, nil if there is none.
func find(object []byte, name string) []byte {
	if !isObject(object) {
		return nil
	}
	var few [fewMembers]member
	members, _ := appendMembers(few[:0], object)
	for i := range members {
		if string(members[i].name) == name {
			return members[i].value
		}
	}
	return nil
}

func isObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }
func isArray(value []byte) bool  { return len(value) > 0 && value[0] == '[' }
func isString(value []byte) bool { return len(value) > 0 && value[0] == '"' }

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r' {
		i++
	}
	return i
}

// stringEnd returns the index after the string that begins with the quote at i.
func stringEnd(b []byte, i int) int {
	for i++; ; i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// valueEnd returns the index after the value that begins at i.
func valueEnd(b []byte, i int) int {
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		return bracketEnd(b, i)
	}
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return i
		}
		i++
	}
	return i
}

func bracketEnd(b []byte, i int) int {
	depth := 0
	for ; ; i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		case '"':
			i = stringEnd(b, i) - 1
		}
	}
}

// unquoted is the content of a string; it is a part of it unless there are escapes.
func unquoted(value []byte) []byte {
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	// The string is valid but for its encoding perhaps, of which bad parts are replaced.
	content, _ := jsontext.AppendUnquote(nil, value)
	return content
}

// lenient is how the API server's JSON is read: it is its business whether a name
// occurs twice or text is well encoded; both pass as they are.
func lenient() jsontext.Options {
	return json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// isValid reports whether value is one JSON value that this package's scan can read.
func isValid(value []byte) bool { return jsontext.Value(value).IsValid(lenient()) }

// writer appends an object or array to a buffer.
type writer struct {
	dst   []byte
	begin int
}

func open(dst []byte, bracket byte) writer {
	dst = append(dst, bracket)
	return writer{dst: dst, begin: len(dst)}
}

// next puts the comma, if one is due, and the lead of the next member or element.
func (w *writer) next(lead []byte) {
	if !w.empty() {
		w.dst = append(w.dst, ',')
	}
	w.dst = append(w.dst, lead...)
}

func (w *writer) value(value []byte) { w.dst = append(w.dst, value...) }
func (w *writer) empty() bool        { return len(w.dst) == w.begin }
func (w *writer) member(m member)    { w.next(m.lead); w.value(m.value) }
func (w *writer) close(tail []byte, b byte) []byte {
	w.dst = append(w.dst, tail...)
	return append(w.dst, b)
}
