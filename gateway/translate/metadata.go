package translate

import (
	"bytes"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// appendMetadata appends an object's metadata, or a list's.
func (t *Translator) appendMetadata(dst, value []byte, o *object) []byte {
	if !isObject(value) {
		return append(dst, value...)
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value)
	w := open(dst, '{')
	for _, m := range members {
		before := len(w.dst)
		w.next(m.lead)
		kept := true
		switch string(m.name) {
		case "ownerReferences":
			w.dst = appendReferences(w.dst, m.value, t.names.upstreamVersion)
		case "managedFields":
			w.dst, kept = t.appendManagedFields(w.dst, m.value)
		case "annotations":
			w.dst, kept = t.appendAnnotations(w.dst, m.value)
		case "finalizers":
			w.dst, kept = appendFinalizers(w.dst, m.value)
		case "deletionTimestamp":
			w.dst = o.grace.appendTimestamp(w.dst, m.value)
			if o.grace.delays && find(value, "deletionGracePeriodSeconds") == nil {
				w.dst = append(w.dst, `,"deletionGracePeriodSeconds":`...)
				w.dst = o.grace.appendSeconds(w.dst, nil)
			}
		case "generation":
			w.dst = o.generations.append(w.dst, m.value)
		case "deletionGracePeriodSeconds":
			w.dst = o.grace.appendSeconds(w.dst, m.value)
		default:
			w.value(m.value)
		}
		if !kept {
			w.dst = w.dst[:before]
		}
	}
	return w.close(tail, '}')
}

// appendManagedFields appends the entries without what they say about hidden fields;
// not kept if nothing is left.
func (t *Translator) appendManagedFields(dst, value []byte) ([]byte, bool) {
	if !isArray(value) {
		return append(dst, value...), true
	}
	var few [8]element
	elements, tail := appendElements(few[:0], value)
	w := open(dst, '[')
	for _, e := range elements {
		before := len(w.dst)
		w.next(e.lead)
		var kept bool
		if w.dst, kept = t.appendManagedFieldsEntry(w.dst, e.value); !kept {
			w.dst = w.dst[:before]
		}
	}
	kept := len(elements) == 0 || !w.empty()
	return w.close(tail, ']'), kept
}

func (t *Translator) appendManagedFieldsEntry(dst, value []byte) ([]byte, bool) {
	if !isObject(value) {
		return append(dst, value...), true
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value)
	w := open(dst, '{')
	for _, m := range members {
		w.next(m.lead)
		switch string(m.name) {
		case "apiVersion":
			w.dst = appendVersion(w.dst, m.value, nil, t.names.upstreamVersion)
		case "fieldsV1":
			var kept bool
			if w.dst, kept = appendFields(w.dst, m.value); !kept {
				return w.dst, false
			}
		default:
			w.value(m.value)
		}
	}
	return w.close(tail, '}'), true
}

// appendFields appends a fieldsV1 without the hidden fields; not kept if it named
// nothing else.
func appendFields(dst, value []byte) ([]byte, bool) {
	if !bytes.Contains(value, []byte(`"f:summary"`)) && !bytes.Contains(value, []byte("keelson.dev/")) {
		return append(dst, value...), true
	}
	return appendLevel(dst, value, 0, nil)
}

// hiddenField says whether a field of a fieldsV1 is hidden (the path of names down to
// it), and whether hidden ones may be below it.
func hiddenField(depth int, parent, name []byte) (hidden, below bool) {
	switch depth {
	case 0:
		return false, string(name) == "f:status" || string(name) == "f:metadata"
	case 1:
		if string(parent) == "f:status" {
			return string(name) == "f:summary", false
		}
		return false, string(name) == "f:finalizers" || string(name) == "f:annotations"
	}
	switch string(name) {
	case `v:"` + keelsonv1.PodFinalizer + `"`, "f:" + keelsonv1.DeletionGracePeriodAnnotation, "f:" + keelsonv1.GenerationBeforeBindingAnnotation:
		return true, false
	}
	return false, false
}

// appendLevel appends a tree of field names without the hidden ones, and without what
// consisted of hidden ones only; not kept if that is all of it.
func appendLevel(dst, value []byte, depth int, parent []byte) ([]byte, bool) {
	if !isObject(value) {
		return append(dst, value...), true
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value)
	w := open(dst, '{')
	dropped, left := false, false
	for _, m := range members {
		drop, below := hiddenField(depth, parent, m.name)
		if drop {
			dropped = true
			continue
		}
		before := len(w.dst)
		w.next(m.lead)
		if below {
			var kept bool
			if w.dst, kept = appendLevel(w.dst, m.value, depth+1, m.name); !kept {
				w.dst, dropped = w.dst[:before], true
				continue
			}
		} else {
			w.value(m.value)
		}
		// "." is the map or set itself, owned together with its first entry.
		left = left || string(m.name) != "."
	}
	return w.close(tail, '}'), left || !dropped
}

// appendAnnotations appends the annotations without Keelson's own and with kubectl's
// last-applied object in the upstream form; not kept if nothing is left.
func (t *Translator) appendAnnotations(dst, value []byte) ([]byte, bool) {
	if !isObject(value) || !bytes.Contains(value, []byte("keelson.dev/")) {
		return append(dst, value...), true
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value)
	w := open(dst, '{')
	for _, m := range members {
		switch string(m.name) {
		case keelsonv1.DeletionGracePeriodAnnotation, keelsonv1.GenerationBeforeBindingAnnotation:
			continue
		case corev1.LastAppliedConfigAnnotation:
			w.next(m.lead)
			w.dst = appendLastApplied(w.dst, m.value, t.names.upstreamVersion)
		default:
			w.member(m)
		}
	}
	kept := len(members) == 0 || !w.empty()
	return w.close(tail, '}'), kept
}

// appendLastApplied appends the string of the last-applied annotation, which is an
// object in JSON, with names renamed. What is no JSON stays.
func appendLastApplied(dst, value []byte, rename version) []byte {
	if !isString(value) {
		return append(dst, value...)
	}
	return appendString(dst, renameApplied(unquoted(value), rename))
}

// renameApplied renames apiVersion, ownerReferences and scaleTargetRef of an object
// that a client wrote, and leaves its other bytes alone.
func renameApplied(applied []byte, rename version) []byte {
	if !isValid(applied) {
		return applied
	}
	space := skipPrefix(applied)
	value := applied[space:]
	if !isObject(value) {
		return applied
	}
	end := valueEnd(value, 0)
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value[:end])
	kind := text(members, "kind")
	if kind == nil {
		return applied
	}
	w := open(applied[:space:space], '{')
	for _, m := range members {
		w.next(m.lead)
		switch string(m.name) {
		case "apiVersion":
			w.dst = appendVersion(w.dst, m.value, kind, rename)
		case "metadata":
			w.dst = appendOwners(w.dst, m.value, rename)
		case "spec":
			if string(kind) == "HorizontalPodAutoscaler" {
				w.dst = appendNested(w.dst, m.value, "scaleTargetRef", rename)
				continue
			}
			w.value(m.value)
		default:
			w.value(m.value)
		}
	}
	return append(w.close(tail, '}'), value[end:]...)
}

