// Package userns gives Pods with spec.hostUsers false user IDs of their own: ranges of
// the machine's IDs, user namespaces that show such a range as 0 to 65535, and mounts
// that show files to such a namespace as if it were the machine.
//
// It never gives one range to two Pods and never the IDs that the machine's own users
// have. What is held is on disk, one file in each Pod's folder, written before anything
// runs with it; so an agent that starts reads back what an earlier one gave, and a range
// is free again when the folder of its Pod is gone. The namespaces themselves live as
// long as a process, a mount or a network namespace refers to them.
package userns

import (
	"errors"
	"fmt"
	"math"
)

const (
	// Length is how many IDs each Pod gets; upstream's default.
	Length = 1 << 16
	// First is the first ID that is given to a Pod: those below are the machine's.
	First = Length
	// ranges is how many Pods of a node can have one: IDs up to 2^31, as upstream's
	// default, and never (uint32)(-1), which means none.
	ranges = (math.MaxInt32+1)/Length - First/Length
)

// ErrExhausted says that each range is some Pod's.
var ErrExhausted = errors.New("could not find an empty slot to allocate a user namespace")

// Range is the machine's user and group IDs from HostID on, as many as Length, that are
// 0 to Length-1 in a Pod.
type Range struct {
	HostID uint32 `json:"hostID"`
	Length uint32 `json:"length"`
}

// Contains tells whether an ID of the machine is in the range.
func (r Range) Contains(id uint32) bool { return id >= r.HostID && id-r.HostID < r.Length }

// Host is the machine's ID behind one that the Pod sees; false when the Pod has no such ID.
func (r Range) Host(id uint32) (uint32, bool) {
	if id >= r.Length {
		return 0, false
	}
	return r.HostID + id, true
}

func (r Range) validate() error {
	if r.Length != Length {
		return fmt.Errorf("wrong user namespace length %d", r.Length)
	}
	if r.HostID%Length != 0 || r.HostID < First || (r.HostID-First)/Length >= ranges {
		return fmt.Errorf("wrong user namespace offset specified %d", r.HostID)
	}
	return nil
}
