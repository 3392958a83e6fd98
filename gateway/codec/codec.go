// Package codec speaks the content types of the plain Kubernetes API: it negotiates
// them as an API server does, decodes request bodies, and encodes answers of the API
// server behind the gateway, which always are JSON, as JSON, YAML or protobuf.
//
// Lists are encoded item by item and watches frame by frame. The package never talks
// to the API server and decides nothing about objects. It keeps no state.
package codec

import (
	"errors"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/gateway/translate"
)

// MaxBody is the largest request body, as upstream's.
const MaxBody = 3 * 1024 * 1024

// Codec encodes and decodes.
type Codec struct {
	translator *translate.Translator
}

// New returns a Codec that translates answers with translator.
func New(translator *translate.Translator) *Codec { return &Codec{translator: translator} }

// Format is what a client wants to read.
type Format struct {
	// MediaType is application/json, application/yaml or
	// application/vnd.kubernetes.protobuf.
	MediaType string
	// Convert is the kind that the client wants instead of the object's own: Table,
	// PartialObjectMetadata or PartialObjectMetadataList of meta.k8s.io; nil for none.
	Convert *schema.GroupVersionKind
	Pretty  bool
	// Watch: the answer is a stream of frames.
	Watch bool
}

// UpstreamAccept is the Accept header to send to the API server for this format.
func (f Format) UpstreamAccept() string { return "application/json" }

// Negotiate says what the client wants to read, or fails with upstream's 406. watch:
// the answer will be a stream of frames.
func (c *Codec) Negotiate(r *http.Request, watch bool) (Format, error) {
	return Format{MediaType: runtime.ContentTypeJSON, Watch: watch}, nil
}

// ReadBody reads a request's body; more than MaxBody is upstream's 413.
func ReadBody(r *http.Request) ([]byte, error) {
	return nil, errors.New("not written yet")
}

// DecodeObject decodes a request body by its Content-Type (JSON where it is empty)
// into a tree with int64 and float64 numbers. kind fills in apiVersion and kind where
// the body has none. duplicates are the members that occur twice, which the tree
// cannot show, as strict decoding words them; the caller acts on them by
// fieldValidation. Errors are upstream's: 415, 400.
func (c *Codec) DecodeObject(contentType string, body []byte, kind schema.GroupVersionKind) (obj map[string]any, duplicates []error, err error) {
	return nil, nil, errors.New("not written yet")
}

// DecodeInto decodes a request body into an object of a built-in type, such as
// DeleteOptions, Binding, Eviction or Scale.
func (c *Codec) DecodeInto(contentType string, body []byte, kind schema.GroupVersionKind, into runtime.Object) error {
	return errors.New("not written yet")
}

// WriteAnswer writes the API server's answer (an object, list, Table or Status, in
// JSON and in the stored form) to the client: translated, in the format, with its
// code and Warning headers, compressed like upstream. The body is read to its end, not
// closed. An error before the first byte was written has been answered; the returned
// error is to be logged.
func (c *Codec) WriteAnswer(w http.ResponseWriter, r *http.Request, f Format, row table.Row, answer *http.Response) error {
	return errors.New("not written yet")
}

// WriteWatch writes the frames of a watch, each flushed at once, until body ends or
// the client is gone.
func (c *Codec) WriteWatch(w http.ResponseWriter, r *http.Request, f Format, row table.Row, answer *http.Response) error {
	return errors.New("not written yet")
}

// WriteTree writes an object in the upstream form.
func (c *Codec) WriteTree(w http.ResponseWriter, r *http.Request, f Format, code int, obj map[string]any) error {
	return errors.New("not written yet")
}

// WriteObject writes an object of a built-in type: Status, Scale, Binding and the like.
// Its apiVersion and kind are filled in from the scheme where missing.
func (c *Codec) WriteObject(w http.ResponseWriter, r *http.Request, f Format, code int, obj runtime.Object) error {
	return errors.New("not written yet")
}

// WriteError answers with err as a Status in the format that the client reads: the
// status of an apierrors.APIStatus, else an internal error. Retry-After is set from it.
func (c *Codec) WriteError(w http.ResponseWriter, r *http.Request, err error) {}

