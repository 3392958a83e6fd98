package convert

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// lines tells where the lines of a text begin, counted as the YAML parser does.
type lines struct {
	content []byte
	starts  []int
	// last is where offset looked last: a parser asks for one place after the other,
	// and a line may be as long as the text.
	last *place
}

type place struct {
	line, column, offset int
}

var byteOrderMark = []byte("\uFEFF")

func newLines(content []byte) lines {
	l := lines{content: content, starts: []int{0}, last: &place{}}
	if bytes.HasPrefix(content, byteOrderMark) {
		l.starts[0] = len(byteOrderMark) // the parser counts columns after it
	}
	for i := 0; i < len(content); {
		width := lineBreak(content[i:])
		if width == 0 {
			i++
			continue
		}
		i += width
		l.starts = append(l.starts, i)
	}
	return l
}

// lineBreak is the length of the line break that s begins with, or 0.
func lineBreak(s []byte) int {
	switch {
	case bytes.HasPrefix(s, []byte("\r\n")):
		return 2
	case len(s) > 0 && (s[0] == '\n' || s[0] == '\r'):
		return 1
	}
	for _, mark := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.HasPrefix(s, []byte(mark)) {
			return len(mark)
		}
	}
	return 0
}

// offset is the place of a line and column, both from 1, a column being a character.
func (l lines) offset(line, column int) int {
	if line < 1 || line > len(l.starts) {
		return len(l.content)
	}
	at := place{line: line, column: 1, offset: l.starts[line-1]}
	if l.last.line == line && l.last.column <= column {
		at = *l.last
	}
	for ; at.column < column; at.column++ {
		_, width := utf8.DecodeRune(l.content[at.offset:])
		at.offset += width
	}
	*l.last = at
	return at.offset
}

// line is the line, from 1, of a place.
func (l lines) line(offset int) int {
	at, exact := slices.BinarySearch(l.starts, offset)
	if exact {
		return at + 1
	}
	return max(at, 1)
}

// text is one line without its break.
func (l lines) text(line int) (from int, text []byte) {
	if line > len(l.starts) {
		return len(l.content), nil
	}
	from, to := l.starts[line-1], len(l.content)
	if line < len(l.starts) {
		to = l.starts[line]
	}
	return from, bytes.TrimRight(l.content[from:to], "\r\n")
}

// places maps every byte of a scalar's value, and its end, to its place in the text. ok
// is false when the way it is written has no such map.
func (l lines) places(n *node) (places []int, ok bool) {
	switch n.style {
	case plain:
		return contiguous(n.from, n.text), n.to-n.from == len(n.text)
	case doubleQuoted:
		return unquoteDouble(l.content[n.from:n.to], n.from, n.text)
	case singleQuoted:
		return unquoteSingle(l.content[n.from:n.to], n.from, n.text)
	case literal:
		return l.literalPlaces(n)
	default:
		return nil, false
	}
}

func contiguous(from int, text string) []int {
	places := make([]int, len(text)+1)
	for i := range places {
		places[i] = from + i
	}
	return places
}

// literalPlaces: line i of the value is the end of line i below the header.
func (l lines) literalPlaces(n *node) ([]int, bool) {
	places := make([]int, 0, len(n.text)+1)
	for i, want := range strings.SplitAfter(n.text, "\n") {
		body := strings.TrimSuffix(want, "\n")
		from, raw := l.text(n.line + 1 + i)
		if !bytes.HasSuffix(raw, []byte(body)) {
			return nil, false
		}
		from += len(raw) - len(body)
		for k := range len(want) {
			places = append(places, from+k)
		}
	}
	end := n.from
	if len(places) > 0 {
		end = places[len(places)-1] + 1
	}
	return append(places, end), true
}

// unquoteSingle undoes single quotes; raw includes them.
func unquoteSingle(raw []byte, at int, want string) ([]int, bool) {
	var places []int
	var value []byte
	for i := 1; i < len(raw)-1; i++ {
		value, places = append(value, raw[i]), append(places, at+i)
		if raw[i] == '\'' {
			i++
		}
	}
	return append(places, at+len(raw)-1), string(value) == want
}

// unquoteDouble undoes double quotes on one line; raw includes them.
func unquoteDouble(raw []byte, at int, want string) ([]int, bool) {
	var places []int
	var value []byte
	for i := 1; i < len(raw)-1; {
		text, width := string(raw[i:i+1]), 1
		if raw[i] == '\\' {
			text, width = unescape(string(raw[i : len(raw)-1]))
		}
		if width == 0 {
			return nil, false
		}
		for range len(text) {
			places = append(places, at+i)
		}
		value = append(value, text...)
		i += width
	}
	return append(places, at+len(raw)-1), string(value) == want
}

// unescape decodes the escape that s begins with and tells its length, 0 when it is none.
func unescape(s string) (text string, width int) {
	if len(s) < 2 {
		return "", 0
	}
	const codes, values = `0abtnvfre "/\N_LP`, "\x00\a\b\t\n\v\f\r\x1b \"/\\\u0085\u00a0\u2028\u2029"
	if at := strings.IndexByte(codes, s[1]); at >= 0 {
		return string([]rune(values)[at]), 2
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	first, ok := hex(s, digits)
	if !ok {
		return "", 0
	}
	width = 2 + digits
	if utf16.IsSurrogate(first) && strings.HasPrefix(s[width:], `\u`) {
		second, ok := hex(s[width:], 4)
		if !ok {
			return "", 0
		}
		return string(utf16.DecodeRune(first, second)), width + 6
	}
	return string(first), width
}

func hex(escape string, digits int) (rune, bool) {
	if digits == 0 || len(escape) < 2+digits {
		return 0, false
	}
	value, err := strconv.ParseUint(escape[2:2+digits], 16, 32)
	return rune(value), err == nil
}

// quoted writes text as a part of a scalar of the given style.
func quoted(s style, text string) string {
	switch s {
	case doubleQuoted:
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
	case singleQuoted:
		return strings.ReplaceAll(text, `'`, `''`)
	default:
		return text
	}
}
