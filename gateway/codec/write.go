package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/gateway/table"
)

// WriteAnswer writes the API server's answer (an object, list, Table or Status, in
// JSON and in the stored form) to the client: translated, in the format, with its
// code and its Warning and Retry-After headers, compressed like upstream. The body is
// read to its end, not closed.
//
// An error before the first byte went out has been answered; the returned error is to
// be logged. After it, WriteAnswer panics with http.ErrAbortHandler, because only a
// broken connection tells a client that an answer is not whole.
func (c *Codec) WriteAnswer(w http.ResponseWriter, r *http.Request, f Format, row table.Row, answer *http.Response) error {
	if err := c.checkAnswer(answer); err != nil {
		c.WriteError(w, r, err)
		return err
	}
	copyHeaders(w.Header(), answer.Header)
	return c.respond(w, r, f, answer.StatusCode, func(out io.Writer) error {
		switch {
		case f.MediaType == runtime.ContentTypeJSON:
			return c.translator.Copy(out, answer.Body)
		case f.MediaType == runtime.ContentTypeProtobuf && isList(r, answer):
			return c.protobufList(out, f, row, answer.Body)
		}
		var translated bytes.Buffer
		if err := c.translator.Copy(&translated, answer.Body); err != nil {
			return err
		}
		return c.encodeJSON(out, f, translated.Bytes())
	})
}

// WriteTree writes an object in the upstream form. A client that wants its metadata
// only gets that.
func (c *Codec) WriteTree(w http.ResponseWriter, r *http.Request, f Format, code int, obj map[string]any) error {
	tree, err := converted(f, obj)
	if err != nil {
		c.WriteError(w, r, err)
		return err
	}
	encoded, err := json.Marshal(tree)
	if err != nil {
		err = fmt.Errorf("encode an object: %w", err)
		c.WriteError(w, r, err)
		return err
	}
	return c.respond(w, r, f, code, func(out io.Writer) error { return c.encodeJSON(out, f, encoded) })
}

// WriteObject writes an object of a built-in type: Status, Scale, Binding and the like.
// Its apiVersion and kind are filled in.
func (c *Codec) WriteObject(w http.ResponseWriter, r *http.Request, f Format, code int, obj runtime.Object) error {
	info, ok := runtime.SerializerInfoForMediaType(c.serializers.SupportedMediaTypes(), f.MediaType)
	if !ok {
		err := fmt.Errorf("write an object: no encoder for %q", f.MediaType)
		c.WriteError(w, r, err)
		return err
	}
	encoder := info.Serializer
	if f.Pretty && info.PrettySerializer != nil {
		encoder = info.PrettySerializer
	}
	versioned := c.serializers.EncoderForVersion(encoder, schema.GroupVersion{Version: "v1"})
	return c.respond(w, r, f, code, func(out io.Writer) error { return versioned.Encode(obj, out) })
}

// WriteError answers with err as a Status in the format that the client reads: the
// status of an apierrors.APIStatus, else an internal error. Retry-After is set from it.
func (c *Codec) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	known := &apierrors.StatusError{ErrStatus: status.Status()}
	responsewriters.ErrorNegotiated(known, c.serializers, schema.GroupVersion{Version: "v1"}, w, r)
}

// respond writes one answer by encode.
func (c *Codec) respond(w http.ResponseWriter, r *http.Request, f Format, code int, encode func(io.Writer) error) error {
	out := &response{http: w, mediaType: f.MediaType, code: code, compress: readsGzip(r), writers: c.compressors}
	err := encode(out)
	if err == nil {
		err = out.finish()
	}
	if err == nil {
		return nil
	}
	_ = out.release(false) // the stream has no good end
	if out.started {
		panic(http.ErrAbortHandler)
	}
	c.WriteError(w, r, err)
	return err
}

// checkAnswer makes sure that the answer is one of an API server: JSON.
func (c *Codec) checkAnswer(answer *http.Response) error {
	mediaType, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if err == nil && mediaType == runtime.ContentTypeJSON {
		return nil
	}
	const most = 2048
	text, _ := io.ReadAll(io.LimitReader(answer.Body, most))
	if answer.StatusCode < http.StatusBadRequest {
		return apierrors.NewInternalError(fmt.Errorf("the API server answered with %q where JSON was expected", answer.Header.Get("Content-Type")))
	}
	return apierrors.NewGenericServerResponse(answer.StatusCode, "", schema.GroupResource{}, "", string(text), 0, true)
}

// copyHeaders passes on what the API server says beside its answer.
func copyHeaders(to, from http.Header) {
	for _, name := range []string{"Warning", "Retry-After"} {
		for _, value := range from.Values(name) {
			to.Add(name, value)
		}
	}
}

// encodeJSON writes an answer in JSON and in the upstream form in the format.
func (c *Codec) encodeJSON(out io.Writer, f Format, encoded []byte) error {
	switch f.MediaType {
	case runtime.ContentTypeYAML:
		converted, err := yaml.JSONToYAML(encoded)
		if err != nil {
			return fmt.Errorf("write an answer as YAML: %w", err)
		}
		encoded = converted
	case runtime.ContentTypeProtobuf:
		obj, err := decodeTyped(encoded)
		if err != nil {
			return err
		}
		return protobufEncoder().Encode(obj, out)
	default:
		if f.Pretty {
			var indented bytes.Buffer
			if err := json.Indent(&indented, encoded, "", "  "); err != nil {
				return fmt.Errorf("lay out an answer: %w", err)
			}
			encoded = indented.Bytes()
		}
		if !bytes.HasSuffix(encoded, []byte("\n")) {
			encoded = append(encoded, '\n')
		}
	}
	_, err := out.Write(encoded)
	return err
}

// notAcceptable is upstream's refusal of a conversion.
func notAcceptable() error {
	return negotiation.NewNotAcceptableError([]string{runtime.ContentTypeJSON, runtime.ContentTypeYAML, runtime.ContentTypeProtobuf})
}
