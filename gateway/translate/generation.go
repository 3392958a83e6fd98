package translate

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// generations counts a Pod's generations as upstream does. A custom resource counts
// every change of its spec, and the binding is one; upstream's binding does not count.
type generations struct {
	// unbound is the stored generation before the binding; 0 when there was none, as in
	// a Pod that was created with its node.
	unbound int64
}

// generationsOf reads what the binding wrote into the metadata of a Pod.
func generationsOf(metadata []byte) generations {
	if !bytes.Contains(metadata, []byte(keelsonv1.GenerationBeforeBindingAnnotation)) {
		return generations{} // as in every Pod that waits for a node
	}
	annotation := find(find(metadata, "annotations"), keelsonv1.GenerationBeforeBindingAnnotation)
	if !isString(annotation) {
		return generations{}
	}
	n, err := strconv.ParseInt(string(unquoted(annotation)), 10, 64)
	if err != nil || n < 1 {
		return generations{}
	}
	return generations{unbound: n}
}

// shown is a stored generation as clients see it.
func (g generations) shown(stored int64) int64 {
	if g.unbound > 0 && stored > g.unbound {
		return stored - 1
	}
	return stored
}

func (g generations) append(dst, value []byte) []byte {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return append(dst, value...)
	}
	return strconv.AppendInt(dst, g.shown(n), 10)
}

// appendConditions appends conditions that say which generation they are about.
func (g generations) appendConditions(dst, value []byte) []byte {
	if g.unbound == 0 || !isArray(value) {
		return append(dst, value...)
	}
	var few [8]element
	elements, tail := appendElements(few[:0], value)
	w := open(dst, '[')
	for _, e := range elements {
		w.next(e.lead)
		w.dst = g.appendCondition(w.dst, e.value)
	}
	return w.close(tail, ']')
}

func (g generations) appendCondition(dst, value []byte) []byte {
	if !isObject(value) {
		return append(dst, value...)
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value)
	w := open(dst, '{')
	for _, m := range members {
		w.next(m.lead)
		if string(m.name) == observedGeneration {
			w.dst = g.append(w.dst, m.value)
			continue
		}
		w.value(m.value)
	}
	return w.close(tail, '}')
}

const observedGeneration = "observedGeneration"

// restoreObserved puts the observed generations of a status that a client sent into
// the stored count. before and after are the statuses; metadata is of the stored Pod.
func restoreObserved(metadata, before, after map[string]any) error {
	encoded, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	g := generationsOf(encoded)
	if g.unbound == 0 {
		return nil
	}
	g.restore(before, after)
	had, _ := before["conditions"].([]any)
	have, _ := after["conditions"].([]any)
	for _, condition := range have {
		if condition, ok := condition.(map[string]any); ok {
			g.restore(conditionLike(condition, had), condition)
		}
	}
	return nil
}

// conditionLike is the condition of the same type, nil if there is none.
func conditionLike(condition map[string]any, had []any) map[string]any {
	for _, other := range had {
		if other, ok := other.(map[string]any); ok && reflect.DeepEqual(other["type"], condition["type"]) {
			return other
		}
	}
	return nil
}

// restore is the inverse of shown: what the client left is what was stored. The number
// of the first generation stands for two, of which whoever writes means the later.
func (g generations) restore(before, after map[string]any) {
	seen, ok := after[observedGeneration].(int64)
	if !ok || seen < g.unbound {
		return
	}
	if had, ok := before[observedGeneration].(int64); ok && g.shown(had) == seen {
		after[observedGeneration] = had
		return
	}
	after[observedGeneration] = seen + 1
}
