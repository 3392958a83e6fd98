// Package summary computes status.summary: the columns of `kubectl get` that
// JSONPath cannot express, such as READY, STATUS and PORT(S).
//
// Every function is pure: it reads one object, changes nothing, does no IO, and
// never looks at the summary that is already there. Whoever writes the status of
// an object sets its Summary with these, so a crash between two writes leaves a
// summary that is as old as the status beside it and no older.
//
// The strings are those that upstream's server-side printers put into the same
// columns (k8s.io/kubernetes/pkg/printers/internalversion).
package summary

// None is what a column shows when there is no value.
const None = "<none>"
