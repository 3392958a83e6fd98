// Package linger closes connections such that what was written to them arrives.
//
// A TCP connection that is closed while input waits unread is reset, and a reset throws
// away what the other end has not received yet: the last output of a command whose
// client still sends it input. RFC 2525, 2.17, describes it. The package keeps nothing.
package linger

import (
	"io"
	"net"
	"time"
)

// Close says that no more will be written, reads what the other end still sends until
// it closes, too, but for no longer than patience, and closes conn. A connection of a
// kind that cannot be closed in one direction is closed at once. An other end that is
// gone costs no time. Another goroutine may be reading conn.
func Close(conn net.Conn, patience time.Duration) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if ok && half.CloseWrite() == nil && conn.SetDeadline(time.Now().Add(patience)) == nil {
		_, _ = io.Copy(io.Discard, conn) // the deadline and the other end's close end it alike
	}
	return conn.Close()
}
