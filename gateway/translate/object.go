package translate

import (
	"bytes"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/gateway/table"
)

// place says where an object stands, which decides whether it names its kind.
type place int

const (
	// answer is an object that is not inside of another one, and may be a list itself.
	answer place = iota
	// listed is an item of a list. Upstream's lists name the kind of their items once,
	// in the kind of the list.
	listed
	// inRow is the object of a Table's row.
	inRow
)

// object is what must be known of an object before its first byte is written.
type object struct {
	members []member
	tail    []byte
	kind    []byte
	row     table.Row
	// stored: the object is of a kind of the table, in its stored form.
	stored bool
	// ours: its apiVersion is one of Keelson's, whatever the kind.
	ours  bool
	grace gracePeriod
	// generations and spec are of a Pod; spec is nil where there is metadata alone.
	generations generations
	spec        []byte
}

// read scans the object's top level into few.
func (t *Translator) read(few []member, value []byte) object {
	members, tail := appendMembers(few, value)
	o := object{members: members, tail: tail, kind: text(members, "kind")}
	apiVersion := text(members, "apiVersion")
	o.row, o.stored = t.names.stored[versionKind{string(apiVersion), string(o.kind)}]
	_, o.ours = t.names.versions[string(apiVersion)]
	if o.stored && isPod(o.row) {
		o.readPod()
	}
	return o
}

// readPod notes what the members of a Pod depend on.
func (o *object) readPod() {
	var metadata []byte
	for i := range o.members {
		switch string(o.members[i].name) {
		case "metadata":
			metadata = o.members[i].value
		case "spec":
			o.spec = o.members[i].value
		}
	}
	o.grace = graceOf(metadata, o.spec)
	o.generations = generationsOf(metadata)
}

func isPod(row table.Row) bool { return row.Kind == "Pod" && row.Upstream.Group == "" }

// appendAny appends the upstream form of a value, which is valid JSON: an object of
// any kind, a list, a Table or a Status.
func (t *Translator) appendAny(dst, value []byte, at place) []byte {
	var none columns
	return t.appendWith(dst, value, at, &none)
}

// appendWith is appendAny with what is known of the columns of a Table; it learns them
// where the Table defines them.
func (t *Translator) appendWith(dst, value []byte, at place, of *columns) []byte {
	if !isObject(value) {
		return append(dst, value...)
	}
	var few [fewMembers]member
	o := t.read(few[:0], value)
	if string(o.kind) == "Status" && string(text(o.members, "apiVersion")) == "v1" {
		return t.appendStatus(dst, value)
	}
	w := open(dst, '{')
	for _, m := range o.members {
		t.appendTopMember(&w, &o, m, at, of)
	}
	return w.close(o.tail, '}')
}

func (t *Translator) appendTopMember(w *writer, o *object, m member, at place, of *columns) {
	name := string(m.name)
	switch {
	case o.omits(name, at):
		return
	case name == "status" && o.ours:
		t.appendStatusMember(w, o, m)
		return
	}
	w.next(m.lead)
	switch {
	case name == "apiVersion":
		w.dst = t.appendOwnVersion(w.dst, m.value, o)
	case name == "metadata":
		w.dst = t.appendMetadata(w.dst, m.value, o)
	case name == "spec" && string(o.kind) == horizontalPodAutoscaler:
		w.dst = appendNested(w.dst, m.value, "scaleTargetRef", t.names.upstreamVersion)
	case o.refers(name):
		w.dst = appendReference(w.dst, m.value, t.names.upstreamVersion)
	case name == "items" && at == answer:
		w.dst = t.appendArray(w.dst, m.value, t.appendItem)
	case name == "rows" && at == answer:
		w.dst = t.appendArray(w.dst, m.value, func(dst, value []byte) []byte { return t.appendRow(dst, value, *of) })
	case name == "columnDefinitions" && at == answer:
		of.read(m.value)
		w.dst = of.appendDefinitions(w.dst, m.value)
	default:
		w.value(m.value)
	}
}

// appendOwnVersion is appendVersion for the object's own; it calls nothing that would
// make the members of the object escape to the heap.
func (t *Translator) appendOwnVersion(dst, value []byte, o *object) []byte {
	if isString(value) && o.ours {
		kind := o.kind
		if !o.stored {
			kind = nil // a list, which is named like its items
		}
		if name, ok := t.names.upstreamVersion(unquoted(value), kind); ok {
			return appendString(dst, name)
		}
	}
	return append(dst, value...)
}

