package translate

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/go-json-experiment/json/jsontext"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// List reads a list item by item.
type List struct {
	t       *Translator
	decoder *jsontext.Decoder
	head    struct {
		metav1.TypeMeta
		Metadata metav1.ListMeta
	}
}

// Items reads the list in src.
func (t *Translator) Items(src io.Reader) *List {
	return &List{t: t, decoder: jsontext.NewDecoder(bufio.NewReaderSize(src, readSize), lenient())}
}

// All yields each item in the upstream form, valid until the next one. It can be used
// once.
func (l *List) All() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := l.read(yield); err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// Meta is the list's apiVersion, kind and metadata in the upstream form; complete when
// All has ended.
func (l *List) Meta() (metav1.TypeMeta, metav1.ListMeta) {
	return l.head.TypeMeta, l.head.Metadata
}

// errStop ends a loop whose body has broken out of it.
var errStop = errors.New("stopped")

func (l *List) read(yield func([]byte, error) bool) error {
	if kind := l.decoder.PeekKind(); kind != '{' && kind != 0 {
		return readError(errors.New("a list was expected"))
	}
	if _, err := l.decoder.ReadToken(); err != nil {
		return readError(err)
	}
	for l.decoder.PeekKind() != '}' {
		name, err := l.decoder.ReadValue()
		if err != nil {
			return readError(err)
		}
		if string(name) == `"items"` {
			err = l.items(yield)
		} else {
			err = l.member(string(unquoted(name)))
		}
		if err != nil {
			return err
		}
	}
	if _, err := l.decoder.ReadToken(); err != nil {
		return readError(err)
	}
	if _, err := l.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return readError(errors.Join(err, errTrailing))
	}
	return nil
}

func (l *List) member(name string) error {
	value, err := l.decoder.ReadValue()
	if err != nil {
		return readError(err)
	}
	var into any
	switch name {
	case "apiVersion":
		into = &l.head.APIVersion
	case "kind":
		into = &l.head.Kind
	case "metadata":
		into = &l.head.Metadata
	default:
		return nil
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("read the %s of a list: %w", name, err)
	}
	if version, ok := l.t.names.versions[l.head.APIVersion]; ok {
		l.head.APIVersion = version
	}
	return nil
}

func (l *List) items(yield func([]byte, error) bool) error {
	if kind := l.decoder.PeekKind(); kind != '[' {
		_, err := l.decoder.ReadValue() // null
		if err != nil {
			return readError(err)
		}
		return nil
	}
	if _, err := l.decoder.ReadToken(); err != nil {
		return readError(err)
	}
	var item []byte
	for l.decoder.PeekKind() != ']' {
		value, err := l.decoder.ReadValue()
		if err != nil {
			return readError(err)
		}
		item = l.t.appendItem(item[:0], value)
		if !yield(item, nil) {
			return errStop
		}
	}
	if _, err := l.decoder.ReadToken(); err != nil {
		return readError(err)
	}
	return nil
}
