// Package translate rewrites objects between the form that clients of the plain
// Kubernetes API see and the form in which the API server stores them.
//
// The two forms have the same JSON. What differs is names (the apiVersion of the kinds
// in the gateway's table, wherever an object names one) and what Keelson adds for its
// own use, which clients do not see: status.summary, and of Pods the finalizer
// keelson.dev/pod and two annotations in keelson.dev. What these stand for, clients see
// as upstream shows it: the time by which a Pod has to be gone, and a generation that
// does not count the binding. A Pod without a qosClass shows the one it will have.
//
// Reading works on bytes: an answer streams through, one item in memory at a time, and
// what needs no change is copied as it is. Writing works on decoded trees. The package
// does no IO of its own, knows no HTTP, validates nothing, and keeps no state: after a
// crash there is nothing to recover.
package translate

import (
	"bufio"
	"errors"
	"sync"

	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/gateway/table"
)

// ErrNeedsObject says that a patch cannot be translated without the object that it
// changes, because it names something that the two forms place differently (an index
// into metadata.finalizers, say). The caller applies it to the upstream form instead:
// read, ToUpstream, patch, Restore, write.
var ErrNeedsObject = errors.New("the patch must be applied to the object as clients see it")

// Translator rewrites by a table. It is safe for concurrent use.
type Translator struct {
	names names
	// clock tells how long ago something began.
	clock clock.PassiveClock
	// copiers keeps the buffers of Copy.
	copiers sync.Pool
}

// New returns a Translator of the kinds in rows. It tells the real time.
func New(rows *table.Table) *Translator { return NewWithClock(rows, clock.RealClock{}) }

// NewWithClock returns a Translator of the kinds in rows that tells the time of c.
func NewWithClock(rows *table.Table, c clock.PassiveClock) *Translator {
	t := &Translator{names: newNames(rows.Rows()), clock: c}
	t.copiers.New = func() any { return &copier{t: t, reader: bufio.NewReaderSize(nil, readSize)} }
	return t
}
