// Package table says which kinds of the plain Kubernetes API are stored as Keelson's
// custom resources. It is the one place that knows: a kind added to Keelson is one Row
// more here.
//
// A Keelson kind is the upstream kind in another group, with the same plural, kind and
// JSON. So a row is a rename, and everything that is not in the table is passed to the
// API server untouched. The package only knows names; it never reads or writes objects.
package table

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// AuthorizedGroup is the group that a served gateway adds to the identity it
// impersonates after it has authorized the request on the upstream names. Its role
// allows everything on Keelson's kinds; nobody but a gateway may impersonate it.
const AuthorizedGroup = "keelson:gateway:authorized"

// Row is one kind in its two forms.
type Row struct {
	// Upstream is the resource as clients name it, such as "", "v1", "pods".
	Upstream schema.GroupVersionResource
	// Stored is the custom resource behind it, of the same plural.
	Stored schema.GroupVersionResource
	// Kind is the same in both groups.
	Kind       string
	Namespaced bool
	// Scale, Status: the subresources of these names exist.
	Scale, Status bool
	// New returns an empty object of the upstream type, NewList of its list: what
	// strategic merge patches take their metadata from, and protobuf its encoding.
	New, NewList func() runtime.Object
	// ReturnsDeleted: the answer to a deletion is the object, not a Status, as
	// upstream's storage of this kind does.
	ReturnsDeleted bool
	// CreatesOnUpdate: a PUT of an object that is not there creates it.
	CreatesOnUpdate bool
	// OlderVersions are served besides Upstream's, converted.
	OlderVersions []string
	// OrphansByDefault: dependents stay when a deletion names no propagation policy.
	OrphansByDefault bool
}

// UpstreamKind is the kind as clients name it.
func (r Row) UpstreamKind() schema.GroupVersionKind {
	return r.Upstream.GroupVersion().WithKind(r.Kind)
}

// StoredKind is the kind of the custom resource.
func (r Row) StoredKind() schema.GroupVersionKind {
	return r.Stored.GroupVersion().WithKind(r.Kind)
}

// Table answers by either name. Its zero value holds no rows.
type Table struct {
	rows       []Row
	byUpstream map[schema.GroupVersionResource]Row
	byOlder    map[schema.GroupVersionResource]Row
	byKind     map[schema.GroupVersionKind]Row // both forms
}

// New makes a table of rows.
func New(rows ...Row) *Table {
	t := &Table{
		rows:       rows,
		byUpstream: make(map[schema.GroupVersionResource]Row, len(rows)),
		byOlder:    make(map[schema.GroupVersionResource]Row),
		byKind:     make(map[schema.GroupVersionKind]Row, 2*len(rows)),
	}
	for _, row := range rows {
		t.byUpstream[row.Upstream] = row
		for _, version := range row.OlderVersions {
			t.byOlder[row.Upstream.GroupResource().WithVersion(version)] = row
		}
		t.byKind[row.UpstreamKind()] = row
		t.byKind[row.StoredKind()] = row
	}
	return t
}

// Rows returns all rows in the order of the table.
func (t *Table) Rows() []Row { return slices.Clone(t.rows) }

// Upstream returns the row of a resource as clients name it.
func (t *Table) Upstream(resource schema.GroupVersionResource) (Row, bool) {
	row, ok := t.byUpstream[resource]
	return row, ok
}

// Kind returns the row of a kind in either form.
func (t *Table) Kind(kind schema.GroupVersionKind) (Row, bool) {
	row, ok := t.byKind[kind]
	return row, ok
}
