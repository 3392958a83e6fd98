package translate

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// flushSize is how much of an answer is gathered before it is written.
const flushSize = 32 << 10

// readSize is how much is read at a time. HTTP/2 sends a frame back for every read of
// 4 KB or more, so that many small ones cost more than the translation.
const readSize = 64 << 10

// errTrailing is about what follows an answer that should have ended.
var errTrailing = errors.New("more JSON after the end of the answer")

// AppendObject appends the upstream form of one answer to dst: of a stored object, a
// list, a Table or a Status. Objects of kinds outside the table change in their
// references only.
func (t *Translator) AppendObject(dst, stored []byte) ([]byte, error) {
	if !isValid(stored) {
		return dst, errors.New("translate an object: not valid JSON")
	}
	return t.appendAny(dst, bytes.TrimSpace(stored), answer), nil
}

// Copy writes the upstream form of a whole answer of the API server: an object, a
// list, a Table, a PartialObjectMetadata(List) or a Status. It holds one item of a
// list in memory at a time. An error is of src (bad JSON, a read) or of dst; part of
// the answer may have been written by then.
func (t *Translator) Copy(dst io.Writer, src io.Reader) error {
	c := t.copiers.Get().(*copier)
	defer func() {
		c.dst = nil
		c.reader.Reset(nil)
		t.copiers.Put(c)
	}()
	c.reset(dst, src)
	if err := c.copy(); err != nil {
		return err
	}
	return c.flush()
}

// copier is one run of Copy.
type copier struct {
	t       *Translator
	dst     io.Writer
	reader  *bufio.Reader
	decoder jsontext.Decoder
	// out is translated and not written yet.
	out []byte
	// head gathers members that stand outside of arrays of items, as the inside of an
	// object: all of them if the answer is no list.
	head []byte
	// indent: the answer is laid out for people to read, and stays so.
	indent bool
	// inside is head, translated.
	inside []byte
	// streamed: the answer is a list, and its opening brace is written; written: a
	// member of it is, too.
	streamed, written bool
	// columns are those of a Table, once they are read.
	columns columns
}

func (c *copier) reset(dst io.Writer, src io.Reader) {
	c.dst, c.out, c.head = dst, c.out[:0], append(c.head[:0], '{')
	c.streamed, c.written, c.columns = false, false, columns{}
	c.reader.Reset(src)
	c.decoder.Reset(c.reader, lenient())
}

func (c *copier) copy() error {
	if c.decoder.PeekKind() != '{' {
		value, err := c.decoder.ReadValue()
		if err != nil {
			return readError(err)
		}
		c.out = append(append(c.out, value...), '\n')
		return c.end()
	}
	if _, err := c.decoder.ReadToken(); err != nil {
		return readError(err)
	}
	c.decoder.PeekKind()
	unread := c.decoder.UnreadBuffer()
	c.indent = len(unread) > 0 && unread[0] == '\n'
	for c.decoder.PeekKind() != '}' {
		if err := c.member(); err != nil {
			return err
		}
	}
	if _, err := c.decoder.ReadToken(); err != nil {
		return readError(err)
	}
	if c.streamed {
		c.putHead()
		c.newline("")
		c.out = append(c.out, '}')
	} else {
		if c.indent {
			c.head = append(c.head, '\n')
		}
		c.head = append(c.head, '}')
		c.out = c.t.appendAny(c.out, c.head, answer)
	}
	c.out = append(c.out, '\n')
	return c.end()
}

// end makes sure that nothing follows.
func (c *copier) end() error {
	_, err := c.decoder.ReadToken()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return readError(errTrailing)
	}
	return readError(err)
}

// member reads one member of the answer: an array of items is streamed, any other
// value waits in head.
func (c *copier) member() error {
	quoted, err := c.decoder.ReadValue()
	if err != nil {
		return readError(err)
	}
	items, rows := string(quoted) == `"items"`, string(quoted) == `"rows"`
	length := len(c.head)
	if length > 1 {
		c.head = append(c.head, ',')
	}
	c.head = c.appendName(c.head, quoted)
	switch {
	case items && c.decoder.PeekKind() == '[':
		c.head = c.head[:length]
		return c.array(`"items"`, c.t.appendItem)
	case rows && c.decoder.PeekKind() == '[':
		c.head = c.head[:length]
		return c.array(`"rows"`, func(dst, value []byte) []byte { return c.t.appendRow(dst, value, c.columns) })
	}
	value, err := c.decoder.ReadValue()
	if err != nil {
		return readError(err)
	}
	c.head = append(c.head, value...)
	return nil
}

func (c *copier) appendName(dst, quoted []byte) []byte {
	if !c.indent {
		return append(append(dst, quoted...), ':')
	}
	dst = append(append(dst, "\n  "...), quoted...)
	return append(dst, ": "...)
}

// array writes what has been read so far, and streams the array of this name.
func (c *copier) array(quoted string, translate func(dst, value []byte) []byte) error {
	if !c.streamed {
		c.out = append(c.out, '{')
		c.streamed = true
	}
	c.putHead()
	c.separate()
	c.out = c.appendName(c.out, []byte(quoted))
	return c.elements(translate)
}

func (c *copier) elements(translate func(dst, value []byte) []byte) error {
	if _, err := c.decoder.ReadToken(); err != nil {
		return readError(err)
	}
	c.out = append(c.out, '[')
	first := true
	for c.decoder.PeekKind() != ']' {
		value, err := c.decoder.ReadValue()
		if err != nil {
			return readError(err)
		}
		if !first {
			c.out = append(c.out, ',')
		}
		first = false
		c.newline("    ")
		c.out = translate(c.out, value)
		if len(c.out) >= flushSize {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	if _, err := c.decoder.ReadToken(); err != nil {
		return readError(err)
	}
	if !first {
		c.newline("  ")
	}
	c.out = append(c.out, ']')
	return nil
}

// putHead writes the members in head, translated, as members of the answer.
func (c *copier) putHead() {
	c.head = append(c.head, '}')
	c.inside = c.t.appendWith(c.inside[:0], c.head, answer, &c.columns)
	if inside := c.inside[1 : len(c.inside)-1]; len(inside) > 0 {
		c.separate()
		c.out = append(c.out, inside...)
	}
	c.head = append(c.head[:0], '{')
}

func (c *copier) separate() {
	if c.written {
		c.out = append(c.out, ',')
	}
	c.written = true
}

func (c *copier) newline(indent string) {
	if c.indent {
		c.out = append(append(c.out, '\n'), indent...)
	}
}

func (c *copier) flush() error {
	_, err := c.dst.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

func readError(err error) error { return fmt.Errorf("read the API server's answer: %w", err) }
