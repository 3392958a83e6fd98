package codec

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1beta1 "k8s.io/apimachinery/pkg/apis/meta/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"

	"github.com/keelson-dev/keelson/gateway/table"
)

// magic begins every object in Kubernetes' protobuf.
var magic = []byte("k8s\x00")

func protobufEncoder() runtime.Encoder { return protobuf.NewSerializer(scheme.Scheme, scheme.Scheme) }

// message is what every built-in type can do, a list's metadata too.
type message interface {
	Size() int
	MarshalTo(data []byte) (int, error)
}

// metaObject returns an empty object of the kinds of meta.k8s.io that are answers, nil
// for any other.
func metaObject(kind schema.GroupVersionKind) runtime.Object {
	if gv := kind.GroupVersion(); gv != metav1.SchemeGroupVersion && gv != metav1beta1.SchemeGroupVersion {
		return nil
	}
	switch kind.Kind {
	case "PartialObjectMetadata":
		return &metav1.PartialObjectMetadata{}
	case "PartialObjectMetadataList":
		return &metav1.PartialObjectMetadataList{}
	}
	return nil
}

// decodeTyped decodes an object in JSON into the built-in type that it names.
func decodeTyped(encoded []byte) (runtime.Object, error) {
	var meta metav1.TypeMeta
	if err := json.Unmarshal(encoded, &meta); err != nil {
		return nil, fmt.Errorf("read the kind of an answer: %w", err)
	}
	obj, err := newObject(meta.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(encoded, obj); err != nil {
		return nil, fmt.Errorf("decode an answer as a %s: %w", meta.Kind, err)
	}
	return obj, nil
}

// isList: the answer to this request is a list, or an error.
func isList(r *http.Request, answer *http.Response) bool {
	info, ok := request.RequestInfoFrom(r.Context())
	return ok && info.Verb == "list" && answer.StatusCode == http.StatusOK
}

// protobufList encodes a list item by item. Its message begins with its length, so the
// encoded items are held until all are there.
func (c *Codec) protobufList(out io.Writer, f Format, row table.Row, body io.Reader) error {
	list := c.translator.Items(body)
	items := chunks{}
	for item, err := range list.All() {
		if err != nil {
			return err
		}
		var obj runtime.Object = &metav1.PartialObjectMetadata{}
		if f.Convert == nil {
			obj = row.New()
		}
		if err := kjson.UnmarshalCaseSensitivePreserveInts(item, obj); err != nil {
			return fmt.Errorf("decode an item of a list as a %T: %w", obj, err)
		}
		if err := items.add(itemsField, obj); err != nil {
			return err
		}
	}
	typeMeta, listMeta := list.Meta()
	head := chunks{}
	if err := head.add(metadataField, &listMeta); err != nil {
		return err
	}
	if _, err := out.Write(magic); err != nil {
		return err
	}
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: typeMeta.APIVersion, Kind: typeMeta.Kind}}
	_, err := unknown.MarshalToWriter(out, head.size+items.size, func(w io.Writer) (int, error) {
		written, err := head.writeTo(w)
		if err != nil {
			return written, err
		}
		more, err := items.writeTo(w)
		return written + more, err
	})
	return err
}

// The fields of every built-in list.
const (
	metadataField = 1
	itemsField    = 2
)

// chunkSize is how many bytes a chunk has room for: enough for many items, and little
// to leave unused.
const chunkSize = 256 << 10

// chunks gathers encoded fields without ever copying them to grow.
type chunks struct {
	full [][]byte
	last []byte
	size int
}

// add encodes obj as a length-delimited field.
func (c *chunks) add(field int, obj any) error {
	encoder, ok := obj.(message)
	if !ok {
		return fmt.Errorf("encode a %T as protobuf: it has no such form", obj)
	}
	length := encoder.Size()
	if need := length + 2*binary.MaxVarintLen64; cap(c.last)-len(c.last) < need {
		if len(c.last) > 0 {
			c.full = append(c.full, c.last)
		}
		c.last = make([]byte, 0, max(chunkSize, need))
	}
	before := len(c.last)
	const lengthDelimited = 2
	c.last = binary.AppendUvarint(c.last, uint64(field)<<3|lengthDelimited)
	c.last = binary.AppendUvarint(c.last, uint64(length))
	start := len(c.last)
	c.last = c.last[:start+length]
	if _, err := encoder.MarshalTo(c.last[start:]); err != nil {
		return fmt.Errorf("encode a %T as protobuf: %w", obj, err)
	}
	c.size += len(c.last) - before
	return nil
}

func (c *chunks) writeTo(w io.Writer) (int, error) {
	written := 0
	for _, chunk := range append(c.full, c.last) {
		n, err := w.Write(chunk)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
