// Package translate rewrites objects between the form that clients of the plain
// Kubernetes API see and the form in which the API server stores them.
//
// The two forms have the same JSON. What differs is names (the apiVersion of the kinds
// in the gateway's table, wherever an object names one) and what Keelson adds for its
// own use, which clients do not see: status.summary, the finalizer keelson.dev/pod and
// the annotation keelson.dev/deletion-grace-period-seconds.
//
// Reading works on bytes: an answer streams through, one item in memory at a time, and
// what needs no change is copied as it is. Writing works on decoded trees. The package
// does no IO of its own, knows no HTTP, validates nothing, and keeps no state: after a
// crash there is nothing to recover.
package translate

import (
	"errors"
	"io"
	"iter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/gateway/table"
)

// ErrNeedsObject says that a patch cannot be translated without the object that it
// changes, because it names something that the two forms place differently (an index
// into metadata.finalizers, say). The caller applies it to the upstream form instead:
// read, ToUpstream, patch, Restore, write.
var ErrNeedsObject = errors.New("the patch must be applied to the object as clients see it")

// Translator rewrites by a table. It is safe for concurrent use.
type Translator struct {
	table *table.Table
}

// New returns a Translator of the kinds in rows.
func New(rows *table.Table) *Translator { return &Translator{table: rows} }

// ToStored turns an object of the row's kind, as a client sent it, into the form to
// store, in place: apiVersion and kind (filled in where missing), ownerReferences,
// managedFields, kubectl's last-applied annotation, scaleTargetRef. Null members are
// dropped, as upstream's decoder drops them. An object of another kind or version is
// refused with upstream's words (a 400 apierrors.APIStatus).
func (t *Translator) ToStored(row table.Row, obj map[string]any) error {
	return errors.New("not written yet")
}

// ToUpstream turns a stored object into the form that clients see, in place; it is the
// tree form of AppendObject, for read-modify-write.
func (t *Translator) ToUpstream(row table.Row, stored map[string]any) error {
	return errors.New("not written yet")
}

// Restore completes an object in the stored form (after ToStored) with what clients do
// not see of the object that it replaces: the finalizer and the grace annotation of a
// Pod, status.summary, their managedFields, and the deletion fields. stored is what the
// API server answered, untouched.
func (t *Translator) Restore(row table.Row, stored, changed map[string]any) error {
	return errors.New("not written yet")
}

// PatchToStored translates a JSON, merge or apply patch (JSON or YAML) of the row's kind. ErrNeedsObject:
// see there; strategic merge patches always need the object.
func (t *Translator) PatchToStored(row table.Row, patchType types.PatchType, body []byte) ([]byte, error) {
	return nil, errors.New("not written yet")
}

// ReferencesToStored rewrites what an object outside the table says about kinds in it,
// in place: its ownerReferences and, in an Event, involvedObject, regarding and
// related. It reports whether anything changed.
func (t *Translator) ReferencesToStored(obj map[string]any) bool { return false }

// FieldSelectorToStored turns a field selector on the row's kind into one that the
// custom resource supports. A field that upstream does not select by is refused with
// upstream's words (a 400 apierrors.APIStatus).
func (t *Translator) FieldSelectorToStored(row table.Row, selector string) (string, error) {
	return "", errors.New("not written yet")
}

// EventSelectorToStored does the same for Events: involvedObject.apiVersion (and
// regarding's) of a kind in the table. Without a kind in the selector the version
// stays as it is.
func (t *Translator) EventSelectorToStored(selector string) (string, error) {
	return "", errors.New("not written yet")
}

// AppendObject appends the upstream form of one stored object (or Status, or object of
// another kind, whose references change only) to dst.
func (t *Translator) AppendObject(dst, stored []byte) ([]byte, error) {
	return dst, errors.New("not written yet")
}

// Copy writes the upstream form of a whole answer of the API server: an object, a
// list, a Table, a PartialObjectMetadata(List) or a Status. It holds one item of a
// list in memory at a time. An error is of src (bad JSON, a read) or of dst; part of
// the answer may have been written by then.
func (t *Translator) Copy(dst io.Writer, src io.Reader) error {
	return errors.New("not written yet")
}

// List reads a list item by item.
type List struct{}

// Items reads the list in src.
func (t *Translator) Items(src io.Reader) *List { return &List{} }

// All yields each item in the upstream form, valid until the next one.
func (l *List) All() iter.Seq2[[]byte, error] {
	return func(func([]byte, error) bool) {}
}

// Meta is the list's metadata, apiVersion and kind in the upstream form; complete when
// All has ended.
func (l *List) Meta() (metav1.TypeMeta, metav1.ListMeta) {
	return metav1.TypeMeta{}, metav1.ListMeta{}
}

// WatchEvent is one frame of a watch. Its bytes are valid until the next frame.
type WatchEvent struct {
	// Type is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
	Type string
	// Object is in the upstream form: an object, a Table, a PartialObjectMetadata, or
	// the Status of an ERROR.
	Object []byte
}

// WatchEvents yields the frames of a watch as they arrive, and ends without an error
// when the stream ends between two frames.
func (t *Translator) WatchEvents(src io.Reader) iter.Seq2[WatchEvent, error] {
	return func(func(WatchEvent, error) bool) {}
}

// Status puts an error of the API server into upstream's words, in place.
func (t *Translator) Status(status *metav1.Status) {}
