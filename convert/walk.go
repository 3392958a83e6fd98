package convert

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// scope is what the surroundings of a value say about it.
type scope struct {
	// kustomize: inside a file of kustomize, where selectors have a group and patches
	// are strings.
	kustomize bool
	// ours is true inside an object whose kind is converted, up to the next object.
	ours bool
	// kind is the kind of that object, ours or not.
	kind string
}

// walker goes through one document and collects what its names have to become.
type walker struct {
	c     *Converter
	lines lines
	found changes
	// wants holds what each name that was looked at has to say in the end. What an
	// alias stands for is not edited through it.
	wants map[*node]string
	order []*node
	// lent are names that came to a mapping through a merge.
	lent []lent
}

type lent struct {
	name *node
	line int
	want string
}

// scan returns the changes of one text.
func (c *Converter) scan(content []byte, in scope) (changes, error) {
	l := newLines(content)
	doc, err := parse(l)
	if err != nil {
		return changes{}, err
	}
	w := &walker{c: c, lines: l, wants: map[*node]string{}}
	for _, root := range doc.roots {
		if err := w.root(root, in); err != nil {
			return changes{}, err
		}
	}
	if err := w.finish(doc); err != nil {
		return changes{}, err
	}
	return w.found, nil
}

func (w *walker) root(n *node, in scope) error {
	in.kustomize = in.kustomize || isKustomize(n)
	return w.walk(n, in)
}

// walk looks at every mapping below n. A mapping that names an apiVersion and a kind
// names a resource, be it an object or a reference to one: owners, scale targets, the
// objects of Events.
func (w *walker) walk(n *node, in scope) error {
	switch n.kind {
	case sequence:
		for _, item := range n.items {
			if err := w.walk(item, in); err != nil {
				return err
			}
		}
	case mapping:
		if err := w.names(n, &in); err != nil {
			return err
		}
		for _, m := range n.members {
			if err := w.member(m, in); err != nil {
				return err
			}
		}
	}
	return nil
}

// isFreeText tells of maps of strings that a user chose: nothing in them names a kind.
// Kustomize has lists under some of these keys.
func isFreeText(key string, value *node) bool {
	return value.resolved().kind == mapping && slices.Contains([]string{
		"labels", "annotations", "matchLabels", "nodeSelector", "pairs", "commonLabels", "commonAnnotations",
	}, key)
}

func (w *walker) member(m member, in scope) error {
	key := m.key.text
	switch {
	case m.key.kind != scalar:
		return nil
	case key == "annotations":
		return w.lastApplied(m.value)
	case isFreeText(key, m.value):
		return nil
	case (in.kind == "ConfigMap" || in.kind == "Secret") && (key == "data" || key == "stringData" || key == "binaryData"):
		return nil
	case in.ours && key == "selector":
		return nil
	case in.kustomize && holdsText(key):
		return w.patches(m.value, in)
	}
	return w.walk(m.value, in)
}

// names converts the name of the resource that n is or refers to.
func (w *walker) names(n *node, in *scope) error {
	if err := unambiguous(n); err != nil {
		return err
	}
	apiVersion, kind := n.get("apiVersion").resolved(), n.get("kind").resolved()
	if apiVersion == nil || kind == nil || apiVersion.kind != scalar || kind.kind != scalar {
		if in.kustomize {
			w.selector(n)
		}
		return nil
	}
	for _, name := range []*node{apiVersion, kind} {
		if isTemplateText(name.text) {
			return templateError(name.line)
		}
	}
	if !apiVersion.isString || !kind.isString {
		return nil
	}
	converted, ours := w.c.apiVersion(apiVersion.text, kind.text)
	in.ours, in.kind = ours, kind.text
	w.want(n, "apiVersion", converted)
	if ours {
		w.managedFields(n, apiVersion.text, converted)
	}
	return nil
}

// unambiguous refuses a key that counts and is given twice: parsers disagree about
// which of the two is meant.
func unambiguous(n *node) error {
	for _, key := range []string{"apiVersion", "kind", "group", "version", "metadata"} {
		seen := 0
		for _, m := range n.members {
			if m.key.kind != scalar || m.key.text != key {
				continue
			}
			if seen++; seen > 1 {
				return &Error{Line: m.key.line, Message: fmt.Sprintf("the key %q is given twice", key)}
			}
		}
	}
	return nil
}