// omits says that a member is left out of an item of a list.
func (o *object) omits(name string, at place) bool {
	return o.stored && at == listed && (name == "apiVersion" || name == "kind")
}

// refers says that a member is the reference of an Event. The items of a list of them
// do not name their kind.
func (o *object) refers(name string) bool {
	switch name {
	case "involvedObject", "regarding", "related":
		return o.kind == nil || string(o.kind) == "Event"
	}
	return false
}

// appendNested appends an object of which one member is a reference.
func appendNested(dst, value []byte, name string, rename version) []byte {
	if !isObject(value) {
		return append(dst, value...)
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value)
	w := open(dst, '{')
	for _, m := range members {
		w.next(m.lead)
		if string(m.name) == name {
			w.dst = appendReference(w.dst, m.value, rename)
			continue
		}
		w.value(m.value)
	}
	return w.close(tail, '}')
}

func (t *Translator) appendItem(dst, value []byte) []byte { return t.appendAny(dst, value, listed) }

// appendRow appends a row of a Table.
func (t *Translator) appendRow(dst, value []byte, of columns) []byte {
	if !isObject(value) {
		return append(dst, value...)
	}
	var few [4]member
	members, tail := appendMembers(few[:0], value)
	w := open(dst, '{')
	for _, m := range members {
		w.next(m.lead)
		switch string(m.name) {
		case "object":
			w.dst = t.appendAny(w.dst, m.value, inRow)
		case "cells":
			w.dst = of.appendCells(w.dst, m.value, t.appendCell)
		default:
			w.value(m.value)
		}
	}
	return w.close(tail, '}')
}

// appendCell says in upstream's words that there is nothing to show. The columns of a
// custom resource are fields of it: one that is missing makes a cell of null. A duration
// that has no end yet is stored as its start, and shown as what has passed since.
func (t *Translator) appendCell(dst, value []byte) []byte {
	if string(value) == "null" {
		return append(dst, `"<none>"`...)
	}
	if stamp, ok := bytes.CutPrefix(value, []byte(`"`+summary.Since)); ok {
		if start, err := time.Parse(time.RFC3339, string(bytes.TrimSuffix(stamp, []byte(`"`)))); err == nil {
			return strconv.AppendQuote(dst, duration.HumanDuration(t.clock.Since(start)))
		}
	}
	return append(dst, value...)
}

// appendArray appends an array, each element by appendElement.
func (t *Translator) appendArray(dst, value []byte, appendElement func(dst, value []byte) []byte) []byte {
	if !isArray(value) {
		return append(dst, value...)
	}
	elements, tail := appendElements(nil, value)
	w := open(dst, '[')
	for _, e := range elements {
		w.next(e.lead)
		w.dst = appendElement(w.dst, e.value)
	}
	return w.close(tail, ']')
}

// hasNoStatus names the kinds whose status is there for its summary alone.
func hasNoStatus(kind string) bool {
	return kind == "Endpoints" || kind == "EndpointSlice" || kind == "NetworkPolicy"
}

// appendStatusMember writes status without summary, and a Pod's with upstream's
// generations and a class; a CronJob's active Jobs are references. Where upstream's kind
// has no status, ours disappears.
func (t *Translator) appendStatusMember(w *writer, o *object, m member) {
	if !isObject(m.value) {
		w.member(m)
		return
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], m.value)
	if len(members) == 1 && string(members[0].name) == "summary" && hasNoStatus(string(o.kind)) {
		return
	}
	w.next(m.lead)
	inner := open(w.dst, '{')
	hasClass := !o.stored || !isPod(o.row) // or needs none
	for _, field := range members {
		switch string(field.name) {
		case "summary":
		case "active":
			inner.next(field.lead)
			inner.dst = appendReferences(inner.dst, field.value, t.names.upstreamVersion)
		case observedGeneration:
			inner.next(field.lead)
			inner.dst = o.generations.append(inner.dst, field.value)
		case "conditions":
			inner.next(field.lead)
			inner.dst = o.generations.appendConditions(inner.dst, field.value)
		case qosClassMember:
			hasClass = true
			inner.member(field)
		default:
			inner.member(field)
		}
	}
	if !hasClass {
		appendQOSClass(&inner, o.spec)
	}
	if inner.empty() {
		tail = bytes.TrimSpace(tail)
	}
	w.dst = inner.close(tail, '}')
}
