package codec

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	kgzip "github.com/klauspost/compress/gzip"
)

// compressFrom is the size in bytes from which on an answer is compressed, as
// upstream's.
const compressFrom = 128 * 1024

// response writes one answer. Its head goes out with the first byte that cannot be
// held back any more, so that an error before it can be answered instead.
type response struct {
	http      http.ResponseWriter
	mediaType string
	code      int
	// compress: the client reads gzip.
	compress bool
	writers  *sync.Pool

	held    []byte
	started bool
	gzip    *kgzip.Writer
}

// readsGzip says whether the client does.
func readsGzip(r *http.Request) bool {
	for encoding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(encoding) == "gzip" {
			return true
		}
	}
	return false
}

// Write holds up to compressFrom bytes back if the client reads gzip.
func (w *response) Write(p []byte) (int, error) {
	if w.started {
		return w.body().Write(p)
	}
	if w.compress && len(w.held)+len(p) <= compressFrom {
		w.held = append(w.held, p...)
		return len(p), nil
	}
	if w.compress {
		w.http.Header().Set("Content-Encoding", "gzip")
		w.http.Header().Add("Vary", "Accept-Encoding")
		w.gzip = w.writers.Get().(*kgzip.Writer)
		w.gzip.Reset(w.http)
	}
	w.start()
	if _, err := w.body().Write(w.held); err != nil {
		return 0, err
	}
	w.held = nil
	return w.body().Write(p)
}

func (w *response) start() {
	w.started = true
	w.http.Header().Set("Content-Type", w.mediaType)
	w.http.WriteHeader(w.code)
}

func (w *response) body() io.Writer {
	if w.gzip != nil {
		return w.gzip
	}
	return w.http
}

// finish writes what is held back and ends the answer.
func (w *response) finish() error {
	if !w.started {
		w.http.Header().Set("Content-Length", strconv.Itoa(len(w.held)))
		w.start()
		_, err := w.http.Write(w.held)
		return err
	}
	return w.release(true)
}

// release gives the compressor back, after the end of its stream if that is due.
func (w *response) release(end bool) error {
	if w.gzip == nil {
		return nil
	}
	var err error
	if end {
		err = w.gzip.Close()
	}
	w.gzip.Reset(nil)
	w.writers.Put(w.gzip)
	w.gzip = nil
	return err
}

// newCompressors is a pool of compressors at upstream's level, which costs the least.
func newCompressors() *sync.Pool {
	return &sync.Pool{New: func() any {
		writer, err := kgzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		return writer
	}}
}
