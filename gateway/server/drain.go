package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/gateway/filters"
)

// drain is how the requests that stay open learn that the gateway ends: first the
// watches, whose clients begin again elsewhere, then after a while the streams.
type drain struct {
	notReady atomic.Bool
	// watches is done when watches shall end.
	watches       context.Context
	cancelWatches context.CancelFunc
	// open counts watches and streams. An upgraded connection is not known to
	// http.Server any more.
	mu   sync.Mutex
	open int
	idle chan struct{} // closed when watches have to end and nothing is open any more
	// cut ends every stream.
	cut        context.Context
	cutStreams context.CancelCauseFunc
}

var errCut = errors.New("the gateway is ending")

func newDrain() *drain {
	d := &drain{idle: make(chan struct{})}
	d.watches, d.cancelWatches = context.WithCancel(context.Background())
	d.cut, d.cutStreams = context.WithCancelCause(context.Background())
	return d
}

// endWatches lets every watch end after the event that it is sending, and no other
// begin. It is called once.
func (d *drain) endWatches() {
	d.mu.Lock()
	d.cancelWatches()
	if d.open == 0 {
		close(d.idle)
	}
	d.mu.Unlock()
}

func (d *drain) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watches.Err() != nil {
		return false
	}
	d.open++
	return true
}

func (d *drain) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.open == 0 && d.watches.Err() != nil {
		close(d.idle)
	}
}

// track counts the requests that stay open, and refuses new ones during the drain.
func (d *drain) track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !filters.LongRunning(r) {
			next.ServeHTTP(w, r)
			return
		}
		if !d.enter() {
			w.Header().Set("Retry-After", "1")
			filters.Refuse(w, r, apierrors.NewServiceUnavailable("the server is shutting down"))
			return
		}
		defer d.leave()
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(d.cut, func() { cancel(errCut) })() //nolint:contextcheck // the gateway's end, not the request's
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// endWatch makes the API server's answer to a watch end, as if it had come to its end,
// when the drain begins.
func (d *drain) endWatch(r *http.Request, response *http.Response) {
	info, ok := request.RequestInfoFrom(r.Context())
	if !ok || info.Verb != "watch" || response.StatusCode != http.StatusOK {
		return
	}
	body := &endingBody{ReadCloser: response.Body, draining: d.watches, whole: true, lines: strings.HasPrefix(response.Header.Get("Content-Type"), "application/json")}
	body.stop = context.AfterFunc(d.watches, body.end) //nolint:contextcheck // the gateway's end, not the request's
	response.Body = body
}

// endingBody is a stream of events that can be ended between two of them.
type endingBody struct {
	io.ReadCloser
	// draining is done from the beginning of the drain on; end is called a little later.
	draining context.Context
	stop     func() bool
	lines    bool // events end in a newline

	mu    sync.Mutex
	whole bool // what was read so far ends with an event
}

// Read reads on to the end of the event, if the drain began in the middle of it.
func (b *endingBody) Read(p []byte) (int, error) {
	if b.ended() {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	last := bytes.LastIndexByte(p[:n], '\n') + 1
	if n > 0 {
		b.whole = last == n
	}
	switch {
	case !b.over():
		return n, err
	case b.lines && last > 0:
		b.whole = true
		return last, io.EOF
	case err != nil && (b.whole || !b.lines):
		return n, io.EOF // our own end made the reading fail
	}
	return n, err
}

func (b *endingBody) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over() && (b.whole || !b.lines)
}

func (b *endingBody) over() bool { return b.draining.Err() != nil }

// end is called once, when the drain begins. In the middle of an event the reader
// goes on to the end of it.
func (b *endingBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.whole || !b.lines {
		b.ReadCloser.Close()
	}
}

func (b *endingBody) Close() error {
	b.stop()
	return b.ReadCloser.Close()
}