func skipPrefix(b []byte) int {
	return len(b) - len(bytes.TrimLeft(b, " \t\r\n"))
}

func appendOwners(dst, value []byte, rename version) []byte {
	if !isObject(value) {
		return append(dst, value...)
	}
	var few [fewMembers]member
	members, tail := appendMembers(few[:0], value)
	w := open(dst, '{')
	for _, m := range members {
		w.next(m.lead)
		if string(m.name) == "ownerReferences" {
			w.dst = appendReferences(w.dst, m.value, rename)
			continue
		}
		w.value(m.value)
	}
	return w.close(tail, '}')
}

// appendFinalizers appends the finalizers without Keelson's own; not kept if nothing is
// left.
func appendFinalizers(dst, value []byte) ([]byte, bool) {
	if !isArray(value) {
		return append(dst, value...), true
	}
	var few [4]element
	elements, tail := appendElements(few[:0], value)
	w := open(dst, '[')
	for _, e := range elements {
		if !isPodFinalizer(e.value) {
			w.next(e.lead)
			w.value(e.value)
		}
	}
	kept := len(elements) == 0 || !w.empty()
	return w.close(tail, ']'), kept
}

func isPodFinalizer(value []byte) bool {
	return isString(value) && string(unquoted(value)) == keelsonv1.PodFinalizer
}

// gracePeriod is the time that a Pod which is being deleted has to stop. Custom
// resources know no graceful deletion: their deletionTimestamp is the time of the
// request and their deletionGracePeriodSeconds is 0. Upstream's deletionTimestamp is
// the time when the Pod has to be gone.
type gracePeriod struct {
	// delays: the Pod is being deleted and its containers may run on. Without the
	// finalizer they have stopped, and upstream shows 0 then, too.
	delays  bool
	seconds int64
}

// graceOf reads the grace period of the Pod with these members.
func graceOf(metadata, spec []byte) gracePeriod {
	if !bytes.Contains(metadata, []byte("deletionTimestamp")) {
		return gracePeriod{} // as almost always, and the cheapest way to know
	}
	deletion := find(metadata, "deletionTimestamp")
	if !isString(deletion) || !hasPodFinalizer(find(metadata, "finalizers")) {
		return gracePeriod{}
	}
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if n, err := strconv.ParseInt(string(find(spec, "terminationGracePeriodSeconds")), 10, 64); err == nil {
		seconds = atLeastOne(n)
	}
	if annotation := find(find(metadata, "annotations"), keelsonv1.DeletionGracePeriodAnnotation); isString(annotation) {
		if n, err := strconv.ParseInt(string(unquoted(annotation)), 10, 64); err == nil {
			seconds = min(seconds, atLeastOne(n))
		}
	}
	return gracePeriod{delays: true, seconds: min(seconds, maxGraceSeconds)}
}

// maxGraceSeconds is the node agent's limit.
const maxGraceSeconds = int64(1 << 31)

// atLeastOne is upstream's reading of a negative grace period.
func atLeastOne(seconds int64) int64 {
	if seconds < 0 {
		return 1
	}
	return seconds
}

func hasPodFinalizer(finalizers []byte) bool {
	if !isArray(finalizers) {
		return false
	}
	var few [4]element
	elements, _ := appendElements(few[:0], finalizers)
	for _, e := range elements {
		if isPodFinalizer(e.value) {
			return true
		}
	}
	return false
}

func (g gracePeriod) appendTimestamp(dst, value []byte) []byte {
	if !g.delays {
		return append(dst, value...)
	}
	requested, err := time.Parse(time.RFC3339, string(unquoted(value)))
	if err != nil {
		return append(dst, value...)
	}
	gone := requested.Add(time.Duration(g.seconds) * time.Second).UTC()
	return appendString(dst, gone.Format(time.RFC3339))
}

func (g gracePeriod) appendSeconds(dst, value []byte) []byte {
	if !g.delays {
		return append(dst, value...)
	}
	return strconv.AppendInt(dst, g.seconds, 10)
}
