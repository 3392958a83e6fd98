package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/keelson-dev/keelson/internal/linger"
)

// lingering bounds the wait for a client to take the last output.
const lingering = 5 * time.Second

// tied returns w and r such that the context of r ends with the connection after an
// upgrade, too: net/http does not look at a connection that was taken over. end frees
// what that takes.
func tied(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	return &tiedResponse{ResponseWriter: w, cancel: cancel}, r.WithContext(ctx), cancel
}

// tiedResponse has no Unwrap: a library that asked for the original would get around it.
type tiedResponse struct {
	http.ResponseWriter
	cancel context.CancelFunc
}

// Hijack implements http.Hijacker.
func (t *tiedResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("taking over the connection: %w", err)
	}
	early, err := buffered.Reader.Peek(buffered.Reader.Buffered())
	if err != nil {
		return nil, nil, fmt.Errorf("taking over the connection: %w", err)
	}
	watched := &tiedConn{Conn: conn, reader: conn, cancel: t.cancel}
	if len(early) > 0 {
		watched.reader = io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)
	}
	return watched, bufio.NewReadWriter(bufio.NewReader(watched), bufio.NewWriter(watched)), nil
}

// tiedConn tells when its other end is gone: sessions read all the time.
type tiedConn struct {
	net.Conn
	reader io.Reader
	cancel context.CancelFunc
}

func (c *tiedConn) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	if err != nil {
		c.cancel()
	}
	return n, err
}

// Close waits for the client to take what was written to it.
func (c *tiedConn) Close() error {
	c.cancel()
	return linger.Close(c.Conn, lingering)
}
