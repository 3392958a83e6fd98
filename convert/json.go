package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// parseJSON reads a stream of JSON values.
func parseJSON(l lines) (*document, error) {
	p := &jsonParser{
		lines: l,
		// Keys given twice are the concern of whoever looks at the keys.
		decoder: jsontext.NewDecoder(bytes.NewReader(l.content), jsontext.AllowDuplicateNames(true)),
	}
	doc := &document{}
	for {
		n, err := p.value()
		if errors.Is(err, io.EOF) {
			return doc, nil
		}
		if err != nil {
			return nil, err
		}
		doc.roots = append(doc.roots, n)
	}
}

type jsonParser struct {
	lines   lines
	decoder *jsontext.Decoder
}

func (p *jsonParser) value() (*node, error) {
	switch p.decoder.PeekKind() {
	case jsontext.KindBeginObject:
		return p.object()
	case jsontext.KindBeginArray:
		return p.array()
	default:
		return p.scalar()
	}
}

// open reads the bracket that begins a composite value.
func (p *jsonParser) open(k kind) (*node, error) {
	if _, err := p.decoder.ReadToken(); err != nil {
		return nil, p.failed(err)
	}
	from := int(p.decoder.InputOffset()) - 1
	return &node{kind: k, from: from, line: p.lines.line(from)}, nil
}

func (p *jsonParser) object() (*node, error) {
	n, err := p.open(mapping)
	if err != nil {
		return nil, err
	}
	for p.decoder.PeekKind() != jsontext.KindEndObject {
		key, err := p.scalar()
		if err != nil {
			return nil, p.failed(err)
		}
		value, err := p.value()
		if err != nil {
			return nil, p.failed(err)
		}
		n.members = append(n.members, member{key: key, value: value})
	}
	_, err = p.decoder.ReadToken()
	return n, p.failed(err)
}

func (p *jsonParser) array() (*node, error) {
	n, err := p.open(sequence)
	if err != nil {
		return nil, err
	}
	for p.decoder.PeekKind() != jsontext.KindEndArray {
		item, err := p.value()
		if err != nil {
			return nil, p.failed(err)
		}
		n.items = append(n.items, item)
	}
	_, err = p.decoder.ReadToken()
	return n, p.failed(err)
}

// scalar returns io.EOF at the end of the stream.
func (p *jsonParser) scalar() (*node, error) {
	raw, err := p.decoder.ReadValue()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, p.failed(err)
	}
	to := int(p.decoder.InputOffset())
	n := &node{from: to - len(raw), to: to, text: string(raw)}
	n.line = p.lines.line(n.from)
	if raw.Kind() != jsontext.KindString {
		return n, nil
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	n.text, n.isString, n.style = string(text), true, doubleQuoted
	return n, p.failed(err)
}

func (p *jsonParser) failed(err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*Error](err); known {
		return err // of a value inside
	}
	at := p.decoder.InputOffset()
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at = syntax.ByteOffset
	}
	return &Error{Line: p.lines.line(int(at)), Message: fmt.Sprintf("is not JSON: %v", err)}
}
