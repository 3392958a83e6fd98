// Package convert rewrites manifests between the two forms of Keelson's kinds: the plain
// Kubernetes one ("v1", Pod) and the one that is stored ("core.keelson.dev/v1", Pod).
// The kinds and their two names are those of gateway/table, nothing else is known here.
//
// It edits text: only the names of groups and versions change, every other byte stays,
// comments, order, quotes and indentation included. What it cannot edit without touching
// more it refuses, with the line. It never talks to an API server. Files are written
// after all of them have been converted, each by a rename, so that a failure changes
// nothing and a crash leaves each file in one form or the other; the same command again
// finishes the work.
package convert

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/keelson-dev/keelson/gateway/table"
)

// Form is one of the two forms of a manifest.
type Form string

const (
	// Keelson is the form that is stored: core.keelson.dev/v1.
	Keelson Form = "keelson"
	// Kubernetes is upstream's form: v1.
	Kubernetes Form = "kubernetes"
)

// ParseForm returns the form of that name.
func ParseForm(name string) (Form, error) {
	form := Form(name)
	if form != Keelson && form != Kubernetes {
		return "", fmt.Errorf("%q is neither %q nor %q", name, Keelson, Kubernetes)
	}
	return form, nil
}

// Error is input that cannot be converted.
type Error struct {
	// File is the name that the input was given.
	File string
	// Line begins at 1; 0 means that it is not known.
	Line    int
	Message string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
}

// Warning is something that a person should look at; the input was converted.
type Warning Error

func (w Warning) String() string { return (*Error)(&w).Error() }

// Converter rewrites manifests to one form. It is safe for concurrent use.
type Converter struct {
	to Form
	// kinds are keyed by the name to look for and hold the one to write.
	kinds map[schema.GroupVersionKind]schema.GroupVersion
	// groups is the same without versions, for selectors that give none.
	groups map[schema.GroupKind]string
	// written are the names that kinds holds as values, of the same kinds.
	written map[schema.GroupVersionKind]bool
}

// New returns a converter to the given form of the kinds in t.
func New(t *table.Table, to Form) *Converter {
	c := &Converter{
		to:      to,
		kinds:   map[schema.GroupVersionKind]schema.GroupVersion{},
		groups:  map[schema.GroupKind]string{},
		written: map[schema.GroupVersionKind]bool{},
	}
	for _, row := range t.Rows() {
		from, into := row.UpstreamKind(), row.StoredKind()
		if to == Kubernetes {
			from, into = into, from
		}
		for _, kind := range []string{row.Kind, row.Kind + "List"} {
			c.kinds[from.GroupVersion().WithKind(kind)] = into.GroupVersion()
			c.written[into.GroupVersion().WithKind(kind)] = true
		}
		c.groups[from.GroupKind()] = into.Group
	}
	return c
}

// Result is a converted input.
type Result struct {
	Content []byte
	// Changes is the number of names that were rewritten; 0 means that Content is the
	// input, byte for byte.
	Changes  int
	Warnings []Warning
}

// Convert rewrites content, a stream of YAML or JSON documents. name is the path of the
// file it came from: errors begin with it, and kustomization files are known by it. The
// error is an *Error.
func (c *Converter) Convert(name string, content []byte) (Result, error) {
	if !utf8.Valid(content) {
		return Result{}, &Error{File: name, Message: "is not UTF-8 text"}
	}
	found, err := c.scan(content, scope{kustomize: isKustomizationFile(name)})
	if err != nil {
		return Result{}, located(err, name)
	}
	for i := range found.warnings {
		found.warnings[i].File = name
	}
	return Result{Content: apply(content, found.edits), Changes: len(found.edits), Warnings: found.warnings}, nil
}

func located(err error, name string) *Error {
	problem, ok := errors.AsType[*Error](err)
	if !ok {
		return &Error{File: name, Message: err.Error()}
	}
	return &Error{File: name, Line: problem.Line, Message: problem.Message}
}

// changes is what is to be done with one text.
type changes struct {
	edits    []edit
	warnings []Warning
}

// edit replaces content[from:to].
type edit struct {
	from, to int
	text     string
}

// apply returns content with the edits, which do not overlap.
func apply(content []byte, edits []edit) []byte {
	edits = slices.SortedFunc(slices.Values(edits), func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var out []byte
	done := 0
	for _, e := range edits {
		out = append(out, content[done:e.from]...)
		out = append(out, e.text...)
		done = e.to
	}
	return append(out, content[done:]...)
}

// apiVersion returns the form of apiVersion for kind that is to be written; ours tells
// whether the kind has two forms.
func (c *Converter) apiVersion(apiVersion, kind string) (converted string, ours bool) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil || apiVersion == "" || strings.HasPrefix(apiVersion, "/") {
		return apiVersion, false
	}
	if into, ok := c.kinds[gv.WithKind(kind)]; ok {
		return into.String(), true
	}
	return apiVersion, c.written[gv.WithKind(kind)]
}

// group returns the other form of a selector's group. An empty version stands for any.
func (c *Converter) group(group, version, kind string) (converted string, ours bool) {
	if version == "" {
		into, ok := c.groups[schema.GroupKind{Group: group, Kind: kind}]
		return into, ok
	}
	into, ok := c.kinds[schema.GroupVersionKind{Group: group, Version: version, Kind: kind}]
	return into.Group, ok
}
