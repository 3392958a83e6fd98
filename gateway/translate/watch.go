package translate

import (
	"errors"
	"io"
	"iter"

	"github.com/go-json-experiment/json/jsontext"
)

// WatchEvent is one frame of a watch. Its bytes are valid until the next frame.
type WatchEvent struct {
	// Type is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
	Type string
	// Object is in the upstream form: an object, a Table, a PartialObjectMetadata, or
	// the Status of an ERROR.
	Object []byte
}

// WatchEvents yields the frames of a watch as they arrive, and ends without an error
// when the stream ends between two frames. After an error it ends.
func (t *Translator) WatchEvents(src io.Reader) iter.Seq2[WatchEvent, error] {
	return func(yield func(WatchEvent, error) bool) {
		decoder := jsontext.NewDecoder(src, lenient())
		var object []byte
		var of columns
		for {
			frame, err := decoder.ReadValue()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(WatchEvent{}, readError(err))
				return
			}
			event, err := t.frame(object[:0], frame, &of)
			object = event.Object
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// frame reads one frame of a watch; the object goes to dst.
func (t *Translator) frame(dst []byte, frame []byte, of *columns) (WatchEvent, error) {
	if !isObject(frame) {
		return WatchEvent{}, readError(errors.New("a frame of a watch is no object"))
	}
	var few [4]member
	members, _ := appendMembers(few[:0], frame)
	event := WatchEvent{Type: eventType(text(members, "type"))}
	for _, m := range members {
		if string(m.name) == "object" {
			event.Object = t.appendWith(dst, m.value, answer, of)
		}
	}
	if event.Type == "" || !isObject(event.Object) {
		return WatchEvent{}, readError(errors.New("a frame of a watch has no type or no object"))
	}
	return event, nil
}

// eventType is a string for the types that there are, without a copy of each.
func eventType(name []byte) string {
	for _, known := range [...]string{"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"} {
		if string(name) == known {
			return known
		}
	}
	return string(name)
}
