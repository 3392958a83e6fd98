package streams

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/keelson-dev/keelson/internal/linger"
)

// lingering bounds the wait for a client to take the last output.
const lingering = 5 * time.Second

// leaving tells of the end of the client behind an upgraded connection. net/http ends
// the context of a request when its client leaves, but not once the connection is
// hijacked: without this, a command whose client is gone would run on until it writes.
type leaving struct {
	http.ResponseWriter
	ctx    context.Context
	cancel context.CancelFunc
}

// watchClient returns w and r such that the context of r ends when the client leaves,
// and that the connection is closed when that context ends. The caller calls done.
func watchClient(w http.ResponseWriter, r *http.Request) (watched http.ResponseWriter, with *http.Request, done func()) {
	ctx, cancel := context.WithCancel(r.Context())
	return &leaving{ResponseWriter: w, ctx: ctx, cancel: cancel}, r.WithContext(ctx), cancel
}

// Unwrap is for http.ResponseController.
func (l *leaving) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// Hijack takes over the connection.
func (l *leaving) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(l.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	watched := &leavingConn{Conn: conn, cancel: l.cancel}
	context.AfterFunc(l.ctx, func() { conn.Close() })
	var early []byte
	if buffered != nil {
		if early, err = buffered.Reader.Peek(buffered.Reader.Buffered()); err != nil {
			return nil, nil, err
		}
	}
	in := io.MultiReader(bytes.NewReader(slices.Clone(early)), watched)
	return watched, bufio.NewReadWriter(bufio.NewReader(in), bufio.NewWriter(watched)), nil
}

// leavingConn ends the context when nothing more can be read: neither WebSocket nor SPDY
// clients close one direction of the connection only.
type leavingConn struct {
	net.Conn
	cancel context.CancelFunc
}

func (c *leavingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.cancel()
	}
	return n, err
}

// Close waits for the client to take what was written to it.
func (c *leavingConn) Close() error {
	defer c.cancel()
	return linger.Close(c.Conn, lingering)
}
