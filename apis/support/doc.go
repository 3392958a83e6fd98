// Package support says which fields of the embedded upstream specs Keelson
// implements. A field that it does not implement is refused at admission with an
// error that names it: no field is silently ignored.
//
// The tables (pod.go, service.go, ...) have one entry for every field of the
// upstream types down to the point where a whole subtree is refused; a test walks
// the types by reflection and fails for a field without an entry and for an entry
// without a field, so an upgrade of k8s.io/api cannot add a field unnoticed.
//
// Checks run on an object that already carries upstream's defaults, so the
// default value of every field passes. They are pure, report all errors at once,
// one per refused field or subtree, and never repeat upstream's validation.
// docs/support.md is generated from the tables by hack/supportdoc.
package support
