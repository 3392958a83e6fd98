package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	serializerjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// MaxBody is the largest request body in bytes, as upstream's.
const MaxBody = 3 * 1024 * 1024

// ReadBody reads a request's body to its end and closes it; more than MaxBody is
// upstream's 413.
func ReadBody(r *http.Request) ([]byte, error) {
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), len(body) > MaxBody:
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", MaxBody))
	case err != nil:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the request's body could not be read: %v", err))
	}
	return body, nil
}

// MediaType is the type of a request's body without its parameters. Whoever decides by
// it asks here: one that is read in two ways would be authorized as one thing and
// served as another.
func MediaType(r *http.Request) string {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.Trim(media, " \t")
}

// DecodeObject decodes a request body by its Content-Type (JSON where it is empty)
// into a tree with int64 and float64 numbers. kind fills in apiVersion and kind where
// the body has none. duplicates are the members that occur twice, which the tree
// cannot show, as strict decoding words them; the caller acts on them by
// fieldValidation. Errors are upstream's: 415, 400.
func (c *Codec) DecodeObject(contentType string, body []byte, kind schema.GroupVersionKind) (obj map[string]any, duplicates []error, err error) {
	info, err := negotiation.NegotiateInputSerializerForMediaType(contentType, false, c.serializers)
	if err != nil {
		return nil, nil, err
	}
	switch info.MediaType {
	case runtime.ContentTypeProtobuf:
		obj, err = c.decodeProtobuf(info.Serializer, body, kind)
	case runtime.ContentTypeYAML:
		obj, duplicates, err = decodeYAML(body)
	default:
		obj, duplicates, err = decodeJSON(body)
	}
	if err != nil {
		return nil, nil, decodeError(err, nil, kind, body)
	}
	fillKind(obj, kind)
	return obj, duplicates, nil
}

// StrictError is all that strict decoding has against a body of kind: members that
// occur twice and members that the kind does not have, in their order, worded as the
// API server does. It is nil if there are none, and for a body that says it is of a kind
// that nobody knows.
func (c *Codec) StrictError(contentType string, body []byte, kind schema.GroupVersionKind) error {
	info, err := negotiation.NegotiateInputSerializerForMediaType(contentType, false, c.serializers)
	if err != nil {
		return err
	}
	if _, _, err := info.StrictSerializer.Decode(body, &kind, nil); runtime.IsStrictDecodingError(err) {
		return err
	}
	return nil
}

// DecodeInto decodes a request body into an object of a built-in type, such as
// DeleteOptions, Binding, Eviction or Scale, whose kind is given for bodies that name
// none. Errors are upstream's: 415, 400.
func (c *Codec) DecodeInto(contentType string, body []byte, kind schema.GroupVersionKind, into runtime.Object) error {
	serializers := c.serializers
	if _, ok := into.(*metav1.DeleteOptions); ok {
		serializers = c.options
	}
	info, err := negotiation.NegotiateInputSerializerForMediaType(contentType, false, serializers)
	if err != nil {
		return err
	}
	decoded, actual, err := info.Serializer.Decode(body, &kind, into)
	if err != nil {
		return decodeError(err, actual, kind, body)
	}
	if decoded != into {
		return decodeError(fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", actual.Version, actual.Kind, kind.Version, kind.Kind), actual, kind, body)
	}
	return nil
}

func decodeJSON(body []byte) (map[string]any, []error, error) {
	// Says what upstream says of text that is no JSON, or no object.
	if _, err := serializerjson.DefaultMetaFactory.Interpret(body); err != nil {
		return nil, nil, err
	}
	var obj map[string]any
	duplicates, err := kjson.UnmarshalStrict(body, &obj)
	if err != nil {
		return nil, nil, err
	}
	if obj == nil { // the body is "null"
		obj = map[string]any{}
	}
	return obj, duplicates, nil
}

func decodeYAML(body []byte) (map[string]any, []error, error) {
	converted, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, nil, err
	}
	obj, _, err := decodeJSON(converted)
	if err != nil {
		return nil, nil, err
	}
	var duplicates []error
	if _, err := yaml.YAMLToJSONStrict(body); err != nil {
		duplicates = append(duplicates, err)
	}
	return obj, duplicates, nil
}

// decodeProtobuf goes through the built-in type, because protobuf has no names.
func (c *Codec) decodeProtobuf(decoder runtime.Decoder, body []byte, kind schema.GroupVersionKind) (map[string]any, error) {
	typed, actual, err := decoder.Decode(body, &kind, nil)
	if err != nil {
		if actual != nil && actual.Kind != "" {
			return nil, decodeError(err, actual, kind, body)
		}
		return nil, err
	}
	typed.GetObjectKind().SetGroupVersionKind(*actual)
	encoded, err := json.Marshal(typed)
	if err != nil {
		return nil, fmt.Errorf("encode a %s as JSON: %w", actual.Kind, err)
	}
	var obj map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(encoded, &obj); err != nil {
		return nil, fmt.Errorf("decode a %s from JSON: %w", actual.Kind, err)
	}
	return obj, nil
}

// fillKind completes apiVersion and kind. What is there and no string is left to the
// check of the kind.
func fillKind(obj map[string]any, kind schema.GroupVersionKind) {
	if name := obj["kind"]; name == nil || name == "" {
		obj["kind"] = kind.Kind
	}
	if version := obj["apiVersion"]; version == nil || version == "" {
		obj["apiVersion"] = kind.GroupVersion().String()
	}
}

// decodeError is upstream's error about a body that should be of kind. actual is what
// the body says it is, if that is known.
func decodeError(err error, actual *schema.GroupVersionKind, kind schema.GroupVersionKind, body []byte) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	if actual != nil && actual.Kind != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", actual.Kind, actual.Version, kind.Kind, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", kind.Kind, err, summarize(body)))
}

// summarize shows the beginning of a body: as text if it is an object in JSON.
func summarize(body []byte) string {
	const most = 30
	if len(body) == 0 {
		return "<empty>"
	}
	more := ""
	if len(body) > most {
		body, more = body[:most], " ..."
	}
	if bytes.HasPrefix(body, []byte("{")) {
		return string(body) + more
	}
	return hex.EncodeToString(body) + more
}

// newObject returns an empty object of a built-in kind.
func newObject(kind schema.GroupVersionKind) (runtime.Object, error) {
	if obj := metaObject(kind); obj != nil {
		return obj, nil
	}
	obj, err := scheme.Scheme.New(kind)
	if err != nil {
		return nil, fmt.Errorf("encode an object that is not of a built-in kind: %w", err)
	}
	return obj, nil
}