// managedFields: the entries of an object name the version that they were written in.
func (w *walker) managedFields(n *node, apiVersion, converted string) {
	entries := n.get("metadata").resolved().get("managedFields").resolved()
	if entries == nil {
		return
	}
	for _, entry := range entries.items {
		if entry = entry.resolved(); entry.textOf("apiVersion") == apiVersion {
			w.want(entry, "apiVersion", converted)
		}
	}
}

// lastApplied converts the manifest that kubectl keeps in an annotation.
func (w *walker) lastApplied(annotations *node) error {
	value := annotations.resolved().get(corev1.LastAppliedConfigAnnotation).resolved()
	if value == nil || value.kind != scalar || !value.isString {
		return nil
	}
	_, err := w.nested(value, scope{})
	return err
}

// want says what the string that n has under key has to become.
func (w *walker) want(n *node, key, text string) {
	value := n.get(key)
	if !n.own(key) {
		w.lent = append(w.lent, lent{name: value, line: n.line, want: text})
		return
	}
	if _, known := w.wants[value]; !known {
		w.order = append(w.order, value)
	}
	w.wants[value] = text
}

// nested converts the text that a string holds and reports whether it had changes.
func (w *walker) nested(n *node, in scope) (changed bool, err error) {
	inner, err := w.c.scan([]byte(n.text), in)
	if err != nil {
		problem := *located(err, "")
		problem.Line = outerLine(n, problem.Line)
		return false, &problem
	}
	for _, warning := range inner.warnings {
		warning.Line = outerLine(n, warning.Line)
		w.found.warnings = append(w.found.warnings, warning)
	}
	if len(inner.edits) == 0 {
		return false, nil
	}
	places, ok := w.lines.places(n)
	if !ok {
		return false, &Error{Line: n.line, Message: "the manifest in this string cannot be edited as it is written: write it as a literal block (|)"}
	}
	for _, e := range inner.edits {
		w.found.edits = append(w.found.edits, edit{from: places[e.from], to: places[e.to], text: quoted(n.style, e.text)})
	}
	return true, nil
}

// outerLine is the line of the text around n that a line of the text in n is in.
func outerLine(n *node, inner int) int {
	if n.style != literal {
		return n.line
	}
	return n.line + inner
}

// finish makes edits of what the names have to become.
func (w *walker) finish(doc *document) error {
	final := map[*node]string{}
	for _, name := range w.order {
		if name.kind == scalar {
			final[name] = w.wants[name]
			if err := w.edit(name, name, w.wants[name]); err != nil {
				return err
			}
		}
	}
	says := func(target *node) string {
		if text, known := final[target]; known {
			return text
		}
		return target.text
	}
	// An alias follows the name it stands for, unless it has to say something else.
	for _, a := range doc.aliases {
		if a.target == nil || a.target.kind != scalar {
			continue
		}
		want, known := w.wants[a]
		if !known {
			want = a.target.text
		}
		if want == says(a.target) {
			continue
		}
		if err := w.edit(a, a.target, want); err != nil {
			return err
		}
	}
	for _, l := range w.lent {
		if got := says(l.name.resolved()); got != l.want {
			return &Error{Line: l.line, Message: fmt.Sprintf("the apiVersion of this mapping comes from a merge (<<) and would be %s: write it out", got)}
		}
	}
	return nil
}

// edit replaces what stands at place by want, written as the scalar value is.
func (w *walker) edit(place, value *node, want string) error {
	if place.kind == scalar && want == value.text {
		return nil
	}
	e := edit{from: place.from, to: place.to, text: want}
	if place.kind == alias {
		e.text = aliasText(value, want)
		if string(w.lines.content[place.from:place.from+1]) != "*" {
			return uneditable(place)
		}
	} else {
		places, ok := w.lines.places(value)
		if !ok || value.style > singleQuoted || place.from == place.to {
			return uneditable(place)
		}
		if value.style != plain {
			e.from, e.to = places[0], places[len(places)-1]
		} else if want == "" {
			e.text = `""`
		}
	}
	w.found.edits = append(w.found.edits, e)
	return nil
}

func uneditable(n *node) error {
	return &Error{Line: n.line, Message: "this value cannot be edited as it is written: write it on one line, without a block or a tag"}
}

// aliasText is want, quoted if what the alias stood for was.
func aliasText(value *node, want string) string {
	switch {
	case value.style == singleQuoted:
		return "'" + quoted(singleQuoted, want) + "'"
	case value.style == plain && want != "":
		return want
	default:
		return `"` + quoted(doubleQuoted, want) + `"`
	}
}
